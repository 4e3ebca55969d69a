"""The commands that find copies before anything is trained: reduce, check-split, query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import EXIT_FINDINGS, AsJson, DryRun, Overrides, Preset, Quiet, Verbose, call

__all__ = ["add_to"]

_PANEL = "Bring scans in"
Index = Annotated[
    Path | None,
    typer.Option("--index", metavar="FOLDER", help="Folder of fingerprints; NAME.prints beside the manifest if unset."),
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", help="Processes; one a processor if unset, at most 8.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command("reduce", rich_help_panel=_PANEL)(_reduce)
    app.command("check-split", rich_help_panel=_PANEL)(_check_split)
    app.command("query", rich_help_panel=_PANEL)(_query)


def _reduce(
    manifest: Annotated[Path, typer.Argument(help="The manifest that index wrote.")],
    overrides: Overrides = None,
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
    jobs: Jobs = None,
    preset: Preset = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Mark copies, and choose which scans to train on. Nothing is deleted; safe to run again, no scan is read twice.

    cache and everything after it take the manifest that this writes, and leave out what it marks.

    For example:

      medssl reduce ct.parquet --out kept.parquet

      medssl reduce ct.parquet --out half.parquet --by kcentre --keep 0.5

      medssl reduce ct.parquet --out kept.parquet --unit slice --by hash

      medssl reduce ct.parquet --out kept.parquet --shard 2/8 --jobs 4

      medssl reduce ct.parquet --out kept.parquet related=one splits=leave
    """
    call(
        "reduce", manifest, out=out, by=by, keep=keep, unit=unit, index=index, shard=shard, jobs=jobs, preset=preset,
        overrides=overrides or [], dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip


def _check_split(
    manifest: Annotated[Path, typer.Argument(help="A manifest with splits; one that was reduced, for what is kept.")],
    overrides: Overrides = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Another manifest: all of it is test, all of the first training.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; check-split.html beside the manifest if unset.")
    ] = None,
    index: Index = None,
    jobs: Jobs = None,
    preset: Preset = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """See whether train, val and test share a patient or an image. Exit 1 where they do, each pair named.

    For example:

      medssl check-split ct.parquet

      medssl check-split train.parquet --test test.parquet --out leaks.html
    """
    result = call(
        "check-split", manifest, test=test, out=out, index=index, jobs=jobs, preset=preset,
        overrides=overrides or [], dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    if not result.ok:
        raise typer.Exit(EXIT_FINDINGS)


def _query(
    scan: Annotated[Path, typer.Argument(help="A scan: a file, or a DICOM folder; or a folder of scans.")],
    overrides: Overrides = None,
    *,
    index: Annotated[Path, typer.Option("--index", metavar="FOLDER", help="Fingerprints that reduce made.")],
    preset: Preset = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Ask whether a scan, or a copy of it, is among those of an index already.

    For example:

      medssl query new.nii.gz --index ct.prints

      medssl query incoming/ --index ct.prints nearest=1 --json
    """
    call(
        "query", scan, index=index, preset=preset, overrides=overrides or [], as_json=as_json, quiet=quiet,
        verbose=verbose,
    )  # fmt: skip
