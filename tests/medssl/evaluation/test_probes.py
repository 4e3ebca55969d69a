import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from medssl.errors import ConfigError, DataError
from medssl.evaluation.probes import C_GRID, NEIGHBOURS, PROBES, class_probe


def blobs(patients=12, each=3, classes=2, dim=6, apart=1.0, seed=0):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), each)
    truth = owner % classes
    own = rng.normal(size=(patients, dim))  # what a patient's items share, and what says nothing of the class
    values = 0.3 * rng.normal(size=(len(owner), dim)) + own[owner]
    values[:, :classes] += 3 * apart * np.eye(classes)[truth]
    return values, truth, [f"p{o}" for o in owner]


@pytest.mark.parametrize("how", PROBES)
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_that_are_apart_are_distinguished(how, classes):
    train, truth, patients = blobs(classes=classes)
    test, wanted, _ = blobs(classes=classes, seed=1)
    fit = class_probe(train, truth, patients, test, how=how, classes=classes)
    assert fit.probability.sum(axis=1) == pytest.approx(1)
    assert (fit.probability.argmax(axis=1) == wanted).mean() > 0.7
    assert (fit.predicted == fit.probability.argmax(axis=1)).mean() > 0.9
    assert (fit.folds == 3) == (fit.chosen == fit.chosen)  # nothing is chosen where the probe fixes all


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
    with pytest.raises(DataError, match="none"):
        class_probe(train[:0], truth[:0], [], train, how="knn", classes=2)
    with pytest.raises(DataError, match="a class and a patient for each"):
        class_probe(train, truth[1:], patients, train, how="knn", classes=2)
    with pytest.raises(DataError, match="finite"):
        class_probe(train * np.nan, truth, patients, train, how="knn", classes=2)


@pytest.mark.parametrize("how", PROBES)
def test_a_class_that_was_never_fitted_is_never_named(how):
    train, truth, patients = blobs()
    fit = class_probe(train, 2 * truth, patients, train, how=how, classes=4)
    assert set(fit.predicted.tolist()) == {0, 2}
    assert fit.probability[:, [1, 3]].max() == 0
    assert fit.probability.sum(axis=1) == pytest.approx(1)
    alone = class_probe(train[truth == 1], truth[truth == 1], np.array(patients)[truth == 1], train, how=how, classes=2)
    assert alone.predicted.tolist() == [1] * len(train)


def unit(train, test):
    centred = test - train.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def test_svm_c1_is_scikit_learns_of_directions():
    train, truth, patients = blobs(apart=0.4, classes=3)
    test, *_ = blobs(apart=0.4, classes=3, seed=1)
    model = LinearSVC(random_state=0, max_iter=5000).fit(unit(train, train), truth)
    fit = class_probe(train, truth, patients, test, how="svm-c1", classes=3)
    np.testing.assert_array_equal(fit.predicted, model.predict(unit(train, test)))


def test_ridge_is_scikit_learns_with_the_chosen_penalty():
    train, truth, patients = blobs(apart=0.4, classes=3)
    test, *_ = blobs(apart=0.4, classes=3, seed=1)
    fit = class_probe(train, truth, patients, test, how="ridge", classes=3)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    model = RidgeClassifier(alpha=fit.chosen * train.shape[1], class_weight="balanced")
    model.fit((train - mean) / spread, truth)
    np.testing.assert_array_equal(fit.predicted, model.predict((test - mean) / spread))


def test_knn_20_against_scikit_learn():
    train, truth, patients = blobs(patients=30, classes=3, apart=0.4)
    test, *_ = blobs(patients=30, classes=3, apart=0.4, seed=1)
    model = KNeighborsClassifier(NEIGHBOURS, metric="cosine").fit(unit(train, train), truth)
    fit = class_probe(train, truth, patients, test, how="knn-20", classes=3)
    np.testing.assert_allclose(fit.probability, model.predict_proba(unit(train, test)), atol=2e-6)
    assert (fit.predicted == model.predict(unit(train, test))).mean() > 0.95  # they break ties otherwise


@pytest.mark.parametrize("how", ["svm-c1", "knn-20", "knn"])
def test_a_constant_that_all_features_share_hides_nothing(how):
    """Features of an encoder are a small angle beside a common direction; as they are, nothing could be told."""
    train, truth, patients = blobs()
    test, *_ = blobs(seed=1)
    plain, shifted = (class_probe(train + s, truth, patients, test + s, how=how, classes=2) for s in (0.0, 1000.0))
    assert (shifted.predicted == plain.predicted).mean() > 0.97


def test_the_svms_folds_are_split_by_patient():
    """A patient's twin of every item would make any C look perfect; by patient the choice sees through it."""
    rng = np.random.default_rng(5)
    values, truth, patients = rng.normal(size=(60, 40)), rng.integers(0, 2, 60), [f"p{row}" for row in range(60)]
    twice, labels = np.concatenate([values, values]), np.concatenate([truth, truth])
    fair = class_probe(twice, labels, patients * 2, values, how="svm", classes=2)
    fooled = class_probe(twice, labels, [f"p{row}" for row in range(120)], values, how="svm", classes=2)
    assert fair.chosen < fooled.chosen


@pytest.mark.parametrize("how", ["svm", "ridge"])
def test_embeddings_of_noise_are_at_chance(how):
    rng = np.random.default_rng(7)
    train, truth = rng.normal(size=(200, 8)), rng.integers(0, 4, 200)
    fit = class_probe(train, truth, [f"p{row}" for row in range(200)], rng.normal(size=(400, 8)), how=how, classes=4)
    assert abs((fit.predicted == rng.integers(0, 4, 400)).mean() - 0.25) < 0.1


def test_equal_votes_go_to_the_nearest():
    train = np.array([[3.0, 1.0], [2.0, 2.0], [-1.0, 3.0], [-2.0, 0.0]])
    truth = np.array([0, 0, 1, 1])
    fit = class_probe(train, truth, list("abcd"), train, how="knn-20", classes=2)
    np.testing.assert_allclose(fit.probability, 0.5, atol=2e-6)
    assert fit.predicted.tolist() == (fit.probability[:, 1] >= 0.5).tolist() == [0, 0, 1, 1]
