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
    name: Annotated[str, typer.Argument(help="A data card, see: medssl list data; or a card's YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder that the data set's folder goes into.")] = Path(
        "data"
    ),
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="The licence was read and is accepted; else it is only shown.")
    ] = False,
) -> None:
    """Bring a public data set by its card: licence shown, checksum verified, broken downloads taken up again.

    For example:

      medssl fetch msd-hippocampus --dry-run

      medssl fetch msd-hippocampus --accept-licence --out data
    """


@command("index", panel=_PANEL, shared=(*COMMON, "workers"))
def _index(
    scans: Annotated[Path, typer.Argument(help="A folder of scans, one scan, or a CSV; any layout, any depth.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest, .parquet or .csv.")] = Path(
        "manifest.parquet"
    ),
    targets: Annotated[
        Path | None, typer.Option("--targets", metavar="CSV", help="Classes (diagnosis, grade) by patient or scan.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every file again, for changes that kept size and time.")
    ] = False,
) -> None:
    """Describe every scan or cloud of a folder in a manifest. Safe to run again: only what has changed is read.

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
        Path | None, typer.Option("--out", "-o", help="The page; NAME-check.html beside the manifest if unset.")
    ] = None,
) -> None:
    """Look for damage, copies, leaks between splits, odd geometry and bad labels. Exit 1 where one is an error.

    For example:

      medssl check ct.parquet

      medssl check ct.parquet --out ct-check.html pictures=40
    """


@command("cache", panel=_PANEL, shared=(*COMMON, "workers"))
def _cache(
    manifest: Annotated[Path, typer.Argument(help="The manifest that index wrote.")],
    out: Out,
) -> None:
    """Write the scans or clouds of a manifest as a store for training. Safe to run again: what is there is kept.

    For example:

      medssl cache ct.parquet --out stores/ct

      medssl cache ct.parquet --out stores/ct "spacing_mm=[2,2,2]" workers=4
    """


COMMANDS = (_fetch, _index, _check, _cache)
