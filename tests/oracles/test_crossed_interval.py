"""The interval of ``benchmarks/channels_few_label.py``: against scipy where it has a word for it, and its coverage."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

Interval = Callable[[np.ndarray], tuple[float, float, float]]


@pytest.fixture(scope="module")
def crossed_t() -> Interval:
    script = Path(__file__).parents[2] / "benchmarks/channels_few_label.py"
    found: Interval = runpy.run_path(str(script), run_name="script")["crossed_t"]
    return found


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_of_one_axis_it_is_students(crossed_t: Interval, axis: int) -> None:
    values = np.random.default_rng(axis).normal(0.1, 1.0, 7)
    wanted = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    shape = [1, 1, 1]
    shape[axis] = 7
    assert crossed_t(values.reshape(shape)) == pytest.approx((values.mean(), wanted.low, wanted.high))


def test_a_run_that_differs_widens_it_as_one_degree_of_freedom_does(crossed_t: Interval) -> None:
    values = np.random.default_rng(0).normal(0.0, 1e-6, (2, 6, 16)) + np.array([-0.1, 0.3])[:, None, None]
    mean, low, high = crossed_t(values)
    assert mean == pytest.approx(0.1, abs=1e-4)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 1) * 0.2, rel=1e-3)  # a standard error of .4 / 2


@pytest.mark.parametrize(("runs", "draws", "patients"), [(1.0, 1.0, 0.5), (0.0, 1.0, 1.0), (0.0, 0.0, 1.0)])
def test_it_holds_the_mean_as_often_as_it_says(crossed_t: Interval, runs: float, draws: float, patients: float) -> None:
    generator, held, repeats = np.random.default_rng(1), 0, 400
    for _ in range(repeats):
        values = runs * generator.normal(size=(2, 1, 1)) + draws * generator.normal(size=(1, 4, 1))
        values = values + patients * generator.normal(size=(1, 1, 12)) + generator.normal(size=(2, 4, 1))
        _, low, high = crossed_t(values + generator.normal(size=(2, 4, 12)))
        held += low <= 0 <= high
    assert held / repeats > 0.91
