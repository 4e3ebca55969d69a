"""How the verbs talk: rich on a terminal, plain lines off it, one JSON object for programs.

Called from Python they print nothing: what they say goes to the logger ``medssl``, and a notebook sees a bar of
progress. ``medssl.set_verbosity("info")`` prints it.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from medssl.quoting import visible

__all__ = [
    "Manner",
    "Progress",
    "aside",
    "cleaned",
    "detail",
    "done",
    "fail",
    "manner",
    "part",
    "progress",
    "say",
    "speaking",
    "table",
    "tell",
    "warn",
]

_PLAIN_INTERVAL_S = 30.0
_WORTH_A_CLOSING_LINE_S = 2.0
_DAY_S, _YEAR_S = 86_400, 31_536_000


@dataclass(frozen=True)
class Manner:
    """How to talk to whoever called the verb.

    Attributes:
        as_json: Keep standard output for one JSON object; messages go to standard error.
        quiet: Leave out everything but warnings, errors and what was written.
        verbose: Say details too.
        clean: What is done to every text that is said, such as names taken out of it.
        as_log: Nothing is printed: what is said goes to the logger ``medssl``.
        silent: Leave out all but warnings and errors.
        within: The verb speaks as a part of a longer chain: what is next is for the chain to say.
        facts: What the JSON object will hold; filled by ``tell``, ``table`` and ``done``.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    within: bool = False
    silent: bool = False
    clean: Callable[[str], str] | None = None
    as_log: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


_MANNER: ContextVar[Manner | None] = ContextVar("manner", default=None)
_OUTERMOST: list[Manner] = []  # threads that a verb starts do not see the variable above
_LOGGER = logging.getLogger("medssl")


def manner() -> Manner:
    """Return how the verb that is running talks; outside of ``speaking``, to the log, and no facts are kept."""
    return _MANNER.get() or (_OUTERMOST[-1] if _OUTERMOST else Manner(as_log=True))


@contextmanager
def speaking(chosen: Manner) -> Iterator[Manner]:
    """Let everything inside talk in the chosen manner; with ``as_json``, print the object when all is done."""
    token = _MANNER.set(chosen)
    _OUTERMOST.append(chosen)
    try:
        yield chosen
        if chosen.as_json:
            _write_json(chosen.facts)
    finally:
        _OUTERMOST[:] = [one for one in _OUTERMOST if one is not chosen]
        _MANNER.reset(token)


@contextmanager
def part(name: str, *, quiet: bool = False) -> Iterator[dict[str, Any]]:
    """Let a verb speak as a part of a chain of verbs: it proposes no next command, and its facts are kept apart.

    Args:
        name: Under which its facts stand in the ``parts`` of the JSON object.
        quiet: Say only warnings and what was written.
    """
    outer = manner()
    inner = replace(outer, quiet=outer.quiet or quiet, within=True, facts={})
    token = _MANNER.set(inner)
    try:
        yield inner.facts
    finally:
        _MANNER.reset(token)
        outer.facts.setdefault("parts", {})[name] = inner.facts


@contextmanager
def aside() -> Iterator[None]:
    """Let a verb that is one of hundreds say warnings alone, in the manner of whoever called the outer one."""
    outer = manner()
    warnings = outer.facts.setdefault("warnings", [])
    token = _MANNER.set(replace(outer, quiet=True, within=True, silent=True, facts={"warnings": warnings}))
    try:
        yield
    finally:
        _MANNER.reset(token)
        if not warnings:
            outer.facts.pop("warnings", None)


@contextmanager
def cleaned(way: Callable[[str], str]) -> Iterator[None]:
    """Let every text that is said inside go through ``way`` first."""
    outer = manner()
    token = _MANNER.set(replace(outer, clean=way))  # the facts are the outer one's own
    try:
        yield
    finally:
        _MANNER.reset(token)


def say(text: str, *, lines: bool = False) -> None:
    """Say one thing that the user wants to know.

    Args:
        text: One line; what files say in it cannot begin another.
        lines: It is a text of our own of several lines.
    """
    if not manner().quiet:
        _line(text if lines else visible(text), _messages())


def detail(text: str) -> None:
    """Say one thing that only ``--verbose`` asks for."""
    if manner().verbose or manner().as_log:
        _line(text, _messages(), style="dim", level=logging.DEBUG)


def warn(text: str) -> None:
    """Say that something was ignored, dropped or doubtful; on standard error, even when quiet."""
    text = _clean(text)
    manner().facts.setdefault("warnings", []).append(text)
    said = visible(text)
    _line(said if manner().as_log else f"warning: {said}", sys.stderr, style="yellow", level=logging.WARNING)


def tell(**facts: Any) -> None:
    """Keep facts for the JSON object; nothing is printed."""
    manner().facts.update(facts)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, key: str = "") -> None:
    """Show a table; in JSON a list of objects under ``key`` (the title in lower case when empty).

    Args:
        title: The heading.
        columns: The heads of the columns.
        rows: One sequence a row, as long as ``columns``.
        key: The name in the JSON object.
    """
    heads = [column.lower().replace(" ", "_") for column in columns]
    tell(**{key or title.lower().replace(" ", "_"): [dict(zip(heads, row, strict=True)) for row in rows]})
    if manner().as_json:
        return
    cells = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty() and not manner().as_log:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for column in columns:
            drawn.add_column(column, overflow="fold")
        for line in cells:
            drawn.add_row(*(Text(cell) for cell in line))
        Console().print(drawn)
        return
    widths = [min(max(len(line[i]) for line in [list(columns), *cells]), 48) for i in range(len(columns))]
    _line(title, sys.stdout)
    for line in [list(columns), *cells]:
        _line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), sys.stdout)


def done(written: Path | Sequence[Path] | None, next_command: str = "", *, on_new: str = "", **facts: Any) -> None:
    """Close a verb: say what was written and what to run next.

    Args:
        written: The file or files, or None for a dry run or a verb that writes nothing.
        next_command: The command that goes on from here.
        on_new: The command that uses what came out on new scans or clouds.
        facts: More for the JSON object.
    """
    paths = [written] if isinstance(written, Path) else list(written or [])
    tell(written=[str(path) for path in paths], next=next_command or None, **facts)
    if manner().as_json:
        return
    for path in paths:
        _line(f"wrote {visible(str(path))}", sys.stdout, style="green")
    if next_command and not manner().quiet and not manner().within:
        _line(f"next: {next_command}", sys.stdout, style="bold")
    if on_new and not manner().quiet and not manner().within:
        _line(f"on new data: {on_new}", sys.stdout)


def fail(kind: str, message: str) -> None:
    """Print an error on standard error, and as the JSON object where one is wanted."""
    # Settings and weights are told in several lines; names of files, which stand in all other errors, cannot begin one.
    shown = visible(message, lines=kind in {"ConfigError", "TransferError"})
    _line(f"error: {shown}", sys.stderr, style="red", level=logging.ERROR)
    if manner().as_json:
        _write_json(manner().facts | {"error": {"kind": kind, "message": message}})


class Progress:
    """Counts steps of long work and shows them; made by ``progress``. Its methods may be called from any thread."""

    def __init__(self, total: int | None, what: str, *, stream: TextIO, interval_s: float = _PLAIN_INTERVAL_S) -> None:
        self.total, self.what, self.count, self.text = total, what, 0, ""
        self._stream, self._interval_s = stream, interval_s
        self._started = self._said = time.monotonic()
        self._first_at: float | None = None
        self._since_first = 0
        self._lock = threading.Lock()
        self._bar: Any = None
        self._task: Any = None

    def advance(self, steps: int = 1, note: str = "", *, kept: bool = False) -> None:
        """Count ``steps`` more, and show ``note`` beside them (``loss 4.31 | spread 0.92``).

        Args:
            steps: How many.
            note: What is shown.
            kept: An earlier call had done them: they say nothing of the pace.
        """
        with self._lock:
            self.count += steps
            self.text = visible(note) or self.text
            if not kept and self._first_at is None:
                self._first_at = time.monotonic()
            elif not kept:
                self._since_first += steps
            self._show()

    def reach(self, count: int, note: str = "") -> None:
        """Show that ``count`` steps are done in all: for work that knows its own number, such as a resumed run."""
        self.advance(count - self.count, note)

    def _show(self) -> None:
        if self._bar is not None:
            left = f"ETA {eta}" if (eta := self._eta()) else ""
            self._bar.update(self._task, completed=self.count, total=self.total, note=self.text, left=left)
        elif time.monotonic() - self._said >= self._interval_s:
            self._said = time.monotonic()
            _line(self._sentence(), self._stream)

    def _sentence(self) -> str:
        elapsed_s = time.monotonic() - self._started
        parts = [f"{self.what} {self.count:,}" + (f"/{self.total:,}" if self.total is not None else "")]
        if self.text:
            parts.append(self.text)
        parts.append(f"{duration(elapsed_s)} so far")
        if eta := self._eta():
            parts.append(f"ETA {eta}")
        return " | ".join(parts)

    def _eta(self) -> str:
        """Return how long the rest takes at the pace since the first report; "" where that is not known yet.

        What was done up to then says nothing of the pace: it holds the imports and the like of the first item, or what
        a run had done before it was resumed.
        """
        if self._first_at is None or not self._since_first or not self.total or self.count >= self.total:
            return ""
        since_s = time.monotonic() - self._first_at
        return duration(since_s / self._since_first * (self.total - self.count))

    def _close(self, whole: bool) -> None:
        elapsed_s = time.monotonic() - self._started
        if self._bar is None and (elapsed_s >= _WORTH_A_CLOSING_LINE_S or not whole):
            state = "done in" if whole else "stopped after"
            counted = f"{self.count:,}" + (f"/{self.total:,}" if self.total is not None else "")
            _line(" | ".join(filter(None, [f"{self.what} {counted}", self.text, f"{state} {duration(elapsed_s)}"])),
                  self._stream)  # fmt: skip


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Progress]:
    """Show long work: a bar on a terminal, else a plain line every 30 s at most, on standard error.

    Args:
        total: The number of steps, None where it is not known.
        what: What is counted, such as ``scans read``.
    """
    shown = Progress(total, what, stream=sys.stderr)
    if manner().quiet:
        shown._interval_s = float("inf")
        yield shown
        return
    if not (_in_notebook() if manner().as_log else sys.stderr.isatty()):
        whole = False
        try:
            yield shown
            whole = True
        finally:
            shown._close(whole)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    screen = Console() if manner().as_log else Console(stderr=True)  # a notebook draws what goes to standard output
    with Bars(*columns, console=screen, refresh_per_second=4) as bars:
        shown._bar, shown._task = bars, bars.add_task(what, total=total, note="", left="")
        yield shown


def duration(seconds: float) -> str:
    """Return a time span as people write it.

    Example:
        >>> duration(7805), duration(42)
        ('2 h 10 m', '42 s')
    """
    whole = round(seconds)
    if whole >= 2 * _YEAR_S:
        return f"{whole / _YEAR_S:,.0f} years"
    if whole >= 2 * _DAY_S:
        return f"{whole / _DAY_S:.0f} days"
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {whole % 60} s" if minutes else f"{whole} s"


def _clean(text: str) -> str:
    clean = manner().clean
    return text if clean is None else clean(text)


def _messages() -> TextIO:
    return sys.stderr if manner().as_json else sys.stdout


def _in_notebook() -> bool:
    """Tell whether this process serves a notebook; nothing is imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _line(text: str, stream: TextIO, style: str = "", level: int = logging.INFO) -> None:
    if manner().silent and level < logging.WARNING:
        return
    text = visible(_clean(text), lines=True)
    if manner().as_log:
        _LOGGER.log(level, "%s", text)
        return
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
