import numpy as np
import pytest

from medssl.evaluation.part_summary import summarise_parts
from medssl.evaluation.parts import part_scores


def scored(shapes=8, seed=0):
    draw = np.random.default_rng(seed)
    truths = [draw.integers(0, 2, 30) for _ in range(shapes)]
    predicted = [np.where(draw.random(30) < 0.7, t, 1 - t) for t in truths]
    classes = ["a" if n % 2 else "b" for n in range(shapes)]
    scores = part_scores(truths, predicted, classes, {"a": (0, 1), "b": (0, 1)})
    points = np.array([[(t == p).sum(), len(t)] for t, p in zip(truths, predicted, strict=True)])
    return scores, classes, points


def test_intervals_hold_the_scores_and_agree_with_a_plain_bootstrap():
    scores, classes, points = scored(40)
    found = summarise_parts(scores, classes, [str(n) for n in range(40)], points, level=0.9)
    draw = np.random.default_rng(1)
    plain = [scores.shapes[draw.integers(0, 40, 40)].mean() for _ in range(4000)]
    interval = found["instance_miou"]
    assert interval.estimate == pytest.approx(scores.shapes.mean())
    assert [interval.low, interval.high] == pytest.approx(np.quantile(plain, [0.05, 0.95]), abs=0.004)
    assert found["class_miou"].estimate == pytest.approx(np.mean([scores.by_class["a"], scores.by_class["b"]]))
    assert found["accuracy"].estimate == pytest.approx(points[:, 0].sum() / points[:, 1].sum())
    assert all(v.low < v.estimate < v.high for v in found.values())


def test_shapes_of_one_patient_are_drawn_together():
    scores, classes, points = scored()
    of_two = summarise_parts(scores, classes, ["p"] * 4 + ["q"] * 4, points)["instance_miou"]
    halves = sorted([scores.shapes[:4].mean(), scores.shapes[4:].mean()])
    assert [of_two.low, of_two.high] == pytest.approx(halves)
    assert of_two.cases == 2
    alone = summarise_parts(scores, classes, ["p"] * 8, points)["accuracy"]
    assert alone.low != alone.low
