"""The dense probe's mathematics: against scikit-learn, by hand, and on planted and on meaningless labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.errors import DataError
from medssl.evaluation.dense_probe import Scales, _fitted, best_bias, dense_probe, drawn_places, legendre, overlaps


def planted(cases=6, places=300, noise=0.3, seed=0, structures=2, shuffled=False):
    """Return places whose first block tells their structure, and whose second of many channels tells nothing."""
    draw = np.random.default_rng(seed)
    truth = draw.choice(structures + 1, cases * places, p=[0.8, *[0.2 / structures] * structures])
    told = np.eye(structures + 1)[truth][:, 1:] + noise * draw.normal(size=(len(truth), structures))
    blocks = [told.astype(np.float32), 50 * draw.normal(size=(len(truth), 64)).astype(np.float32)]
    names = np.repeat([f"c{n}" for n in range(cases)], places)
    return blocks, draw.permutation(truth) if shuffled else truth, names


def fit(blocks, truth, names, structures=2, **more):
    return dense_probe(blocks, truth, np.ones(len(truth)), names, names, structures=structures, **more)


def test_positions_are_products_of_legendre_polynomials():
    place = np.array([[0.5, -0.2, 0.1]])
    found = legendre(place)
    assert found.shape == (1, 34)
    assert found[0, 0] == pytest.approx(0.1)  # the first power of the last coordinate comes first
    assert found[0, 1] == pytest.approx((3 * 0.01 - 1) / 2)
    grid = np.linspace(-1, 1, 41)[:, None]
    alone = legendre(np.concatenate([grid, 0 * grid, 0 * grid], axis=1), 2)
    assert np.ptp(alone, axis=0).max() == pytest.approx(2)
    assert np.array_equal(legendre(np.array([[3.0, 0, 0]])), legendre(np.array([[1.0, 0, 0]])))


@given(st.integers(1, 400), st.integers(20, 60), st.integers(0, 100))
def test_drawn_places_stand_for_all_of_their_structure(length, count, seed):
    labels = np.random.default_rng(seed).integers(-1, 4, length)
    rows, weight = drawn_places(labels, count, np.random.default_rng(seed))
    assert len(set(rows.tolist())) == len(rows) <= max(count, 4)
    assert (np.diff(rows) > 0).all()
    for number in range(4):
        assert weight[labels[rows] == number].sum() == pytest.approx((labels == number).sum())
    assert (labels[rows] >= 0).all()


def test_the_fit_is_scikit_learns_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    blocks, truth, _ = planted(cases=2)
    features = Scales.of(blocks).applied(blocks)
    weight, offset = _fitted(features, truth, 1e-3, 2, None)
    theirs = LogisticRegression(C=1 / (1e-3 * len(truth)), max_iter=2000, tol=1e-8).fit(features, truth)
    likely = np.exp(features @ weight + offset)
    np.testing.assert_allclose(likely / likely.sum(axis=1, keepdims=True), theirs.predict_proba(features), atol=4e-3)


def test_a_class_that_is_not_shown_is_never_named():
    blocks, truth, _ = planted(cases=1, structures=2)
    weight, offset = _fitted(blocks[0], np.where(truth == 2, 0, truth), 1e-3, 2, None)
    assert (blocks[0] @ weight + offset).argmax(axis=1).max() == 1


@given(st.integers(0, 1000))
def test_overlaps_are_those_of_masks(seed):
    from sklearn.metrics import f1_score

    draw = np.random.default_rng(seed)
    truth, named, case = draw.integers(-1, 3, 60), draw.integers(0, 3, 60), draw.integers(0, 2, 60)
    found = overlaps(named, truth, np.ones(60), case, structures=2, cases=2)
    for row in range(2):
        use = (case == row) & (truth >= 0)
        for column in (1, 2):
            if ((truth == column) | (named == column))[use].any():
                own = f1_score(truth[use] == column, named[use] == column)
                assert found.dice()[row, column - 1] == pytest.approx(own)
            else:
                assert np.isnan(found.dice()[row, column - 1])


@given(st.integers(0, 200))
def test_no_other_bias_has_a_higher_dice(seed):
    draw = np.random.default_rng(seed)
    truth, case = draw.integers(0, 3, 40), np.repeat([0, 1], 20)
    logits = draw.normal(size=(40, 3)) + np.eye(3)[truth]
    bias, dice = best_bias(logits, truth, np.ones(40), case, structures=2)

    def at(value):
        named = (logits + np.array([0, value, value])).argmax(axis=1)
        return overlaps(named, truth, np.ones(40), case, structures=2).mean_dice()

    assert at(bias) == pytest.approx(dice)
    assert dice >= max(map(at, np.linspace(-4, 4, 33))) - 1e-9


def test_dice_weighs_places_by_what_they_stand_for():
    found = overlaps(
        np.array([1, 1, 0]), np.array([1, 0, 1]), np.array([2.0, 3.0, 5.0]), np.zeros(3, int), structures=1
    )
    assert found.dice()[0, 0] == pytest.approx(2 * 2 / (7 + 5))


def test_a_planted_signal_is_found_and_shuffled_labels_give_chance():
    blocks, truth, names = planted()
    found = fit(blocks, truth, names)
    assert found.folds == 3
    assert found.dice > 0.85
    fresh, told, _ = planted(seed=1)
    named = (np.concatenate(fresh, axis=1) @ found.weight + found.offset).argmax(axis=1)
    whole = np.zeros(len(told), int)
    assert overlaps(named, told, np.ones(len(told)), whole, structures=2).mean_dice() > 0.85
    blind = fit(*planted(shuffled=True))
    # whoever knows nothing does best by naming one structure everywhere: 2 * .1 / (.1 + 1), and none of the other
    assert blind.dice < 0.2


def test_a_block_weighs_the_same_whatever_its_unit_and_however_many_its_channels():
    blocks, truth, names = planted()
    found = fit(blocks, truth, names)
    other = fit([blocks[0] * 1000 - 7, blocks[1] / 30], truth, names)
    assert other.dice == pytest.approx(found.dice, abs=0.01)
    twice = Scales.of([np.repeat(blocks[0], 9, axis=1)]).applied([np.repeat(blocks[0], 9, axis=1)])
    once = Scales.of(blocks[:1]).applied(blocks[:1])
    np.testing.assert_allclose((twice**2).sum(axis=1), (once**2).sum(axis=1), rtol=1e-4)
    flat = Scales.of([np.ones((5, 2))])
    assert (flat.applied([np.full((3, 2), 9.0)]) == 0).all()


def test_the_bias_towards_foreground_makes_up_for_how_places_were_drawn():
    """Half of the drawn places are of a structure that fills 2 % of each case: the fitted prior would name too many."""
    draw = np.random.default_rng(0)
    truth = np.tile(np.repeat([0, 1], 200), 4)
    stands = np.where(truth == 1, 1.0, 49.0)
    feature = (truth + 0.5 * draw.normal(size=len(truth))).astype(np.float32)[:, None]
    names = np.repeat(list("abcd"), 400)
    found = dense_probe([feature], truth, stands, names, names, structures=1)
    assert found.bias < -1
    plain = np.where(feature[:, 0] > 0.5, 1, 0)
    case = np.unique(names, return_inverse=True)[1]
    assert found.dice > overlaps(plain, truth, stands, case, structures=1).mean_dice() + 0.1


def test_one_labelled_patient_takes_the_usual_penalty():
    blocks, truth, _ = planted(cases=1)
    found = fit(blocks, truth, ["a"] * len(truth))
    assert (found.folds, found.penalty) == (0, 1e-3)


def test_what_cannot_be_fitted_is_said():
    blocks, truth, names = planted()
    with pytest.raises(DataError, match="NaN"):
        fit([np.full_like(blocks[0], np.nan)], truth, names)
    with pytest.raises(DataError, match="No labelled place"):
        fit(blocks, 0 * truth, names)
    with pytest.raises(DataError, match="for each place"):
        fit(blocks, truth[:-1], names)
