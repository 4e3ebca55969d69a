"""The commands that bring scans in: cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import AsJson, DryRun, Out, Overrides, Preset, Quiet, Verbose, call

__all__ = ["add_to"]

_PANEL = "Bring scans in"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command("cache", rich_help_panel=_PANEL)(_cache)


def _cache(
    manifest: Annotated[Path, typer.Argument(help="The manifest that index wrote.")],
    out: Out,
    overrides: Overrides = None,
    preset: Preset = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the scans of a manifest as a store that is read by windows. Safe to run again: what is there is kept.

    For example:

      medssl cache ct.parquet --out stores/ct

      medssl cache ct.parquet --out stores/ct "spacing_mm=[2,2,2]" workers=4
    """
    call(
        "cache", manifest, out=out, preset=preset, overrides=overrides or [], dry_run=dry_run,
        as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip
