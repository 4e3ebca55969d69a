"""The options that several verbs share, and the one way in which the command line calls a verb."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from medssl.errors import DiskError, MedSSLError, PeerLostError
from medssl.refusing import is_panic
from medssl.workflows import events
from medssl.workflows.verbs import function_of
from pipelines import console

__all__ = [
    "EXIT_BROKEN",
    "EXIT_FINDINGS",
    "EXIT_INTERRUPTED",
    "AsJson",
    "DryRun",
    "Out",
    "Overrides",
    "Overwrite",
    "Preset",
    "Quiet",
    "Resume",
    "Verbose",
    "Workers",
    "call",
    "split_overrides",
    "with_overrides",
]

EXIT_FINDINGS = 1
EXIT_USER_ERROR = 2
EXIT_BROKEN = 3
EXIT_INTERRUPTED = 130

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings, such as train.steps=500. To list them: medssl show VERB."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The output file or folder.")]
Preset = Annotated[
    str | None, typer.Option("--preset", metavar="NAME|FILE", help="Settings from a preset or a YAML file.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-j",
        "--jobs",
        min=0,
        help="Number of worker processes. Default: by the number of processors. --jobs is the old name.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without writing anything.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left in --out.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run in --out where it stopped, or start it if there is none.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object to standard output, and messages to standard error.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors, and what was written.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print details too.")]


def call(verb: str, /, *args: Any, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
    """Import a verb's module, run its function in the chosen manner, and turn its errors into exit codes.

    Raises:
        typer.Exit: 2 when the user can mend what went wrong, 3 when the disk, the system or medssl itself failed, 130
            when interrupted. Never 1: that means findings.
    """
    try:
        with console.speaking(console.Manner(as_json=as_json, quiet=quiet, verbose=verbose)):
            try:
                return function_of(verb)(*args, **kwargs)
            except MedSSLError as error:
                # Said inside, so that the JSON object holds the error; `speaking` then prints no second one.
                console.fail(type(error).__name__, str(error))
                raise typer.Exit(
                    EXIT_BROKEN if isinstance(error, DiskError | PeerLostError) else EXIT_USER_ERROR
                ) from error
            except KeyboardInterrupt as interrupt:
                console.fail("Interrupted", "interrupted")
                raise typer.Exit(EXIT_INTERRUPTED) from interrupt
            except (typer.Exit, click.ClickException, BrokenPipeError):
                raise
            except Exception as error:  # whatever it was: one line, and never the exit code that means findings
                console.fail(type(error).__name__, _unexpected(error, verb))
                raise typer.Exit(EXIT_BROKEN) from error
            except SystemExit as stop:  # a training run that was told to stop, and has said how to go on
                console.fail("Interrupted", "stopped before the end")
                raise typer.Exit(EXIT_INTERRUPTED if stop.code is None else int(stop.code)) from stop
            except BaseException as error:
                if not is_panic(error):  # a library in Rust panics with what is no Exception
                    raise
                console.fail(type(error).__name__, _unexpected(error, verb))
                raise typer.Exit(EXIT_BROKEN) from error
    except BrokenPipeError:
        # The reader of our output has gone (`medssl list | head`). Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def _unexpected(error: BaseException, verb: str) -> str:
    """Return one line on an error that no verb knows, and keep the traceback where it can be found."""
    trace = "".join(traceback.format_exception(error))
    events.detail(trace)
    said = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError):
        return "There was not enough memory. Use fewer workers, smaller batches or windows, or a larger machine."
    named = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else said
    if isinstance(error, OSError):
        return f"{named}. No file is half written; fix this, then run the same command again."
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w", prefix=f"medssl-{verb}-", suffix=".log", delete=False, encoding="utf-8"
        ) as file,
    ):
        file.write(trace)
        return (
            f"medssl {verb} met an unexpected error: {type(error).__name__}: {named}. No file is half written. "
            f"The traceback is in {file.name}; please report it."
        )
    return f"medssl {verb} met an unexpected error: {type(error).__name__}: {named}. Try again with --verbose."


def split_overrides(positional: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """Return (positional, overrides), where an override that stands in an optional positional's place is put right.

    Example:
        >>> split_overrides("train.steps=3", ["seed=1"])
        (None, ['train.steps=3', 'seed=1'])
    """
    given = list(overrides or [])
    if positional is not None and "=" in positional and not Path(positional).exists():
        return None, [positional, *given]
    return positional, given


def with_overrides(given: dict[str, Any], positional: str) -> dict[str, Any]:
    """Return the options with an override that stands in an optional positional's place put right."""
    kept = {name: value for name, value in given.items() if name not in (positional, "overrides")}
    word, overrides = split_overrides(given.get(positional), given.get("overrides"))
    return kept | {"overrides": overrides} | ({} if word is None else {positional: word})
