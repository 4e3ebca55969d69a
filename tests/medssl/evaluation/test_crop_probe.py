"""The crop probe's regression: against scikit-learn, on planted targets and on shuffled ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import DataError
from medssl.evaluation.crop_probe import PENALTIES, _ridge, ridge_r2


def planted(seed, *, patients=20, noise=0.3):
    draw = np.random.default_rng(seed)
    targets = draw.uniform(-1, 1, (4 * patients, 3))
    features = targets @ np.random.default_rng(9).normal(size=(3, 30)) + noise * draw.normal(size=(len(targets), 30))
    return features.astype(np.float32), targets, [f"p{n // 4}" for n in range(len(targets))]


def test_the_regression_is_scikit_learns():
    from sklearn.linear_model import Ridge

    features, targets, _ = planted(0)
    other, features = planted(1)[0].astype(float), features.astype(float)
    centred = features - features.mean(axis=0)
    for said, penalty in zip(_ridge(centred, targets, other - features.mean(axis=0)), PENALTIES, strict=True):
        theirs = Ridge(alpha=penalty).fit(features, targets).predict(other)
        np.testing.assert_allclose(said, theirs, atol=1e-6)


def test_planted_places_are_found_and_shuffled_ones_are_not():
    features, targets, patients = planted(0)
    test, truth, _ = planted(1)
    assert ridge_r2(features, targets, patients, test, truth) > 0.9
    shuffled = np.random.default_rng(0).permutation(targets)
    assert ridge_r2(features, shuffled, patients, test, truth) < 0.05
    noise = np.random.default_rng(0).normal(size=(2, *features.shape))
    assert -0.3 < ridge_r2(noise[0], targets, patients, noise[1], truth) < 0.05


@given(st.floats(0.01, 100), st.floats(-5, 5))
def test_units_of_features_and_targets_mean_nothing(scale, shift):
    features, targets, patients = planted(0)
    test, truth, _ = planted(1)
    found = ridge_r2(features, targets, patients, test, truth)
    other = ridge_r2(
        features * scale + shift, targets * scale + shift, patients, test * scale + shift, truth * scale + shift
    )
    assert other == pytest.approx(found, abs=2e-3)


def test_naming_the_mean_is_worth_nothing_and_a_flat_target_is_left_out():
    features, targets, patients = planted(0)
    test, truth, _ = planted(1)
    assert ridge_r2(np.zeros_like(features), targets, patients, np.zeros_like(test), truth) == pytest.approx(
        0, abs=0.05
    )
    flat = np.concatenate([targets, np.ones((len(targets), 1))], axis=1), np.concatenate([truth, truth[:, :1]], axis=1)
    assert ridge_r2(features, flat[0], patients, test, flat[1]) == pytest.approx(
        ridge_r2(features, targets, patients, test, truth)
    )
    assert ridge_r2(features, 0 * targets, patients, test, truth) == 0.0
    assert ridge_r2(features, targets, ["one"] * len(targets), test, truth) > 0.5


def test_what_does_not_fit_is_said():
    features, targets, patients = planted(0)
    with pytest.raises(DataError, match="for each crop"):
        ridge_r2(features, targets[:-1], patients, features, targets)
    with pytest.raises(DataError, match="NaN"):
        ridge_r2(features * np.nan, targets, patients, features, targets)
