"""The commands that run the whole chain: auto, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medssl.workflows.export_targets import EXPORTS
from pipelines.completion import methods
from pipelines.declared import COMMON, command
from pipelines.options import Out

__all__ = ["COMMANDS"]

_PANEL = "Start here"


@command("demo", panel=_PANEL, shared=(*COMMON, "overwrite"), found=lambda result: not result.ok)
def _demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder for all that is made; runs/demo if unset.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder with real data (hippocampus/); MEDSSL_DATA if unset.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="More patients, scans of full size, more steps, heads of four channels.")
    ] = False,
) -> None:
    """Show the whole chain in under two minutes, on synthetic patients or on real data that you name.

    For example:

      medssl demo

      medssl demo --full --out runs/demo-full

      medssl demo --data datasets --out runs/demo-real
    """


@command("auto", panel=_PANEL, shared=(*COMMON, "workers", "overwrite"), found=lambda result: not result.ok)
def _auto(
    scans: Annotated[
        Path, typer.Argument(help="A folder of scans or of point clouds, or a CSV; any layout, any depth.")
    ],
    out: Out,
    budget: Annotated[
        str | None, typer.Option("--budget", help="How much is trained: minutes, small, medium or large.")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Pretraining method; decided if unset.", autocompletion=methods)
    ] = None,
    labels: Annotated[
        int | None, typer.Option("--labels", metavar="N", help="Fine-tune on the labels of N patients; all if unset.")
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option("--export", metavar="FORM", help=f"Repeats; {', '.join(EXPORTS)}."),
    ] = None,
) -> None:
    """Take a folder of scans or clouds the whole way, and explain each choice. Run it again to go on where it stopped.

    For example:

      medssl auto scans/ --out runs/first --dry-run

      medssl auto scans/ --out runs/first --budget minutes --labels 4 --export onnx
    """


COMMANDS = (_demo, _auto)
