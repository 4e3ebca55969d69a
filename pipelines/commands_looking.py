"""The commands that look and choose: list, show, validate, copy, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.completion import shown, verbs_with_settings
from pipelines.declared import command

__all__ = ["COMMANDS"]

_PANEL = "Look and choose"


@command("list", panel=_PANEL, shared=())
def _list(
    kind: Annotated[
        str,
        typer.Argument(
            help="One of: presets, methods, parts, encoders, data, weights, formats, trackers, verbs.", metavar="KIND"
        ),
    ] = "presets",
) -> None:
    """List presets, methods, encoders and other things that you can choose.

    For example:

      medssl list

      medssl list methods
    """


@command("show", panel=_PANEL, shared=())
def _show(
    name: Annotated[
        str,
        typer.Argument(
            help="The name of a preset, method, encoder, data set, published weights or verb.", autocompletion=shown
        ),
    ],
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="For a verb: the settings of every method, encoder and task. For a method: also what "
            "train.accumulate does.",
        ),
    ] = False,
) -> None:
    """Describe one preset, method, encoder, data set or verb, with every setting.

    For example:

      medssl show voco

      medssl show pretrain
    """


@command("validate", panel=_PANEL, shared=("overrides",))
def _validate(
    preset: Annotated[str, typer.Argument(help="A YAML file or a preset's name.")],
    verb: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="VERB",
            help="The verb that uses the file. Needed only if the file does not show it.",
            autocompletion=verbs_with_settings,
        ),
    ] = "",
) -> None:
    """Check a settings file. Prints every error, or every setting and where its value comes from.

    For example:

      medssl validate my.yaml

      medssl validate my.yaml train.steps=500 --for pretrain
    """


@command("copy", panel=_PANEL, shared=("dry_run",))
def _copy(
    name: Annotated[str, typer.Argument(help="The preset, for example pretrain/voco.")],
    out: Annotated[Path, typer.Argument(help="The new file, or the folder to put it in.")],
) -> None:
    """Copy a preset to a file that you can edit.

    For example:

      medssl copy pretrain/voco my.yaml
    """


@command("doctor", panel=_PANEL, shared=(), found=lambda result: not result.ok)
def _doctor(
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder on the disk to measure. doctor leaves nothing there.")
    ] = None,
) -> None:
    """Check this machine: versions, GPU, disk, system libraries, reading speed. Exits with 1 if medssl cannot work.

    For example:

      medssl doctor

      medssl doctor --out /data --json
    """


COMMANDS = (_list, _show, _validate, _copy, _doctor)
