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
            help="presets, methods, parts, encoders, data, weights, formats, trackers or verbs.", metavar="KIND"
        ),
    ] = "presets",
) -> None:
    """List what there is to choose from.

    For example:

      medssl list

      medssl list methods
    """


@command("show", panel=_PANEL, shared=())
def _show(
    name: Annotated[
        str,
        typer.Argument(help="A preset, method, encoder, data card, published weights or verb.", autocompletion=shown),
    ],
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Of a verb: the settings of every method, encoder and task; of a method: what train.accumulate is.",
        ),
    ] = False,
) -> None:
    """Show one thing, and every setting that it has.

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
            "--for", metavar="VERB", help="The verb that it is for, where unclear.", autocompletion=verbs_with_settings
        ),
    ] = "",
) -> None:
    """Check a settings file: every error at once, or what it resolves to and why.

    For example:

      medssl validate my.yaml

      medssl validate my.yaml train.steps=500 --for pretrain
    """


@command("copy", panel=_PANEL, shared=("dry_run",))
def _copy(
    name: Annotated[str, typer.Argument(help="The preset, such as pretrain/voco.")],
    out: Annotated[Path, typer.Argument(help="The new file, or a folder for it.")],
) -> None:
    """Copy a preset to a file of your own, to change.

    For example:

      medssl copy pretrain/voco my.yaml
    """


@command("doctor", panel=_PANEL, shared=(), found=lambda result: not result.ok)
def _doctor(
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where the disk's speed is measured; nothing is left there.")
    ] = None,
) -> None:
    """Check this machine: versions, GPU, disk, system libraries, reading speed. Exit 1 where medssl cannot work.

    For example:

      medssl doctor

      medssl doctor --out /data --json
    """


COMMANDS = (_list, _show, _validate, _copy, _doctor)
