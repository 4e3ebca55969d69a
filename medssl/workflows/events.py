"""What workflows tell while they work, and who listens.

A workflow calls `message`, `detail`, `warning`, `table`, `progress`, and last `written` with its result. They reach the
listener of the context: `listening(one)` installs one, and where none is installed `Log` hears, so that nothing is
printed from Python unless asked (``medssl.set_verbosity("info")``), but for a bar of progress in a notebook.
"""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from medssl.quoting import visible
from medssl.workflows.progress import Progress, counted
from medssl.workflows.result import Result

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Kind",
    "Listener",
    "Log",
    "aside",
    "cleaned",
    "detail",
    "facts",
    "listener",
    "listening",
    "message",
    "part",
    "progress",
    "table",
    "warning",
    "written",
]

Kind = Literal["message", "detail", "warning", "error", "table", "progress", "written", "next"]
R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Listener(ABC):
    """Hears what workflows tell. One of your own defines `line`, and what else it wants to hear in another way.

    Attributes:
        quiet: Leave out everything but warnings, errors and what was written.
        silent: Leave out all but warnings and errors.
        within: The workflow is a part of a longer chain: what is next is for the chain to say.
        clean: What is done to every text first, such as names taken out of it.
        facts: What was found, for programs: warnings, tables, figures, what was written, what is next.
    """

    quiet: bool = False
    silent: bool = False
    within: bool = False
    clean: Callable[[str], str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @abstractmethod
    def line(self, text: str, kind: Kind) -> None:
        """Hear one text, of one line unless it is one of our own."""

    def screen(self) -> Console | None:
        """Return where bars of progress are drawn; None for plain lines."""
        return None

    def tell(self, text: str, kind: Kind) -> None:
        """Pass a text on to `line`, cleaned, where it is wanted."""
        if self.silent and kind not in {"warning", "error"}:
            return
        self.line(visible(self.cleaned(text), lines=True), kind)

    def cleaned(self, text: str) -> str:
        """Return a text as ``clean`` leaves it."""
        return text if self.clean is None else self.clean(text)

    def warning(self, text: str) -> None:
        """Hear that something was ignored, dropped or doubtful."""
        text = self.cleaned(text)
        self.facts.setdefault("warnings", []).append(text)
        self.tell(visible(text), "warning")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Hear a table, its cells as text."""
        widths = [min(max(len(line[i]) for line in [list(columns), *rows]), 48) for i in range(len(columns))]
        self.tell(title, "table")
        for line in [list(columns), *rows]:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.tell("  ".join(cells).rstrip(), "table")

    def progress(self, total: int | None, what: str) -> AbstractContextManager[Progress]:
        """Hear of long work, step by step."""
        say = None if self.quiet else lambda text: self.tell(text, "progress")
        return counted(total, what, say=say, screen=None if self.quiet else self.screen())

    def written(self, result: Result) -> None:
        """Hear what came out."""
        self.facts.update(
            written=[str(path) for path in result.written], next=str(result.next) or None, **result.figures
        )
        for path in result.written:
            self.tell(f"wrote {visible(str(path))}", "written")
        if self.quiet or self.within:
            return
        if result.next:
            self.tell(f"next: {result.next}", "next")
        if result.on_new:
            self.tell(f"on new data: {result.on_new}", "next")


@dataclass(frozen=True)
class Log(Listener):
    """Writes to the logger ``medssl``; a notebook sees bars of progress."""

    def line(self, text: str, kind: Kind) -> None:
        """Log one text at the level of its kind."""
        level = {"detail": logging.DEBUG, "warning": logging.WARNING, "error": logging.ERROR}.get(kind, logging.INFO)
        logging.getLogger("medssl").log(level, "%s", text)

    def screen(self) -> Console | None:
        """Return a notebook's output, where this process serves one; nothing is imported to find out."""
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if type(shell).__name__ != "ZMQInteractiveShell":
            return None
        from rich.console import Console

        return Console()  # a notebook draws what goes to standard output


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
_OUTERMOST: list[Listener] = []  # threads that a workflow starts do not see the variable above


def listener() -> Listener:
    """Return who listens to the workflow that is running."""
    return _LISTENER.get() or (_OUTERMOST[-1] if _OUTERMOST else Log())


@contextmanager
def listening(chosen: Listener) -> Iterator[Listener]:
    """Let ``chosen`` hear everything inside."""
    token = _LISTENER.set(chosen)
    _OUTERMOST.append(chosen)
    try:
        yield chosen
    finally:
        _OUTERMOST[:] = [one for one in _OUTERMOST if one is not chosen]
        _LISTENER.reset(token)


@contextmanager
def _as(chosen: Listener) -> Iterator[Listener]:
    """Let another manner of who listens hear what this context tells; threads still reach the outer one."""
    token = _LISTENER.set(chosen)
    try:
        yield chosen
    finally:
        _LISTENER.reset(token)


@contextmanager
def part(name: str, *, quiet: bool = False) -> Iterator[dict[str, Any]]:
    """Let a workflow be a part of a chain: it proposes no next command, and its facts are kept apart.

    Args:
        name: Under which its facts stand in the ``parts`` of the chain's.
        quiet: Hear only warnings and what was written.
    """
    outer = listener()
    with _as(replace(outer, quiet=outer.quiet or quiet, within=True, facts={})) as inner:
        try:
            yield inner.facts
        finally:
            outer.facts.setdefault("parts", {})[name] = inner.facts


@contextmanager
def aside() -> Iterator[None]:
    """Let a workflow that is one of hundreds tell warnings alone."""
    outer = listener()
    warnings = outer.facts.setdefault("warnings", [])
    try:
        with _as(replace(outer, quiet=True, within=True, silent=True, facts={"warnings": warnings})):
            yield
    finally:
        if not warnings:
            outer.facts.pop("warnings", None)


@contextmanager
def cleaned(way: Callable[[str], str]) -> Iterator[None]:
    """Let every text that is told inside go through ``way`` first."""
    with _as(replace(listener(), clean=way)):  # the facts are the outer one's own
        yield


def message(text: str, *, lines: bool = False) -> None:
    """Tell one thing that the user wants to know.

    Args:
        text: One line; what files say in it cannot begin another.
        lines: It is a text of our own of several lines.
    """
    if not listener().quiet:
        listener().tell(text if lines else visible(text), "message")


def detail(text: str) -> None:
    """Tell one thing that only who asks for details wants to know."""
    listener().tell(text, "detail")


def warning(text: str) -> None:
    """Tell that something was ignored, dropped or doubtful; heard even by who is quiet."""
    listener().warning(text)


def facts(**found: Any) -> None:
    """Keep what programs may want to know of what is under way; nothing is heard of it."""
    listener().facts.update(found)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, key: str = "") -> None:
    """Show a table; a list of objects under ``key`` in the facts (the title in lower case when empty).

    Args:
        title: The heading.
        columns: The heads of the columns.
        rows: One sequence a row, as long as ``columns``.
        key: The name in the facts.
    """
    heads = [column.lower().replace(" ", "_") for column in columns]
    one = listener()
    one.facts[key or title.lower().replace(" ", "_")] = [dict(zip(heads, row, strict=True)) for row in rows]
    one.table(title, columns, [["" if cell is None else visible(str(cell)) for cell in row] for row in rows])


def progress(total: int | None, what: str) -> AbstractContextManager[Progress]:
    """Count long work; used in a ``with``, which gives what to call `advance` on.

    Args:
        total: The number of steps, None where it is not known.
        what: What is counted, such as ``scans read``.
    """
    return listener().progress(total, what)


def written(result: R) -> R:
    """Tell what came out, the last thing that a workflow does, and return it."""
    listener().written(result)
    return result
