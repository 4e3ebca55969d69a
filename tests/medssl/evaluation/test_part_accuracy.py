"""The accuracy of parts counts points: a shape of many points weighs more, in every resample too."""

from __future__ import annotations

import numpy as np
import pytest
from medssl.evaluation.part_summary import summarise_parts

from medssl.evaluation.parts import PartScores, part_scores


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
    found = summarise_parts(scores, classes, [str(n) for n in range(8)], points, level=0.9, resamples=4000)["accuracy"]
    draw = np.random.default_rng(1)
    resampled = []
    for _ in range(4000):
        taken = points[draw.integers(0, 8, 8)].sum(axis=0)
        resampled.append(taken[0] / taken[1])
    assert [found.low, found.high] == pytest.approx(np.quantile(resampled, [0.05, 0.95]), abs=0.01)
    assert found.estimate == pytest.approx(scores.accuracy)


def test_resampled_accuracy_of_two_patients_spans_their_own():
    scores, classes, points = scored()
    owners = ["p"] * 5 + ["q"] * 3
    found = summarise_parts(scores, classes, owners, points)["accuracy"]
    own = [points[:5].sum(axis=0), points[5:].sum(axis=0)]
    assert [found.low, found.high] == pytest.approx(sorted(right / known for right, known in own))
