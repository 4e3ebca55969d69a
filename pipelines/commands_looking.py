"""The commands that look and choose: list, show, validate, copy, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import EXIT_FINDINGS, AsJson, DryRun, Overrides, Quiet, Verbose, call

__all__ = ["add_to"]

_PANEL = "Look and choose"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command("list", rich_help_panel=_PANEL)(_list)
    app.command("show", rich_help_panel=_PANEL)(_show)
    app.command("validate", rich_help_panel=_PANEL)(_validate)
    app.command("copy", rich_help_panel=_PANEL)(_copy)
    app.command("doctor", rich_help_panel=_PANEL)(_doctor)


def _list(
    kind: Annotated[
        str, typer.Argument(help="presets, methods, encoders, data, formats or verbs.", metavar="KIND")
    ] = "presets",
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List what there is to choose from.

    For example:

      medssl list

      medssl list methods
    """
    call("list", kind, as_json=as_json, quiet=quiet, verbose=verbose)


def _show(
    name: Annotated[str, typer.Argument(help="A preset, method, encoder, data card or verb.")],
    every: Annotated[
        bool, typer.Option("--all", help="Of a verb: the settings of every method, encoder and task that it takes.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show one thing, and every setting that it has.

    For example:

      medssl show voco

      medssl show pretrain
    """
    call("show", name, every=every, as_json=as_json, quiet=quiet, verbose=verbose)


def _validate(
    preset: Annotated[str, typer.Argument(help="A YAML file or a preset's name.")],
    overrides: Overrides = None,
    verb: Annotated[str, typer.Option("--for", metavar="VERB", help="The verb that it is for, where unclear.")] = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check a settings file: every error at once, or what it resolves to and why.

    For example:

      medssl validate my.yaml

      medssl validate my.yaml train.steps=500 --for pretrain
    """
    call("validate", preset, verb=verb, overrides=overrides or [], as_json=as_json, quiet=quiet, verbose=verbose)


def _copy(
    name: Annotated[str, typer.Argument(help="The preset, such as pretrain/voco.")],
    out: Annotated[Path, typer.Argument(help="The new file, or a folder for it.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Copy a preset to a file of your own, to change.

    For example:

      medssl copy pretrain/voco my.yaml
    """
    call("copy", name, out, dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)


def _doctor(
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where the disk's speed is measured; nothing is left there.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check this machine: versions, GPU, disk, system libraries, reading speed. Exit 1 where medssl cannot work.

    For example:

      medssl doctor

      medssl doctor --out /data --json
    """
    findings = call("doctor", folder, as_json=as_json, quiet=quiet, verbose=verbose)
    if any(finding.fatal for finding in findings):
        raise typer.Exit(EXIT_FINDINGS)
