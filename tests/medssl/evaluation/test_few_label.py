"""The few-label protocol with a pretended trainer: resuming, sharding, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medssl.errors import ConfigError, DataError
from medssl.evaluation.few_label import SCRATCH, Cell, FewLabelPlan, read_cells, run_cells
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.scoring import StructureScore

ARMS = {SCRATCH: "", "voco": "abc"}
GAIN = {1: 0.06, 2: 0.04, 4: 0.02, 8: 0.0}


def score(case, dice, *, patient=None, structure="organ"):
    return StructureScore(
        case=case, patient=patient or case, label=1, structure=structure, dice=dice, iou=dice / (2 - dice), hd95_mm=1.0,
        assd_mm=0.5, nsd=dice, tolerance_mm=1.0, truth_ml=1.0, prediction_ml=1.0, truth_voxels=9, prediction_voxels=9,
        empty="both" if dice != dice else "",
    )  # fmt: skip


def trainer(cell):
    """Dice = a level for n + a draw's luck + a patient's difficulty + the arm's gain + noise of the run."""
    luck = np.random.default_rng([cell.draw, 5]).normal(0, 0.03)
    hard = np.random.default_rng(1).normal(0, 0.05, 24)
    noise = np.random.default_rng([len(cell.arm), cell.n, cell.draw, cell.seed]).normal(0, 0.005, 24)
    gain = GAIN[cell.n] if cell.arm != SCRATCH else 0.0
    values = 0.6 + 0.04 * np.log2(cell.n) + luck + hard + noise + gain
    return ScoreTable.of_structures([score(f"case{i}", float(v)) for i, v in enumerate(values)], run="")


def plan(**changes):
    return FewLabelPlan(**({"arms": ARMS, "sizes": (1, 8), "draws": 4, "seeds": 2, "key": "recipe"} | changes))


def test_cells_are_run_once_and_read_back(tmp_path):
    runs = []
    assert run_cells(plan(), lambda c: runs.append(c) or trainer(c), tmp_path) == {}
    assert len(runs) == 2 * 2 * 4 * 2
    outcomes = []
    run_cells(plan(), lambda c: runs.append(c) or trainer(c), tmp_path, on_cell=lambda c, o: outcomes.append(o))
    assert len(runs) == 32
    assert set(outcomes) == {"done"}
    done, missing = read_cells(plan(), tmp_path)
    assert not missing
    for result in done:
        assert result.table.frame.equals(result.cell.table(trainer(result.cell)).frame)
    assert {result.cell for result in done} == set(runs)
    assert set(done[-1].table.frame.select("run", "labels", "draw", "seed").rows()) == {("voco", 8, 3, 1)}
    assert (tmp_path / "cells/voco/n8-draw3-seed1.json").exists()


def test_more_draws_keep_what_is_there(tmp_path):
    run_cells(plan(draws=1), trainer, tmp_path)
    runs = []
    run_cells(plan(draws=2), lambda c: runs.append(c) or trainer(c), tmp_path)
    assert {cell.draw for cell in runs} == {1}


def test_shards_cover_all_cells_once(tmp_path):
    runs = []
    for index in range(3):
        run_cells(plan(), lambda c: runs.append(c) or trainer(c), tmp_path, shard=(index, 3))
    assert sorted(runs, key=str) == sorted(plan().cells(), key=str)
    with pytest.raises(ConfigError, match="0 <= i < k"):
        run_cells(plan(), trainer, tmp_path, shard=(3, 3))


def test_first_cells_pair_all_arms():
    assert {cell.arm for cell in plan().cells()[:2]} == set(ARMS)
    assert {(cell.n, cell.draw, cell.seed) for cell in plan().cells()[:2]} == {(1, 0, 0)}


def test_a_failing_cell_does_not_stop_the_rest_and_is_tried_again(tmp_path):
    bad = Cell(arm="voco", n=8, draw=1, seed=0)

    def sometimes(cell):
        if cell == bad:
            raise RuntimeError("out of memory")
        return trainer(cell)

    assert run_cells(plan(), sometimes, tmp_path) == {bad: "RuntimeError: out of memory"}
    done, missing = read_cells(plan(), tmp_path)
    assert missing == [bad]
    assert len(done) == 31
    assert run_cells(plan(), trainer, tmp_path) == {}
    assert not read_cells(plan(), tmp_path)[1]


def test_interrupting_leaves_no_half_written_cell(tmp_path):
    def stops(cell):
        if cell.draw == 1:
            raise KeyboardInterrupt
        return trainer(cell)

    with pytest.raises(KeyboardInterrupt):
        run_cells(plan(), stops, tmp_path)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) == 8
    assert all(json.loads(p.read_text()) for p in files)


def test_cells_of_another_recipe_or_other_weights_are_refused(tmp_path):
    run_cells(plan(), trainer, tmp_path)
    with pytest.raises(ConfigError, match=r"n1-draw0-seed0.json was made with another recipe"):
        run_cells(plan(key="other"), trainer, tmp_path)
    with pytest.raises(ConfigError, match="voco"):
        read_cells(plan(arms={SCRATCH: "", "voco": "retrained"}), tmp_path)


def test_damaged_cell_is_named(tmp_path):
    run_cells(plan(), trainer, tmp_path)
    (tmp_path / "cells/voco/n1-draw0-seed0.json").write_text('{"arm": "voco"')
    with pytest.raises(DataError, match=r"voco/n1-draw0-seed0.json: not a cell"):
        read_cells(plan(), tmp_path)


def test_nan_survives_the_file(tmp_path):
    one = plan(sizes=(1,), draws=1, seeds=1)
    both = ScoreTable.of_structures([score("a", float("nan")), score("b", 0.5)], run="")
    run_cells(one, lambda _: both, tmp_path)
    frame = read_cells(one, tmp_path)[0][0].table.frame
    assert frame.filter(metric="dice")["value"].to_list() == [None, 0.5]
    assert frame.filter(metric="dice")["note"].to_list() == ["both", ""]


@pytest.mark.parametrize("kind", ["scores", "predictions"])
def test_cells_in_forms_from_before_the_table_of_scores_are_refused_with_what_to_do(tmp_path, kind):
    one = plan(arms={SCRATCH: ""}, sizes=(1,), draws=1, seeds=1)
    (cell,) = one.cells()
    content = {"arm": "scratch", "n": 1, "draw": 0, "seed": 0, "key": "recipe", "seconds": 1.0, kind: []}
    (tmp_path / cell.file).parent.mkdir(parents=True)
    (tmp_path / cell.file).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"not a cell of a few-label comparison.*Move it away to run it again"):
        read_cells(one, tmp_path)


@pytest.mark.parametrize(
    "changes", [{"arms": {"a/b": ""}}, {"arms": {"..": ""}}, {"arms": {}}, {"draws": 0}, {"sizes": (0,)}, {"sizes": ()}]
)
def test_impossible_plans(changes):
    with pytest.raises(ConfigError):
        plan(**changes)
