"""A run's held-out signals stand beside those of step 0 and of chance."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from medssl.engine.checkpoint import checkpoints_of
from medssl.engine.loop import fit
from medssl.engine.run import Run, read_metrics
from medssl.objectives.diagnostics import effective_rank
from medssl.reporting.material import RunRecord
from medssl.reporting.prose import collapse_sentence
from medssl.reporting.training_sections import _beside_no_training, _last_of


@pytest.fixture
def train(tiny, tmp_path):
    """Return a function that trains the tiny method, and returns (method, run, reports)."""

    def go(*overrides, name="run", resume=False, **rest):
        resolved = tiny.settings(*overrides)
        reports = []
        run = (Run.reopen if resume else Run.create)(tmp_path / name, settings=resolved)
        method = tiny.TinyMethod()
        fit(method, tiny.TinyLoader(), resolved.settings, run=run, on_report=reports.append, resume=resume, **rest)
        return method, run, reports

    return go


@pytest.fixture
def guessed(tiny, monkeypatch):
    """Let the tiny method say what its signal is worth by chance."""

    def chance(self, views):
        return {"rebuilt": views["clean"].var().detach()}

    monkeypatch.setattr(tiny.TinyMethod, "chance", chance)


def test_the_probe_at_step_0_is_of_the_untrained_network(tiny, train, guessed):
    batch = tiny.TinyLoader().batch(1000)
    _, run, reports = train("steps=40", "log_every=10", "probe_every=20", held_out=[batch])
    rows = read_metrics(run.folder)
    assert [row["step"] for row in rows if "held_out/rebuilt" in row] == [0, 20, 40]
    assert "loss" not in rows[0]
    assert reports[0].step > 0
    log = (run.folder / "log.txt").read_text()
    first, last, chance = rows[0]["held_out/rebuilt"], rows[-1]["held_out/rebuilt"], rows[0]["chance/rebuilt"]
    assert last < first
    assert f"held out, step 0: rebuilt {first:.3g} (chance {chance:.3g})" in log
    middle = next(row for row in rows if row["step"] == 20)
    assert f"held out, step 20: rebuilt {middle['held_out/rebuilt']:.3g} (step 0: {first:.3g}; chance" in log
    assert f"held out, step 40: rebuilt {last:.3g} (step 0: {first:.3g}; chance {chance:.3g})" in log


def test_the_probe_at_step_0_changes_no_step(tiny, train):
    """Not by the random numbers that it draws, nor by statistics of norms."""
    blind, *_ = train(name="a")
    looked, *_ = train(name="b", held_out=[tiny.TinyLoader().batch(1000)])
    for name, value in blind.state_dict().items():
        assert torch.equal(value, looked.state_dict()[name]), name


def test_a_resumed_run_remembers_step_0(tiny, train):
    held_out = [tiny.TinyLoader().batch(1000)]
    _, run, *_ = train("steps=12", "checkpoint_every=4", name="whole", held_out=held_out)
    newest = checkpoints_of(run.checkpoints)[0]
    for path in sorted(newest.iterdir()):
        path.unlink()  # as killed while it was written
    newest.rmdir()
    _, again, _ = train("steps=12", "checkpoint_every=4", name="whole", resume=True, held_out=held_out)
    rows = read_metrics(again.folder)
    assert [row["step"] for row in rows].count(0) == 1
    after = (again.folder / "log.txt").read_text().partition("resumed from")[2]
    assert f"(step 0: {rows[0]['held_out/rebuilt']:.3g})" in after


def test_the_report_shows_all_three(tmp_path):
    rows = [
        {"step": 0, "held_out/retrieval": 0.2, "chance/retrieval": 0.125, "held_out/spread": 0.5},
        {"step": 9, "loss": 1.0, "held_out/retrieval": 0.7, "chance/retrieval": 0.125, "held_out/spread": 0.6},
    ]
    found = _beside_no_training(record(tmp_path, rows))
    assert found[0].rows == [("share of views whose other view is the nearest", "0.2", "0.7", "0.125")]
    assert _beside_no_training(record(tmp_path, [{"step": 9, "loss": 1.0, "held_out/retrieval": 0.7}])) == []


@pytest.mark.parametrize(("entropy", "verdict"), [(6.2, "It looks collapsed"), (4.5, "No collapse")])
def test_the_report_knows_a_teacher_that_tells_nothing(tmp_path, entropy, verdict):
    rows = [{"step": 9, "signal/spread": 0.3, "signal/teacher_entropy": entropy, "signal/prototypes_used": 505.0}]
    found = _last_of(record(tmp_path, rows))
    assert found["information"] == pytest.approx(np.log(505) - entropy)
    limits = {"train.collapse_spread": 0.05, "train.collapse_information": 0.05, "train.batch_size": 8}
    assert collapse_sentence(found, limits).startswith(verdict)


def record(folder, rows) -> RunRecord:
    known = {"name": "a", "folder": folder, "rows": rows}
    wanted = inspect.signature(RunRecord).parameters
    return RunRecord(**{name: known.get(name, {} if p.default is p.empty else p.default) for name, p in wanted.items()})


def test_a_step_0_that_is_drawn_is_the_first_point(tmp_path):
    from medssl.engine.pictures import _panels, draw_progress

    rows = [
        {"step": 0, "held_out/retrieval": 0.2, "chance/retrieval": 0.125},
        {"step": 9, "loss": 1.0, "held_out/retrieval": 0.7, "chance/retrieval": 0.125},
    ]
    assert _panels({key for row in rows for key in row})["retrieval"] == ["held_out/retrieval", "chance/retrieval"]
    draw_progress(rows, tmp_path / "progress.png")
    assert (tmp_path / "progress.png").stat().st_size > 0
    assert np.isfinite([row["held_out/retrieval"] for row in rows]).all()


def test_a_rank_of_what_is_not_finite_is_not_known():
    assert effective_rank(torch.tensor([[1.0, float("nan")], [0.0, 1.0]])).isnan()
    assert effective_rank(torch.tensor([[1.0, float("inf")], [0.0, 1.0]])).isnan()
    assert effective_rank(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, -3.0]])) > 1


def test_what_is_not_finite_at_step_0_is_left_out(tiny, train, monkeypatch):
    monkeypatch.setattr(tiny.TinyMethod, "chance", lambda self, views: {"rebuilt": torch.tensor(float("nan"))})
    _, run, _ = train(held_out=[tiny.TinyLoader().batch(1000)])
    assert "chance/rebuilt" not in read_metrics(run.folder)[0]
