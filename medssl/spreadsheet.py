"""CSV as we write it: a spreadsheet that opens it computes nothing, and we read the same text back.

Spreadsheets run a cell that begins with = + - @, a tab or a carriage return, names of files and classes included. Such
a cell gets an apostrophe in front, as spreadsheets themselves mark text; numbers, negative ones too, stay as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

__all__ = ["csv_text", "read_cell", "rows_of_csv", "safe_cell"]

# What begins a formula, wide forms of Asian keyboards included, behind any apostrophes.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def safe_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet computes; what is no text, or is a number, comes back as it is.

    Example:
        >>> safe_cell("=1+1"), safe_cell("-3.5"), safe_cell("-tumour"), safe_cell(-2)
        ("'=1+1", '-3.5', "'-tumour", -2)
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def read_cell(text: str) -> str:
    """Return what `safe_cell` was given.

    Example:
        >>> read_cell("'=1+1"), read_cell("'tis")
        ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV, each line ending in a line feed."""
    lines = []
    for row in (heads, *rows):
        text = io.StringIO()
        # Python quotes a carriage return only where lines end in one.
        csv.writer(text, lineterminator="\r\n").writerow([safe_cell(cell) for cell in row])
        lines.append(text.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def rows_of_csv(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV that `csv_text` wrote, by the names of its columns, in their order.

    Args:
        lines: An open file, or its lines.
    """
    reader = csv.reader(lines)
    heads = [read_cell(cell) for cell in next(reader, [])]
    for cells in reader:
        if cells:
            yield dict(zip(heads, map(read_cell, cells), strict=False))
