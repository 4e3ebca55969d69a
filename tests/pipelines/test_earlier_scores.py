"""Two evaluations into one folder: neither loses its scores in silence."""

from __future__ import annotations

import pytest

from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.workflows.earlier_scores import keep_earlier
from medssl.workflows.score_files import found_in, write_scores


def table(*runs, items=4, value=0.5, metric="dice"):
    names = [f"c{n}" for n in range(items)]
    return ScoreTable.joined(
        ScoreTable.of_values([value] * items, names, names, run=run, metric=metric, targets=["x"] * items)
        for run in runs
    )


def written(out, rows, name="scores.json"):
    found = found_in(rows, "b", metrics=["dice"], compared=["dice"], level=0.95, pooled=False)
    return write_scores(found, out, name, kind="segmentation", unit="patient", metrics=["dice"], content={"runs": {}})


def test_the_same_evaluation_again_or_with_more_takes_the_place(tmp_path, capsys):
    written(tmp_path, table("a"))
    written(tmp_path, table("a", value=0.7))
    written(tmp_path, table("a", "b", items=6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.json", SCORES]
    assert set(ScoreTable.read(tmp_path / SCORES).runs) == {"a", "b"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (table("b"), "scores.json"),  # another run
        (table("a", items=2), "scores.json"),  # fewer cases
        (table("a"), "part_scores.json"),  # another task
    ],
)
def test_another_evaluation_moves_it_aside_and_says_so(tmp_path, capsys, rows, name):
    written(tmp_path, table("a"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    written(tmp_path, rows, name)
    assert {path.name: path.read_bytes() for path in (tmp_path / "earlier-scores-1").iterdir()} == before
    assert "earlier-scores-1" in capsys.readouterr().err
    assert ScoreTable.read(tmp_path / SCORES).runs == rows.runs
    written(tmp_path, table("c"))
    assert (tmp_path / "earlier-scores-2" / name).is_file()


def test_what_cannot_be_read_is_kept(tmp_path):
    (tmp_path / SCORES).write_bytes(b"of an earlier release")
    aside = keep_earlier(tmp_path, table("a"), "scores.json")
    assert aside is not None
    assert (aside / SCORES).read_bytes() == b"of an earlier release"
    assert keep_earlier(tmp_path, table("a"), "scores.json") is None
