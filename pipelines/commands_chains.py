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
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The output folder. Default: runs/demo.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="A folder of real data (with hippocampus/). Default: the variable MEDSSL_DATA."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Use more patients, full-size scans and more steps; add four-channel heads.")
    ] = False,
) -> None:
    """Run every step on synthetic patients, or on real data that you name. Takes less than two minutes.

    For example:

      medssl demo

      medssl demo --full --out runs/demo-full

      medssl demo --data datasets --out runs/demo-real
    """


@command("auto", panel=_PANEL, shared=(*COMMON, "workers", "overwrite"), found=lambda result: not result.ok)
def _auto(
    scans: Annotated[Path, typer.Argument(help="A folder of scans or point clouds, in any layout; or a CSV file.")],
    out: Out,
    budget: Annotated[
        str | None, typer.Option("--budget", help="How long to train: minutes, small, medium or large.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", help="Pretraining method. Default: auto chooses it.", autocompletion=methods),
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option("--labels", metavar="N", help="Fine-tune on the labels of N patients. Default: all patients."),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option("--export", metavar="FORM", help=f"Also export the model: {', '.join(EXPORTS)}. Repeatable."),
    ] = None,
) -> None:
    """Run every step on a folder of scans or clouds, and explain each choice. Run it again to continue after a stop.

    For example:

      medssl auto scans/ --out runs/first --dry-run

      medssl auto scans/ --out runs/first --budget minutes --labels 4 --export onnx
    """


COMMANDS = (_demo, _auto)
