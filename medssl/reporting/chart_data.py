"""What a chart shows as a table that a reader can save: a link that holds the CSV itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from urllib.parse import quote

__all__ = ["data_link"]

_CELLS = 20_000  # about half a megabyte; what is longer would make the page heavy
_FORMULA = ("=", "+", "-", "@")


def data_link(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a link that saves the rows as ``chart.csv``; "" for more than 20,000 cells, or none.

    Args:
        heads: Names of the columns.
        rows: One tuple a point. Numbers are written with six digits; words that a spreadsheet would run as a formula
            get a quote before them.
    """
    told = [[_cell(cell) for cell in row] for row in rows]
    if not told or len(told) * len(heads) > _CELLS:
        return ""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(heads), *told])
    return (
        '<p class="save"><a download="chart.csv" '
        f'href="data:text/csv;charset=utf-8,{quote(text.getvalue())}">Save as CSV</a></p>'
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    told = str(value)
    return f"'{told}" if told.startswith(_FORMULA) else told
