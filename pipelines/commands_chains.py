"""The commands that run the whole chain: auto, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.export_targets import EXPORTS
from pipelines.options import EXIT_FINDINGS, AsJson, DryRun, Out, Overrides, Overwrite, Preset, Quiet, Verbose, call

__all__ = ["add_to"]

_PANEL = "Start here"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command("demo", rich_help_panel=_PANEL)(_demo)
    app.command("auto", rich_help_panel=_PANEL)(_auto)


def _demo(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for everything that is made.")] = Path(
        "runs/demo"
    ),
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder with real data (hippocampus/); MEDSSL_DATA if unset.")
    ] = None,
    preset: Preset = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show the whole chain in minutes, on made-up patients or on real data that you name.

    For example:

      medssl demo

      medssl demo --data datasets --out runs/demo-real
    """
    result = call(
        "demo", out=out, data=data, preset=preset, overrides=overrides or [], overwrite=overwrite, dry_run=dry_run,
        as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    if result is not None and not result.ok:
        raise typer.Exit(EXIT_FINDINGS)


def _auto(
    scans: Annotated[
        Path, typer.Argument(help="A folder of scans or of point clouds, or a CSV; any layout, any depth.")
    ],
    out: Out,
    overrides: Overrides = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="How much is trained: minutes, small, medium or large.")
    ] = None,
    method: Annotated[str | None, typer.Option("--method", help="Pretraining method; decided if unset.")] = None,
    labels: Annotated[
        int | None, typer.Option("--labels", metavar="N", help="Fine-tune on the labels of N patients; all if unset.")
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option("--export", metavar="FORM", help=f"Repeats; {', '.join(EXPORTS)}."),
    ] = None,
    preset: Preset = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Take a folder of scans or clouds the whole way, and explain each choice. Run it again to go on where it stopped.

    For example:

      medssl auto scans/ --out runs/first --dry-run

      medssl auto scans/ --out runs/first --budget minutes --labels 4 --export onnx
    """
    result = call(
        "auto", scans, out=out, budget=budget, method=method, labels=labels, export=export or [], preset=preset,
        overrides=overrides or [], overwrite=overwrite, dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    if not result.ok:
        raise typer.Exit(EXIT_FINDINGS)
