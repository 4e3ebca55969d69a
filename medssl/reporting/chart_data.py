"""What a chart shows as a table that a reader can save: a link that holds the CSV itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from medssl.spreadsheet import csv_text

__all__ = ["data_link"]

_CELLS = 20_000  # about half a megabyte; what is longer would make the page heavy


def data_link(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a link that saves the rows as ``chart.csv``; "" for more than 20,000 cells, or none.

    Args:
        heads: Names of the columns.
        rows: One tuple a point; numbers are written with six digits.
    """
    told = [[f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    if not told or len(told) * len(heads) > _CELLS:
        return ""
    return (
        '<p class="save"><a download="chart.csv" '
        f'href="data:text/csv;charset=utf-8,{quote(csv_text(heads, told))}">Save as CSV</a></p>'
    )
