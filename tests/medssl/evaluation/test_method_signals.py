"""The intervals of `benchmarks/method_signals.py`: against scipy's paired t test, and where there can be none."""

from __future__ import annotations

import math
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks/method_signals.py"))
against, told, SIGNALS = SCRIPT["against"], SCRIPT["told"], SCRIPT["SIGNALS"]


def ends_of(text):
    return tuple(float(number) for number in re.search(r"\[([^,]+), ([^\]]+)\]", text).groups())


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_shares_have_the_interval_of_the_paired_t_test(runs):
    rng = np.random.default_rng(runs)
    before = rng.random(runs)
    after = before + 0.2 + 0.05 * rng.standard_normal(runs)
    text, better, worse = against(before, after, more_is_better=True)
    theirs = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert ends_of(text) == pytest.approx((theirs.low, theirs.high), abs=6e-4)
    assert (better, worse) == (theirs.low > 0, theirs.high < 0)
    assert against(after, before, more_is_better=True)[1:] == (worse, better)


def test_errors_have_it_of_their_ratio():
    before, after = np.array([0.4, 0.5, 0.45]), np.array([0.2, 0.22, 0.24])
    text, better, worse = against(before, after, more_is_better=False)
    theirs = stats.ttest_1samp(np.log(after / before), 0).confidence_interval(0.95)
    assert ends_of(text) == pytest.approx(np.exp([theirs.low, theirs.high]), rel=5e-3)
    assert text.startswith(f"x {np.exp(np.log(after / before).mean()):.3g} ")
    assert (better, worse) == (True, False)
    assert against(after, before, more_is_better=False)[1:] == (False, True)


def runs_of(preset, values):
    """Return runs as the script keeps them: each signal's value before and after, and its chance."""
    names = [name for name, _ in SIGNALS[preset]]
    return [{name: {"curve": [a, b], "chance": c} for name in names} for a, b, c in values]


@pytest.mark.parametrize(
    ("preset", "values", "said"),
    [
        ("simclr_small", [(0.4, 0.6, 0.1)], "one run: variation between runs is not included"),
        ("masked_small", [(0.4, 0.2, 0.8)], "one run: variation between runs is not included"),
        ("simclr_small", [(0.4, 0.6, 0.1)] * 3, "all runs alike: no interval"),
        ("masked_small", [(0.4, 0.2, 0.8)] * 3, "all runs alike: no interval"),
        ("masked_small", [(0.0, 0.0, 0.0), (0.4, 0.2, 0.8)], "not defined"),
        ("simclr_small", [(0.4, math.nan, 0.1), (0.4, 0.6, 0.1)], "not defined"),
    ],
)
def test_where_there_is_no_interval_the_row_says_why(preset, values, said):
    (line,) = told(preset, 40, runs_of(preset, values))
    *_, random, chance, verdict, _ = line.split("|")
    assert said in random
    assert said in chance
    assert verdict.strip() == "not shown"
    assert "nan" not in (random + chance).lower()
    assert "inf" not in (random + chance).lower()
