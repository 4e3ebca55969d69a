"""From the declaration of a command to Typer's: its own options, those that verbs share, and the call of its verb.

A command is declared by a function without a body: its signature says the options, its docstring the help. What was not
given is not passed, so that the verb's own defaults hold; no option and no default stands in two places.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import typer

from pipelines.options import (
    EXIT_FINDINGS,
    AsJson,
    DryRun,
    Overrides,
    Overwrite,
    Preset,
    Quiet,
    Resume,
    Verbose,
    Workers,
    call,
)

__all__ = ["COMMON", "Command", "Given", "command"]

Given = dict[str, Any]

# What verbs share, in the order in which it stands behind a verb's own options.
_SHARED: dict[str, tuple[Any, Any]] = {
    "overrides": (Overrides, None),
    "workers": (Workers, None),
    "preset": (Preset, None),
    "resume": (Resume, False),
    "overwrite": (Overwrite, False),
    "dry_run": (DryRun, False),
}
_MANNER: dict[str, tuple[Any, Any]] = {"as_json": (AsJson, False), "quiet": (Quiet, False), "verbose": (Verbose, False)}
COMMON = ("overrides", "preset", "dry_run")


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        verb: The verb that it calls.
        panel: The heading under which help lists it.
        run: What Typer calls, with the signature and the docstring that it reads.
    """

    verb: str
    panel: str
    run: Callable[..., None]

    def add_to(self, app: typer.Typer) -> None:
        """Add the command to ``app``."""
        app.command(self.verb, rich_help_panel=self.panel)(self.run)


def command(
    verb: str,
    *,
    panel: str,
    shared: Sequence[str] = COMMON,
    ready: Callable[[Given], tuple[Sequence[Any], Given]] = lambda given: ((), given),
    found: Callable[[Any], bool] = lambda result: False,
) -> Callable[[Callable[..., None]], Command]:
    """Return what makes a command of its declaration.

    Args:
        verb: The verb that it calls; its parameters bear the names of the options.
        panel: The heading under which help lists it.
        shared: Shared options that it has besides its own and those of the manner.
        ready: From the options that were given to the verb's positional and named arguments.
        found: Whether a result means findings, and exit code 1.
    """

    def made(declared: Callable[..., None]) -> Command:
        hints = get_type_hints(declared, include_extras=True)
        common = {name: _SHARED[name] for name in _SHARED if name in shared} | _MANNER
        parameters = [
            own.replace(annotation=hints[own.name], kind=own.KEYWORD_ONLY)
            for own in inspect.signature(declared).parameters.values()
        ]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=type_, default=default)
            for name, (type_, default) in common.items()
        ]

        def run(**given: Any) -> None:
            manner = {name: given.pop(name) for name in _MANNER}
            said = {name: value for name, value in given.items() if value is not None and value is not False}
            workers = said.pop("workers", None)
            if workers is not None:
                said["overrides"] = [*said.get("overrides", []), f"workers={workers}"]
            arguments, named = ready(said)
            result = call(verb, *arguments, **named, **manner)
            if result is not None and found(result):
                raise typer.Exit(EXIT_FINDINGS)

        run.__name__, run.__doc__ = declared.__name__, declared.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {own.name: own.annotation for own in parameters}
        return Command(verb, panel, run)

    return made
