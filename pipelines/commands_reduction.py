"""The commands that find copies before anything is trained: reduce, check-split, query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.declared import COMMON, command

__all__ = ["COMMANDS"]

_PANEL = "Bring scans in"
Index = Annotated[
    Path | None,
    typer.Option("--index", metavar="FOLDER", help="Folder of fingerprints; NAME.prints beside the manifest if unset."),
]


@command("reduce", panel=_PANEL, shared=(*COMMON, "workers"))
def _reduce(
    manifest: Annotated[Path, typer.Argument(help="The manifest that index wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest with its marks, .parquet or .csv.")] = Path(
        "kept.parquet"
    ),
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="copies (the default), or how to choose among what is left: random, every, hash, ssim, mi, embedding, "
            "semdedup, semdedup-published, kcentre, balanced.",
        ),
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--keep", help="How many to keep (200), or which share (0.25, 25%).")
    ] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="scan (the default); slice or block: parts of the scans that are kept.")
    ] = None,
    index: Index = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Read the I-th of N parts; the last one to end goes on."),
    ] = None,
) -> None:
    """Mark copies, and choose which scans to train on. Nothing is deleted; safe to run again, no scan is read twice.

    cache and everything after it take the manifest that this writes, and leave out what it marks.

    For example:

      medssl reduce ct.parquet --out kept.parquet

      medssl reduce ct.parquet --out half.parquet --by kcentre --keep 0.5

      medssl reduce ct.parquet --out kept.parquet --unit slice --by hash

      medssl reduce ct.parquet --out kept.parquet --shard 2/8 --workers 4

      medssl reduce ct.parquet --out kept.parquet related=one splits=leave
    """


@command("check-split", panel=_PANEL, shared=(*COMMON, "workers"), found=lambda result: not result.ok)
def _check_split(
    manifest: Annotated[Path, typer.Argument(help="A manifest with splits; one that was reduced, for what is kept.")],
    test: Annotated[
        Path | None, typer.Option("--test", help="Another manifest: all of it is test, all of the first training.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; check-split.html beside the manifest if unset.")
    ] = None,
    index: Index = None,
) -> None:
    """See whether train, val and test share a patient or an image. Exit 1 where they do, each pair named.

    For example:

      medssl check-split ct.parquet

      medssl check-split train.parquet --test test.parquet --out leaks.html
    """


@command("query", panel=_PANEL, shared=("overrides", "preset"))
def _query(
    scan: Annotated[Path, typer.Argument(help="A scan: a file, or a DICOM folder; or a folder of scans.")],
    *,
    index: Annotated[Path, typer.Option("--index", metavar="FOLDER", help="Fingerprints that reduce made.")],
) -> None:
    """Ask whether a scan, or a copy of it, is among those of an index already.

    For example:

      medssl query new.nii.gz --index ct.prints

      medssl query incoming/ --index ct.prints nearest=1 --json
    """


COMMANDS = (_reduce, _check_split, _query)
