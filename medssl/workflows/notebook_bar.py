"""A bar of progress in a notebook: one output that is drawn anew, without widgets that have to be installed for it."""

from __future__ import annotations

import html
import time
from typing import Any

_REDRAW_S = 0.25


class NotebookBar:
    """Shows how far long work is; what was drawn last stays in the notebook when it is saved.

    Rich's own bar needs ipywidgets there, and without it draws nothing but a warning.

    Args:
        what: What is counted, such as ``scans read``.
    """

    def __init__(self, what: str) -> None:
        self.what, self.text = what, what
        self._done, self._of = 0, 0
        self._drawn = time.monotonic()
        self._handle: Any = None

    def update(self, *, completed: int, total: int | None, note: str, left: str) -> None:
        """Take what is to be shown; it is drawn four times a second at most."""
        self._done, self._of = completed, total or 0
        count = f"{completed:,}" + (f"/{total:,}" if total is not None else "")
        self.text = " | ".join(filter(None, (f"{self.what} {count}", note, left)))
        if self._handle is None or time.monotonic() - self._drawn >= _REDRAW_S:
            self.draw()

    def draw(self) -> None:
        """Draw it now."""
        from IPython.display import display  # there wherever a notebook is

        self._drawn = time.monotonic()
        if self._handle is None:
            self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(self)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        known = f' value="{self._done}" max="{self._of}"' if self._of else ""
        return f"<progress{known}></progress> {html.escape(self.text)}"
