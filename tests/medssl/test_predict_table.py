"""Heads of the table of predictions: names of classes come from whoever made the data."""

from __future__ import annotations

import csv

import polars
import pytest

from medssl.workflows.predict_table import write_table

ROWS = [
    {"id": "a", "status": "done", "p_li\x1b[2Jver": "0.5", "p_li\u202ever": "0.25", "p_li\u200ever": "0.125"},
    {"id": "b", "status": "failed"},
]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_heads_hold_no_hidden_signs_and_no_column_is_lost(tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    write_table(path, ROWS, kind)
    if kind == "csv":
        heads, first, _ = csv.reader(path.read_text().splitlines())
        row = dict(zip(heads, first, strict=True))
    else:
        row = polars.read_parquet(path).row(0, named=True)
        heads = list(row)
    assert len(set(heads)) == len(heads) == 8
    assert all(head.isprintable() for head in heads)
    assert [float(row[head]) for head in heads[5:]] == [0.5, 0.25, 0.125]
    assert heads[5:7] == ["p_liver", "p_li?ver"]
