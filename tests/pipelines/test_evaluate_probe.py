"""The probe protocol: frozen encoders by fixed rules, the last checkpoint, nothing chosen on what is scored."""

import json

import numpy as np
import pytest
import torch

from medssl.engine.card import Card, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.evaluation.protocols import probe
from pipelines.embed import EmbedSettings, embed
from pipelines.embedded import Embedded
from pipelines.evaluate import evaluate
from pipelines.evaluate_probe import probe_runs
from pipelines.evaluate_settings import EvaluateSettings, ProbeSettings
from pipelines.probe_clouds import random_encoder
from pointcloud.batch import CloudPlan
from pointcloud.cloud import make_cloud
from pointcloud.embedding import drawing_words, embed_drawn, load_cloud_encoder
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds

ENCODER = {"name": "pointnet", "widths": [8, 16]}
BRIEF = ["probe.few_shot=[[2,3]]", "probe.draws=4", "probe.batch_size=7"]


@pytest.fixture
def store(tmp_path):
    """Two classes that any encoder tells apart: a needle and a ball."""
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


def test_probes_and_few_shot_tasks_are_scored_against_fresh_weights(store, run, tmp_path, capsys):
    found = evaluate(run, data=store, out=tmp_path / "out", against=["random", "random-7"], protocol="probe",
                     overrides=BRIEF)  # fmt: skip
    assert list(dict.fromkeys(row.arm for row in found.scores)) == ["run", "random", "random-7"]
    assert [row.how for row in found.scores if row.arm == "run"] == ["svm-c1", "svm-cv", "knn", "linear"]
    assert all(row.interval.patients == 6 for row in found.scores)
    assert found.score("run", "probe_accuracy", how="linear").interval.estimate > 0.9
    assert {c.baseline for c in found.comparisons} == {"random", "random-7"}
    written = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert written["encoders"]["random"]["probes"][0]["protocol"] == "svm-c1"
    assert all(row["chance"] == 0.5 for row in written["encoders"]["run"]["probes"])
    (task,) = written["encoders"]["run"]["few_shot"]
    assert (task["ways"], task["shots"], len(task["accuracies"])) == (2, 3, 4)
    assert {row["change"] for row in written["comparisons"]} == {"pretraining"}
    again = evaluate(run, data=store, out=tmp_path / "again", protocol="probe", overrides=BRIEF)
    assert again.scores == [row for row in found.scores if row.arm == "run"]
    assert "14 clouds of 2 classes to fit on, 12 to score" in capsys.readouterr().out


def test_the_file_that_embed_writes_gives_the_probes_own_figure(store, run, tmp_path, capsys):
    from sklearn.neighbors import KNeighborsClassifier

    found = evaluate(run, data=store, out=tmp_path / "out", against=["random"], protocol="probe",
                     overrides=[*BRIEF, "probe.protocols=[knn]"])  # fmt: skip
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
    assert found.score("run", "probe_accuracy", how="knn").interval.estimate == pytest.approx(right.mean())


def test_features_do_not_change_with_what_lies_beside(store, run):
    encoder, known = load_cloud_encoder(run), CloudStore.open(store)
    names = [entry.id for entry in known.entries]
    plan = CloudPlan(points=32)
    whole = embed_drawn(encoder, known, plan, batch_size=8)
    some = embed_drawn(encoder, known.subset(names[::-2]), plan, batch_size=3)
    np.testing.assert_allclose(some.vectors, whole.vectors[::-2], rtol=1e-4, atol=1e-6)
    assert whole.draws == 3
    assert 0 < whole.share < 1
    one = embed_drawn(encoder, known, plan, batch_size=8, draws=1)
    assert (one.draws, one.share, drawing_words(one)) == (1, None, "")
    assert not np.allclose(one.vectors, whole.vectors)
    assert embed_drawn(encoder, known, CloudPlan(points=100), batch_size=8).draws == 1
    assert ProbeSettings().point_draws == EmbedSettings().point_draws


def test_a_task_that_the_classes_do_not_allow_is_named_once(store, run, tmp_path, capsys):
    evaluate(run, data=store, out=tmp_path / "out", against=["random", "random-7"], protocol="probe",
             overrides=[*BRIEF, "probe.few_shot=[[2,3],[5,10]]"])  # fmt: skip
    told = capsys.readouterr()
    assert (told.out + told.err).count("5-way 10-shot is left out") == 1


def test_fresh_weights_are_a_function_of_the_seed(run):
    one, same, other = (random_encoder(run, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_patient_with_several_items_counts_once(tmp_path):
    draw = np.random.default_rng(1)
    fit, score = draw.normal(size=(20, 4)).astype(np.float32), draw.normal(size=(9, 4)).astype(np.float32)
    classes, asked = tuple("ab" * 10), tuple("aabbaabba")
    owners = ("x",) * 5 + ("y", "z", "u", "v")
    found = Embedded(fit=fit, score=score, fit_classes=classes, score_classes=asked,
                     fit_patients=tuple(map(str, range(20))), score_patients=owners)  # fmt: skip
    settings = EvaluateSettings(probe=ProbeSettings(protocols=("knn",), few_shot=()))
    (row,) = probe_runs({"one": found}, tmp_path, settings).scores
    right = probe(fit, classes, score, asked, protocol="knn").right
    wanted = (right[:5].mean() + right[5:].sum()) / 5
    assert row.interval.estimate == pytest.approx(wanted)
    assert row.interval.patients == 5


def test_a_cloud_of_a_scored_patient_is_not_fitted_on(tmp_path, run):
    draw = np.random.default_rng(0)
    items = [
        CloudItem(id=f"c{n}", cloud=make_cloud(draw.normal(size=(40, 3)), label=n % 2), patient=patient, split=split)
        for n, (patient, split) in enumerate([("a", "train"), ("b", "train"), ("b", "test"), ("c", "train")])
    ]
    folder = store_from_clouds(tmp_path / "leaky", items, classes={0: "x", 1: "y"}).folder
    from pipelines.probe_clouds import CloudProbe

    probe_of = CloudProbe(folder, EvaluateSettings())
    assert probe_of.embedded(run, like=run).fit_patients == ("a", "c")


def test_what_cannot_be_probed_says_why(store, run, tmp_path):
    with pytest.raises(DataError, match=r"Clouds with a class by split: \{'test': 12, 'train': 14, 'val': 4\}"):
        evaluate(run, data=store, protocol="probe", overrides=["split=nowhere"])
    with pytest.raises(ConfigError, match="takes a store of clouds"):
        evaluate(run, data=tmp_path, protocol="probe")
    with pytest.raises(ConfigError, match="few-label"):
        evaluate(run, data=store, protocol="probe", shard="1/2")
    assert len(CloudStore.open(store)) == 30
