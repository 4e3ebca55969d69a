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
    typer.Option(
        "--index", metavar="FOLDER", help="The folder of fingerprints. Default: NAME.prints beside the manifest."
    ),
]


@command("reduce", panel=_PANEL, shared=(*COMMON, "workers"))
def _reduce(
    manifest: Annotated[Path, typer.Argument(help="The manifest that index wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The marked manifest to write: .parquet or .csv.")] = Path(
        "kept.parquet"
    ),
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="copies (the default) only marks copies. The others also choose among the remaining scans: random, "
            "every, hash, ssim, mi, embedding, semdedup, semdedup-published, kcentre, balanced.",
        ),
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--keep", help="How many scans to keep (200), or which share (0.25, 25%).")
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option("--unit", help="What to choose: scan (the default), or slice or block within the kept scans."),
    ] = None,
    index: Index = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Read part I of N. The process that ends last also finishes the job."
        ),
    ] = None,
) -> None:
    """Mark copies, and choose which scans to train on. Deletes nothing. If you run it again, it reads no scan twice.

    Give the new manifest to cache: it leaves out the marked scans.

    For example:

      medssl reduce ct.parquet --out kept.parquet

      medssl reduce ct.parquet --out half.parquet --by kcentre --keep 0.5

      medssl reduce ct.parquet --out kept.parquet --unit slice --by hash

      medssl reduce ct.parquet --out kept.parquet --shard 2/8 --workers 4

      medssl reduce ct.parquet --out kept.parquet related=one splits=leave
    """


@command("check-split", panel=_PANEL, shared=(*COMMON, "workers"), found=lambda result: not result.ok)
def _check_split(
    manifest: Annotated[
        Path, typer.Argument(help="A manifest with splits. After reduce, only the kept scans are checked.")
    ],
    test: Annotated[
        Path | None,
        typer.Option("--test", help="A second manifest. It then counts as test data, and the first as training data."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page to write. Default: check-split.html beside the manifest."),
    ] = None,
    index: Index = None,
) -> None:
    """Check whether train, val and test share a patient or an image. If so, lists every pair and exits with 1.

    For example:

      medssl check-split ct.parquet

      medssl check-split train.parquet --test test.parquet --out leaks.html
    """


@command("query", panel=_PANEL, shared=("overrides", "preset"))
def _query(
    scan: Annotated[Path, typer.Argument(help="A scan (a file or a DICOM folder), or a folder of scans.")],
    *,
    index: Annotated[
        Path, typer.Option("--index", metavar="FOLDER", help="The folder of fingerprints that reduce wrote.")
    ],
) -> None:
    """Check whether a scan, or a copy of it, is already among the scans that reduce has read.

    For example:

      medssl query new.nii.gz --index ct.prints

      medssl query incoming/ --index ct.prints nearest=1 --json
    """


COMMANDS = (_reduce, _check_split, _query)
