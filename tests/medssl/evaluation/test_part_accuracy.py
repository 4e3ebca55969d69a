"""The accuracy of parts counts points: a shape of many points weighs more, without each of the patients too."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.evaluation.metrics import metric_of
from medssl.evaluation.parts import PartScores, part_scores
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.comparison import scores_of
from medssl.evaluation.statistics.grid import cells_of, grids_of


def scored() -> tuple[PartScores, list[str], np.ndarray]:
    """Shapes of 4 to 400 points; large ones are right less often, so that a mean over shapes is another number."""
    draw = np.random.default_rng(3)
    truths, predicted = [], []
    for points in (4, 4, 6, 8, 10, 100, 200, 400):
        truth = draw.integers(0, 2, points)
        truth[0] = -1  # a point without a label counts in no shape
        truths.append(truth)
        predicted.append(np.where(draw.random(points) < (0.95 if points < 50 else 0.6), truth, 1 - truth))
    classes = ["a"] * len(truths)
    pairs = list(zip(truths, predicted, strict=True))
    points_SN = np.array([[(t[t >= 0] == p[t >= 0]).sum(), (t >= 0).sum()] for t, p in pairs])
    return part_scores(truths, predicted, classes, {"a": (0, 1)}), classes, points_SN


def table_of(owners: list[str]) -> ScoreTable:
    """Return the table of the shapes, with these patients."""
    scores, classes, points = scored()
    columns = {"shape_iou": scores.shapes, "points_right": points[:, 0], "points_labelled": points[:, 1]}
    names = [f"shape{number}" for number in range(len(owners))]
    return ScoreTable.joined(
        ScoreTable.of_values(values, names, owners, run="r", metric=metric, targets=classes)
        for metric, values in columns.items()
    )


@pytest.mark.parametrize("owners", [list("abcdefgh"), list("aaabbcde")])
def test_the_spread_of_accuracy_is_that_of_the_share_of_points_without_each_patient(owners):
    scores, _, points = scored()
    assert scores.accuracy == pytest.approx(points[:, 0].sum() / points[:, 1].sum())
    assert scores.accuracy < (points[:, 0] / points[:, 1]).mean() - 0.1
    grids = grids_of(list(cells_of(table_of(owners), metric_of("point_accuracy"), how="", labels=None).values()))
    assert grids is not None
    (grid,) = grids
    names, known = sorted(set(owners)), np.array(owners)
    assert grid.patients == tuple(names)
    for name, value in zip(names, grid.values[0, 0], strict=True):
        right, labelled = points[known != name].sum(axis=0)
        assert value == pytest.approx(len(names) * scores.accuracy - (len(names) - 1) * right / labelled)
    (score,) = scores_of(table_of(owners), metrics=["point_accuracy"])
    assert score.interval.estimate == pytest.approx(scores.accuracy)
    assert score.interval.error == pytest.approx(grid.values.std(ddof=1) / np.sqrt(len(names)))


def test_two_patients_have_an_accuracy_and_no_interval():
    (score,) = scores_of(table_of(["p"] * 5 + ["q"] * 3), metrics=["point_accuracy"])
    assert score.interval.estimate == pytest.approx(scored()[0].accuracy)
    assert not score.interval.known
    assert score.interval.note == "2 patients are too few for an interval"
