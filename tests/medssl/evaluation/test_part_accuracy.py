"""The accuracy of parts counts points: a shape of many points weighs more, in every resample too."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.evaluation.parts import PartScores, part_scores, resampled_parts


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


def test_resampled_accuracy_is_the_share_of_points_of_the_shapes_drawn():
    scores, classes, points = scored()
    assert scores.accuracy == pytest.approx(points[:, 0].sum() / points[:, 1].sum())
    assert scores.accuracy < (points[:, 0] / points[:, 1]).mean() - 0.1
    owners = [str(number) for number in range(8)]
    weight = np.random.default_rng(1).multinomial(8, np.full(8, 1 / 8), size=50).astype(float)
    found = resampled_parts(scores.shapes, points, classes, owners, "point_accuracy", weight)
    for row, value in zip(weight, found, strict=True):
        drawn = np.repeat(points, row.astype(int), axis=0).sum(axis=0)
        assert value == pytest.approx(drawn[0] / drawn[1])


def test_resampled_accuracy_of_two_patients_takes_all_shapes_of_each():
    scores, classes, points = scored()
    owners = ["p"] * 5 + ["q"] * 3
    found = resampled_parts(scores.shapes, points, classes, owners, "point_accuracy", np.eye(2))
    own = [points[:5].sum(axis=0), points[5:].sum(axis=0)]
    assert found == pytest.approx([right / known for right, known in own])
