"""The command line: ``medssl VERB ...``. Each verb's module is imported only when the verb is called."""

from __future__ import annotations

import inspect
from typing import Annotated, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo

from medssl import __version__
from pipelines import (
    commands_chains,
    commands_data,
    commands_looking,
    commands_reduction,
    commands_results,
    commands_training,
)
from pipelines.options import EXIT_INTERRUPTED

__all__ = ["app", "main", "surface"]

app = typer.Typer(
    name="medssl",
    help=(
        "Self-supervised pretraining for CT, MRI and point clouds: encoder, few-label model, scores and report.\n\n"
        "Start with: medssl demo (synthetic patients), or: medssl auto SCANS --out runs/first (your own scans)."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every verb is also a Python function, for example medssl.index(...) and medssl.pretrain(...).",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medssl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep the options that stand before the verb."""


for module in (
    commands_chains,
    commands_data,
    commands_reduction,
    commands_training,
    commands_results,
    commands_looking,
):
    for each in module.COMMANDS:
        each.add_to(app)


def surface() -> str:
    """Return every command with its arguments and options, one a line: the text of ``tests/golden/cli.txt``.

    Read from the functions that are registered, so that it does not change with the version of the library.
    """
    lines = []
    for command in app.registered_commands:
        assert command.callback is not None
        lines.append(f"medssl {command.name}")
        hints = get_type_hints(command.callback, include_extras=True)
        for name, parameter in inspect.signature(command.callback).parameters.items():
            type_, info = get_args(hints[name])[:2]
            # Typer reads the first word given to an Annotated Option as its default; it is a name like the others.
            named = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
            words = f"<{name}>" if isinstance(info, ArgumentInfo) else " ".join(named) or f"--{name.replace('_', '-')}"
            default = "needed" if parameter.default is inspect.Parameter.empty else f"default {parameter.default}"
            shown = "flag" if type_ is bool else default
            lines.append(f"  {words}: {shown}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line: 0 done, 1 findings, 2 a mistake to mend, 3 a disk or medssl failed, 130 interrupted."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


if __name__ == "__main__":
    main()
