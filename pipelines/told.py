"""The console as the library tells of its work."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from pipelines import console

__all__ = ["Telling"]


class Telling:
    """Passes on to the console; see `medssl.domains.learning.Told`."""

    def warning(self, text: str) -> None:
        """Warn."""
        console.warn(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, key: str = "") -> None:
        """Show a table."""
        console.table(title, columns, rows, key=key)

    def progress(self, total: int | None, what: str) -> AbstractContextManager[console.Progress]:
        """Show a bar of progress."""
        return console.progress(total, what)
