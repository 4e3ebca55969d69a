"""The probe protocol on clouds: the way, the probes and the measures are those of scans."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from medssl.domains.domain import DOMAINS, domain_of
from medssl.engine.card import Card, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.workflows.embed import EmbedSettings, embed
from medssl.workflows.evaluate import evaluate
from medssl.workflows.evaluate_settings import ProbeSettings
from pointcloud.batch import CloudPlan
from pointcloud.cloud import make_cloud
from pointcloud.embedding import drawing_words, embed_drawn, load_cloud_encoder
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds

ENCODER = {"name": "pointnet", "widths": [8, 16]}
BRIEF = ["probe.few_shot=[[2,3]]", "probe.tasks=4", "probe.batch_size=7", "probe.shares=[0.5,1]", "probe.draws=2"]


@pytest.fixture
def store(tmp_path):
    """Two classes that any encoder distinguishes: a needle and a ball."""
    draw = np.random.default_rng(0)
    items = []
    for number in range(30):
        wide = (1.0, 1.0, 1.0) if number % 2 else (1.0, 0.02, 0.02)
        cloud = make_cloud(draw.normal(size=(40 + number, 3)) * wide, label=number % 2)
        split = "train" if number < 14 else "val" if number < 18 else "test"
        items.append(CloudItem(id=f"c{number}", cloud=cloud, patient=f"p{number // 2}", split=split))
    return store_from_clouds(tmp_path / "store", items, classes={0: "needle", 1: "ball"}).folder


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    encoder = CLOUD_ENCODERS.build(ENCODER)
    (tmp_path / "run").mkdir()
    full = encoder.settings.model_dump(mode="json") if hasattr(encoder, "settings") else ENCODER
    card = Card(kind="cloud", encoder=full, in_channels=3, channels=encoder.channels, points=32)
    save_encoder(encoder, card, tmp_path / "run")
    return tmp_path / "run"


def test_the_probes_of_scans_read_clouds_against_random_encoders_and_the_majority(store, run, tmp_path, capsys):
    found = evaluate(run, data=store, out=tmp_path / "out", against=["random"], protocol="probe", overrides=BRIEF)
    assert {row.arm for row in found.scores} == {"run", "random", "majority"}
    assert {row.how for row in found.scores} == {"linear", "knn", "svm", "ridge"}
    assert {row.labels for row in found.scores} == {4, 7}
    assert all(row.interval.patients == 6 for row in found.scores)
    assert found.score("run", "auroc", how="linear", labels=7).interval.estimate > 0.9
    assert found.score("majority", "auroc", how="linear", labels=7).interval.estimate == 0.5
    assert {(row.arm, row.baseline, row.change) for row in found.comparisons} == {("run", "random", "pretraining")}
    written = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert (written["kind"], written["target"], written["classes"]) == ("classification", "class", ["needle", "ball"])
    assert list(written["few_shot"]) == ["run", "random-seed0", "random-seed1"]
    (task,) = written["few_shot"]["run"]
    assert (task["ways"], task["shots"], len(task["accuracies"])) == (2, 3, 4)
    columns = pl.read_csv(tmp_path / "out/probe.csv").columns
    assert columns[5:] == ["auroc", "auprc", "balanced_accuracy", "f1", "accuracy", "ece", "brier"]
    again = evaluate(run, data=store, out=tmp_path / "again", protocol="probe", overrides=BRIEF)
    assert again.scores == found.scores
    told = capsys.readouterr().out
    assert (
        "class (needle, ball) off the frozen encoders of run and 2 random ones; n = 4, 7 of 7 labelled patients" in told
    )
    assert "12 test cases of 6 patients" in told
    assert "2-way 3-shot" in told


def test_the_file_that_embed_writes_gives_the_probes_own_figure(store, run, tmp_path, capsys):
    from sklearn.neighbors import KNeighborsClassifier

    found = evaluate(
        run,
        data=store,
        out=tmp_path / "out",
        protocol="probe",
        overrides=[*BRIEF, "probe.how=[knn-20]", "probe.metric=accuracy"],
    )
    told = "vectors are means over 3 draws of a cloud's points, by its id; over draws a cloud's vectors vary by"
    assert told in " ".join(capsys.readouterr().out.split())
    embed(run, data=store, out=tmp_path / "all.npz")
    # in another order and company than the probe's, and in a batch of another size
    embed(run, data=store, out=tmp_path / "test.npz", overrides=["splits=[test]", "batch_size=5"])
    assert told in " ".join(capsys.readouterr().out.split())
    label = {entry.id: entry.label for entry in CloudStore.open(store).entries}
    with np.load(tmp_path / "all.npz") as file, np.load(tmp_path / "test.npz") as part:
        ids, vectors, splits = file["id"], file["vectors"].astype(float), file["split"]
        np.testing.assert_allclose(vectors[splits == "test"], part["vectors"], rtol=1e-4, atol=1e-6)
    fit = (splits == "train") | (splits == "")
    vectors -= vectors[fit].mean(axis=0)
    classes = np.array([label[name] for name in ids])
    neighbours = KNeighborsClassifier(min(20, fit.sum()), metric="cosine").fit(vectors[fit], classes[fit])
    votes = neighbours.predict_proba(vectors[splits == "test"])
    right = votes.argmax(axis=1) == classes[splits == "test"]
    tied = np.abs(votes[:, 0] - 0.5) < 1e-9  # which the probe gives to the nearest
    nearest = classes[fit][neighbours.kneighbors(vectors[splits == "test"], 1)[1][:, 0]]
    right[tied] = (nearest == classes[splits == "test"])[tied]
    # The first draw of labelled objects is read off those very points, the second off others.
    score = found.score("run", "accuracy", how="knn-20", labels=7)
    assert score.draw_means[0] == pytest.approx(right.mean())
    assert score.interval.draws == 2


def test_features_do_not_change_with_what_lies_beside(store, run):
    encoder, known = load_cloud_encoder(run), CloudStore.open(store)
    names = [entry.id for entry in known.entries]
    plan = CloudPlan(points=32)
    (whole,) = embed_drawn(encoder, known, plan, batch_size=8)
    (some,) = embed_drawn(encoder, known.subset(names[::-2]), plan, batch_size=3)
    np.testing.assert_allclose(some.vectors, whole.vectors[::-2], rtol=1e-4, atol=1e-6)
    assert whole.draws == 3
    assert 0 < whole.share < 1
    (one,) = embed_drawn(encoder, known, plan, batch_size=8, draws=1)
    assert (one.draws, one.share, drawing_words(one)) == (1, None, "")
    assert not np.allclose(one.vectors, whole.vectors)
    (taken,) = embed_drawn(encoder, known, CloudPlan(points=100), batch_size=8, times=4)
    assert taken.draws == 1
    first, second = embed_drawn(encoder, known, plan, batch_size=8, times=2)
    assert np.array_equal(first.vectors, whole.vectors)
    assert not np.allclose(second.vectors, whole.vectors)
    assert ProbeSettings().point_draws == EmbedSettings().point_draws


def test_a_task_that_the_classes_do_not_allow_is_named_once(store, run, tmp_path, capsys):
    evaluate(run, data=store, out=tmp_path / "out", protocol="probe",
             overrides=[*BRIEF, "probe.few_shot=[[2,3],[5,10]]", "probe.how=[knn]"])  # fmt: skip
    assert capsys.readouterr().err.count("5-way 10-shot is left out") == 1


def test_classes_that_a_draw_lacks_are_said(tmp_path, run, capsys):
    """A patient has organs of several classes, so that a draw of few patients need not hold all."""
    draw = np.random.default_rng(0)
    items = [
        CloudItem(id=f"c{n}", cloud=make_cloud(draw.normal(size=(40, 3)), label=label), patient=patient, split=split)
        for n, (patient, label, split) in enumerate(
            [("a", 0, "train"), ("a", 1, "train"), ("b", 0, "train"), ("b", 2, "train"),
             *((f"t{k}", k % 3, "test") for k in range(6))]
        )
    ]  # fmt: skip
    folder = store_from_clouds(tmp_path / "store", items, classes={0: "x", 1: "y", 2: "z"}).folder
    evaluate(run, data=folder, out=tmp_path / "out", protocol="probe",
             overrides=["probe.sizes=[1,2]", "probe.how=[knn]", "probe.random=1", "probe.draws=2"])  # fmt: skip
    assert "with 1 labelled objects some draws lack classes" in capsys.readouterr().err


def test_a_patient_on_both_sides_is_refused(tmp_path, run):
    draw = np.random.default_rng(0)
    items = [
        CloudItem(id=f"c{n}", cloud=make_cloud(draw.normal(size=(40, 3)), label=n % 2), patient=patient, split=split)
        for n, (patient, split) in enumerate([("a", "train"), ("b", "train"), ("b", "test"), ("c", "train")])
    ]
    folder = store_from_clouds(tmp_path / "leaky", items, classes={0: "x", 1: "y"}).folder
    with pytest.raises(DataError, match="1 patients are both in 'train' and in 'test'"):
        evaluate(run, data=folder, out=tmp_path / "out", protocol="probe")


def test_what_cannot_be_probed_says_why(store, run, tmp_path):
    with pytest.raises(DataError, match=r"by split: \{'test': 12, 'train': 14, 'val': 4\}"):
        evaluate(run, data=store, protocol="probe", out=tmp_path / "o", overrides=["split=nowhere"])
    with pytest.raises(ConfigError, match="takes a store of clouds"):
        evaluate(run, data=tmp_path, protocol="probe", out=tmp_path / "o")
    with pytest.raises(ConfigError, match="few-label"):
        evaluate(run, data=store, protocol="probe", out=tmp_path / "o", shard="1/2")
    with pytest.raises(ConfigError, match="needs a pretraining run"):
        evaluate("random", data=store, protocol="probe", out=tmp_path / "o")
    assert len(CloudStore.open(store)) == 30


def test_a_store_says_its_domain(store, tmp_path):
    assert list(DOMAINS) == ["volumes", "points"]
    assert domain_of(store).name == "points"
    assert domain_of(tmp_path).name == "volumes"
