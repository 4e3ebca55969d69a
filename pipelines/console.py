"""How the command line listens: rich on a terminal, plain lines off it, one JSON object for programs.

What workflows and chains of them tell is in `medssl.workflows.events`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from medssl.quoting import visible
from medssl.workflows.events import Kind, Listener, listener, listening

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Manner", "fail", "speaking"]

_STYLES: dict[Kind, str] = {
    "detail": "dim",
    "warning": "yellow",
    "error": "red",
    "written": "green",
    "next": "bold",
}
_ASIDE: frozenset[Kind] = frozenset({"warning", "error", "progress"})  # on standard error whatever is wanted


@dataclass(frozen=True)
class Manner(Listener):
    """Talks to whoever called the command line.

    Attributes:
        as_json: Keep standard output for one JSON object; messages go to standard error.
        verbose: Say details too.
    """

    as_json: bool = False
    verbose: bool = False

    def line(self, text: str, kind: Kind) -> None:
        """Print one text where it belongs."""
        if (kind == "detail" and not self.verbose) or (self.as_json and kind in {"table", "written", "next"}):
            return
        stream = sys.stderr if self.as_json or kind in _ASIDE else sys.stdout
        _print(f"warning: {text}" if kind == "warning" else text, stream, _STYLES.get(kind, ""))

    def screen(self) -> Console | None:
        """Return standard error where it is a terminal."""
        if not sys.stderr.isatty():
            return None
        from rich.console import Console

        return Console(stderr=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Draw a table on a terminal; plain lines off it."""
        if self.as_json or self.silent or not sys.stdout.isatty():
            super().table(title, columns, rows)
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for column in columns:
            drawn.add_column(column, overflow="fold")
        for line in rows:
            drawn.add_row(*(Text(self.cleaned(cell)) for cell in line))
        Console().print(drawn)


@contextmanager
def speaking(chosen: Manner) -> Iterator[Manner]:
    """Let everything inside talk in the chosen manner; with ``as_json``, print the object when all is done."""
    with listening(chosen):
        yield chosen
        if chosen.as_json:
            _write_json(chosen.facts)


def fail(kind: str, message: str) -> None:
    """Print an error on standard error, and as the JSON object where one is wanted."""
    # Settings and weights are told in several lines; names of files, which stand in all other errors, cannot begin one.
    shown = visible(message, lines=kind in {"ConfigError", "TransferError"})
    one = listener()
    one.tell(f"error: {shown}", "error")
    if isinstance(one, Manner) and one.as_json:
        _write_json(one.facts | {"error": {"kind": kind, "message": message}})


def _print(text: str, stream: TextIO, style: str = "") -> None:
    if style and stream.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(file=stream, soft_wrap=True).print(Text(text, style=style))
    else:
        print(text, file=stream, flush=True)


def _write_json(facts: Mapping[str, Any]) -> None:
    print(json.dumps(_plain(facts), ensure_ascii=False, allow_nan=False), file=sys.stdout, flush=True)


def _plain(value: Any) -> Any:
    """Return a value in JSON's own words: paths as text, arrays and columns as lists, NaN and infinity as null."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
