"""The commands that bring scans in: fetch, index, check, cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.declared import COMMON, command
from pipelines.options import Out

__all__ = ["COMMANDS"]

_PANEL = "Bring scans in"


@command("fetch", panel=_PANEL)
def _fetch(
    name: Annotated[str, typer.Argument(help="A data set from `medssl list data`, or the YAML file of a data card.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The parent folder: fetch creates the data set's folder in it.")
    ] = Path("data"),
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You accept the licence. Without it, fetch only shows the licence.")
    ] = False,
) -> None:
    """Download a public data set. Shows its licence, verifies its checksum and continues broken downloads.

    For example:

      medssl fetch msd-hippocampus --dry-run

      medssl fetch msd-hippocampus --accept-licence --out data
    """


@command("index", panel=_PANEL, shared=(*COMMON, "workers"))
def _index(
    scans: Annotated[Path, typer.Argument(help="A folder of scans in any layout, a single scan, or a CSV file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write: .parquet or .csv.")] = Path(
        "manifest.parquet"
    ),
    targets: Annotated[
        Path | None,
        typer.Option("--targets", metavar="CSV", help="A table of classes (diagnosis, grade) by patient or scan."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every file again, to find changes that kept size and time.")
    ] = False,
) -> None:
    """List every scan or cloud of a folder in a manifest. If you run it again, it reads only changed files.

    For example:

      medssl index scans/ --out ct.parquet

      medssl index shapes/ --out shapes.parquet unit=mm

      medssl index scans/ --out mr.parquet modality=MR test=0.3 seed=1

      medssl index scans/ --out lgg.parquet --targets data.csv
    """


@command("check", panel=_PANEL, found=lambda result: not result.ok)
def _check(
    manifest: Annotated[Path, typer.Argument(help="The manifest that index wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page to write. Default: NAME-check.html beside the manifest."),
    ] = None,
) -> None:
    """Check scans for damage, copies, leaks between splits, odd geometry and bad labels. Exits with 1 on an error.

    For example:

      medssl check ct.parquet

      medssl check ct.parquet --out ct-check.html pictures=40
    """


@command("cache", panel=_PANEL, shared=(*COMMON, "workers"))
def _cache(
    manifest: Annotated[Path, typer.Argument(help="The manifest that index wrote.")],
    out: Out,
) -> None:
    """Convert the scans or clouds of a manifest to a store for training. If you run it again, it adds what is missing.

    For example:

      medssl cache ct.parquet --out stores/ct

      medssl cache ct.parquet --out stores/ct "spacing_mm=[2,2,2]" workers=4
    """


COMMANDS = (_fetch, _index, _check, _cache)
