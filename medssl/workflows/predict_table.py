"""The table of predictions: a row for each thing that was asked for, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from medssl.quoting import visible
from medssl.spreadsheet import csv_text
from medssl.writing import atomic_write

__all__ = ["FIRST", "write_table"]

FIRST = ("id", "status", "file", "differs", "reason")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], kind: Literal["csv", "parquet"]) -> None:
    """Write the rows; columns that a row lacks are empty.

    Args:
        path: The file.
        rows: With the columns ``FIRST``, and what the task says behind them.
        kind: CSV that no spreadsheet computes (`medssl.spreadsheet`); or Parquet, in which what is a number in all
            rows is one.
    """
    more = list(dict.fromkeys(name for row in rows for name in row if name not in FIRST))
    columns = [*FIRST, *more]
    heads = _heads(columns)
    if kind == "csv":
        cells = (["" if row.get(name) is None else row[name] for name in columns] for row in rows)
        with atomic_write(path) as aside:
            aside.write_bytes(csv_text(heads, cells).encode("utf-8", errors="replace"))
        return
    import polars

    content = {
        head: [_number(row.get(name)) if name in more else row.get(name) for row in rows]
        for head, name in zip(heads, columns, strict=True)
    }
    with atomic_write(path) as aside:
        polars.DataFrame(content, strict=False, infer_schema_length=None).write_parquet(aside)


def _heads(columns: Sequence[str]) -> list[str]:
    """Return the heads without the hidden signs that names of classes may hold; those then alike are numbered."""
    heads: list[str] = []
    for name in columns:
        plain = visible(name)
        heads.append(plain if plain not in heads else f"{plain} ({len(heads)})")
    return heads


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
