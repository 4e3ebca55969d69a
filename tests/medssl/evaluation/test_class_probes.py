import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from medssl.errors import ConfigError, DataError
from medssl.evaluation.class_probes import C_GRID, CLASS_PROBES, class_probe


def blobs(patients=12, each=3, classes=2, dim=6, apart=1.0, seed=0):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), each)
    truth = owner % classes
    own = rng.normal(size=(patients, dim))  # what a patient's items share, and what says nothing of the class
    values = 0.3 * rng.normal(size=(len(owner), dim)) + own[owner]
    values[:, :classes] += 3 * apart * np.eye(classes)[truth]
    return values, truth, [f"p{o}" for o in owner]


@pytest.mark.parametrize("how", CLASS_PROBES)
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_that_are_apart_are_told_apart(how, classes):
    train, truth, patients = blobs(classes=classes)
    test, wanted, _ = blobs(classes=classes, seed=1)
    fit = class_probe(train, truth, patients, test, how=how, classes=classes)
    assert fit.probability.sum(axis=1) == pytest.approx(1)
    assert (fit.probability.argmax(axis=1) == wanted).mean() > 0.7
    assert fit.folds == 3


def test_the_linear_probe_is_scikit_learns_with_the_chosen_c():
    train, truth, patients = blobs()
    test, *_ = blobs(seed=1)
    fit = class_probe(train, truth, patients, test, how="linear", classes=2)
    assert fit.chosen in C_GRID
    mean, spread = train.mean(axis=0), train.std(axis=0)
    model = LogisticRegression(C=fit.chosen, max_iter=1000, class_weight="balanced").fit((train - mean) / spread, truth)
    np.testing.assert_allclose(fit.probability, model.predict_proba((test - mean) / spread), atol=1e-6)


def test_neighbours_vote_with_weights_as_published():
    train, truth, patients = blobs(apart=0.3)
    test, *_ = blobs(apart=0.3, seed=1)
    fit = class_probe(train, truth, patients, test, how="knn", classes=2)

    def weights(distance):  # cosine distances to weights
        return np.exp((1 - distance) / 0.07)

    model = KNeighborsClassifier(int(fit.chosen), metric="cosine", algorithm="brute", weights=weights)
    mean = train.mean(axis=0)
    np.testing.assert_allclose(fit.probability, model.fit(train - mean, truth).predict_proba(test - mean), atol=1e-9)


def test_what_is_chosen_depends_on_patients_not_on_their_items():
    """Items of one patient are almost equal: a fold that held them apart would like k = 1 and weak penalties."""
    rng = np.random.default_rng(3)
    owner = np.repeat(np.arange(20), 5)
    truth = np.arange(20)[owner] % 2
    values = rng.normal(size=(20, 8))[owner] + 1e-3 * rng.normal(size=(100, 8))  # no class in them at all
    fit = class_probe(values, truth, [f"p{o}" for o in owner], values, how="linear", classes=2)
    assert fit.chosen == C_GRID[0]


def test_with_one_patient_a_class_nothing_is_chosen():
    train, truth, patients = blobs(patients=2)
    fit = class_probe(train, truth, patients, train, how="linear", classes=2)
    assert (fit.chosen, fit.folds) == (1.0, 0)


def test_wrong_input_is_refused():
    train, truth, patients = blobs()
    with pytest.raises(ConfigError, match="linear"):
        class_probe(train, truth, patients, train, how="lineer", classes=2)
    with pytest.raises(DataError, match="lacks the classes number 2"):
        class_probe(train, truth, patients, train, how="knn", classes=3)
    with pytest.raises(DataError, match="finite"):
        class_probe(train * np.nan, truth, patients, train, how="knn", classes=2)
