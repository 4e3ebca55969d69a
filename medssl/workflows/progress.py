"""Counting long work: a bar where there is a screen or a notebook for it, else a plain line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from medssl.quoting import visible
from medssl.workflows.notebook_bar import NotebookBar

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PLAIN_INTERVAL_S", "Progress", "counted", "duration"]

PLAIN_INTERVAL_S = 30.0
_WORTH_A_CLOSING_LINE_S = 2.0
_DAY_S, _YEAR_S = 86_400, 31_536_000


class Progress:
    """Counts steps of long work and shows them. Its methods may be called from any thread.

    Args:
        total: The number of steps, None where it is not known; may be set later.
        what: What is counted, such as ``scans read``.
        say: Says a plain line.
        interval_s: At least this long between two lines.
    """

    def __init__(
        self, total: int | None, what: str, *, say: Callable[[str], None], interval_s: float = PLAIN_INTERVAL_S
    ) -> None:
        self.total, self.what, self.count, self.text = total, what, 0, ""
        self._say, self._interval_s = say, interval_s
        self._started = self._said = time.monotonic()
        self._first_at: float | None = None
        self._since_first = 0
        self._lock = threading.Lock()
        self._update: Callable[..., None] | None = None  # of what draws the bar, where there is one

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
        if self._update is not None:
            left = f"ETA {eta}" if (eta := self._eta()) else ""
            self._update(completed=self.count, total=self.total, note=self.text, left=left)
        elif time.monotonic() - self._said >= self._interval_s:
            self._said = time.monotonic()
            self._say(self._sentence())

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
        if elapsed_s >= _WORTH_A_CLOSING_LINE_S or not whole:
            state = "done in" if whole else "stopped after"
            done = f"{self.count:,}" + (f"/{self.total:,}" if self.total is not None else "")
            parts = [f"{self.what} {done}", self.text, f"{state} {duration(elapsed_s)}"]
            self._say(" | ".join(filter(None, parts)))


@contextmanager
def counted(
    total: int | None, what: str, *, say: Callable[[str], None] | None, screen: Console | None
) -> Iterator[Progress]:
    """Count long work.

    Args:
        total: The number of steps, None where it is not known.
        what: What is counted.
        say: Says a plain line; None to say nothing at all.
        screen: Where a bar is drawn; None for plain lines.
    """
    if say is None:
        yield Progress(total, what, say=lambda line: None, interval_s=float("inf"))
        return
    shown = Progress(total, what, say=say)
    if screen is None:
        whole = False
        try:
            yield shown
            whole = True
        finally:
            shown._close(whole)
        return
    if screen.is_jupyter:
        bar = NotebookBar(what)
        shown._update = bar.update
        try:
            yield shown
        finally:
            if shown.count:
                bar.draw()
        return
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
    with Bars(*columns, console=screen, refresh_per_second=4) as bars:
        shown._update = partial(bars.update, bars.add_task(what, total=total, note="", left=""))
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
