"""A table of file formats, and the row that the ending of a file's name promises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from medssl.table import Row, Table

__all__ = ["Format", "FormatTable"]


@dataclass(frozen=True, kw_only=True)
class Format(Row):
    """One format; ``name`` is what a header or a manifest calls it, ``target`` the module that reads it.

    Attributes:
        suffixes: Endings of file names, lower case; the longest that fits decides.
    """

    suffixes: tuple[str, ...]


F = TypeVar("F", bound=Format)


class FormatTable(Table[F]):
    """Formats by name, found by the ending of a file's name."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """All endings, in the order of the rows."""
        return tuple(suffix for row in self.values() for suffix in row.suffixes)

    def suffix_of(self, path: PurePath) -> str:
        """Return the longest ending that fits the file's name, lower case; "" where none does."""
        name = path.name.lower()
        if name.startswith("._"):
            return ""  # what macOS leaves beside every file it copies to a foreign disk
        return max((suffix for suffix in self.suffixes if name.endswith(suffix)), key=len, default="")

    def row_of(self, path: PurePath) -> F | None:
        """Return the row that the file's ending names, or None."""
        ending = self.suffix_of(path)
        return next((row for row in self.values() if ending in row.suffixes), None) if ending else None

    def format_of(self, path: PurePath) -> str | None:
        """Return the name of the format that the file's ending promises, or None."""
        row = self.row_of(path)
        return row.name if row else None
