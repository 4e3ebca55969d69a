"""Fine-tuning and scoring on clouds through the verbs: classes, parts, few labels, from scratch."""

import csv
import json

import numpy as np
import pytest
import torch

import medssl
from medssl.errors import ConfigError, DataError
from medssl.evaluation.parts import part_scores
from medssl.workflows.evaluate import evaluate
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.pretrain import pretrain
from medssl.workflows.report import report
from pointcloud.shapes import CLASSES, PART_NAMES, parts_of, shape
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.pipelines.test_pretrain_clouds import QUICK as PRETRAIN

NAMES = [name for name in CLASSES if parts_of(name)][:2]
BRIEF = ["train.steps=6", "train.batch_size=4", "train.log_every=3", "train.probe_every=6", "cloud.hidden=[8]",
         "train.accelerator=cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clouds")
    items = [
        CloudItem(
            id=f"{name}-{n}",
            cloud=shape(name, n, seed=0, points=90, parts=True),
            patient=f"{name}-{n}",
            split=("train", "train", "train", "train", "val", "test", "test")[n],
        )
        for name in NAMES
        for n in range(7)
    ]
    store_from_clouds(folder / "store", items, classes=dict(enumerate(CLASSES)), parts=dict(enumerate(PART_NAMES)))
    with pytest.MonkeyPatch.context() as patch:
        import medssl.engine.reporter

        for name in ("draw_progress", "draw_views"):
            patch.setattr(medssl.engine.reporter, name, lambda *_: None)
        pretrain("point_mae_small", data=folder / "store", out=folder / "run", overrides=PRETRAIN)
    return folder


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    import medssl.engine.reporter

    for name in ("draw_progress", "draw_views"):
        monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)


def test_the_task_follows_from_the_labels_or_its_flag_is_named(house, tmp_path, capsys):
    items = [
        CloudItem(id=f"{name}-{n}", cloud=shape(name, n, seed=0, points=90), patient=f"{name}-{n}",
                  split=("train", "train", "val", "test")[n])
        for name in NAMES for n in range(4)
    ]  # fmt: skip
    store_from_clouds(tmp_path / "classes", items, classes=dict(enumerate(CLASSES)))
    run = finetune(house / "run", data=tmp_path / "classes", out=tmp_path / "tuned", overrides=BRIEF)
    assert "task: classification, auto (the store's clouds have classes and no labels of points)" in (
        capsys.readouterr().out
    )
    assert (run.folder / "predictions.csv").is_file()
    with pytest.raises(ConfigError, match="Take --task classification"):
        finetune(house / "run", data=tmp_path / "classes", out=tmp_path / "o", task="segmentation", overrides=BRIEF)
    # labels of points are segmented by; that there are classes too is said
    finetune(house / "run", data=house / "store", out=tmp_path / "p", overrides=BRIEF, dry_run=True)
    said = capsys.readouterr().out
    assert "segmenter of" in said
    assert f"which --task classification learns: class ({NAMES[0]}, {NAMES[1]})" in said


def test_classes_are_learned_predicted_and_scored(house, tmp_path, capsys):
    run = finetune(house / "run", data=house / "store", out=tmp_path / "class", task="classification", overrides=BRIEF)
    said = capsys.readouterr().out
    assert "8 clouds with labels; 2 held out, 4 to predict" in said
    assert "from encoder of" in said
    assert "clouds of 64 points" in said  # as in pretraining
    with (run.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["val"] * 2 + ["test"] * 4
    assert rows[0]["truth"] == NAMES[0]
    network = medssl.load(run.folder)
    again = run.cloud_task()
    points, count = torch.rand(1, 50, 3), torch.tensor([50])
    with torch.no_grad():
        assert torch.equal(network(points, count), again.network(points, count))
    scratch = finetune(house / "run", data=house / "store", out=tmp_path / "scratch", task="classification",
                       from_scratch=True, overrides=BRIEF)  # fmt: skip
    found = evaluate(run.folder, data=house / "store", against=[scratch.folder])
    assert found.score("class", "accuracy", labels=8).interval.patients == 4
    told = capsys.readouterr().out
    assert "4 clouds [95 % t interval over clouds" in told
    assert "Paired, by cloud" in told
    assert "patient" not in told.partition("interval over clouds")[2]
    assert {c.baseline for c in found.comparisons} == {"scratch"}


def test_parts_are_learned_predicted_and_scored(house, tmp_path, capsys):
    run = finetune(house / "run", data=house / "store", out=tmp_path / "parts", task="segmentation", overrides=BRIEF)
    assert len(run.predictions) == 4
    assert set(run.scores) == {"instance_miou", "class_miou", "accuracy"}
    assert run.dice is None
    found = evaluate(run.folder, data=house / "store")
    store = CloudStore.open(house / "store")
    rows = [row for row, e in enumerate(store.entries) if e.split == "test"]
    with (run.folder / "parts.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert [row["id"] for row in listed] == [store.entries[row].id for row in rows]
    predicted = [np.load(run.folder / row["file"]) for row in listed]
    wanted = part_scores([store.labels(row) for row in rows], predicted, [row["class"] for row in listed],
                         {name: parts_of(name) for name in NAMES})  # fmt: skip
    ours = {score.metric: score.interval for score in found.scores}
    assert ours["instance_miou"].estimate == pytest.approx(wanted.instance_miou)
    assert ours["class_miou"].estimate == pytest.approx(wanted.class_miou)
    assert ours["point_accuracy"].estimate == pytest.approx(wanted.accuracy)
    assert ours["instance_miou"].low <= ours["instance_miou"].estimate <= ours["instance_miou"].high
    other = finetune(house / "run", data=house / "store", out=tmp_path / "scratch", task="segmentation",
                     from_scratch=True, overrides=BRIEF)  # fmt: skip
    both = evaluate(run.folder, data=house / "store", against=[other.folder], out=tmp_path)
    assert both.comparisons[0].difference.patients == 4
    written = json.loads((tmp_path / "part_scores.json").read_text())
    assert written["kind"] == "parts"
    # always the part that most points of the class have, of the clouds that are not tested on
    right = points = 0
    for name in NAMES:
        own = [row for row, e in enumerate(store.entries) if store.classes[e.label] == name]
        seen = np.concatenate([store.labels(row) for row in own if row not in rows])
        tested = np.concatenate([store.labels(row) for row in own if row in rows])
        right, points = right + int((tested == np.bincount(seen).argmax()).sum()), points + len(tested)
    assert written["majority"]["point_accuracy"] == pytest.approx(right / points)
    assert set(written["parts_shown"]) <= set(PART_NAMES)
    assert written["clouds"] == dict.fromkeys(sorted(NAMES), 2)
    assert written["runs"][both.comparisons[0].arm]["by_part"] == {
        str(part): pytest.approx(value) for part, value in wanted.by_part.items()
    }
    assert set(written["runs"][both.comparisons[0].arm]["by_part"]) <= set(written["parts"])
    np.save(run.folder / listed[0]["file"], np.zeros(3, np.int32))
    with pytest.raises(DataError, match="3 points; cloud"):
        evaluate(run.folder, data=house / "store")


def test_labels_of_few_are_nested_and_hold_every_class(house, tmp_path):
    lots = {}
    for n in (2, 4):
        finetune(house / "run", data=house / "store", out=tmp_path / str(n), task="classification", labels=n,
                 overrides=[*BRIEF, "train.steps=1"])  # fmt: skip
        lots[n] = set(json.loads((tmp_path / str(n) / "card.json").read_text())["data"]["clouds"])
    assert len(lots[2]) == 2
    assert lots[2] < lots[4]
    assert {name.split("-")[0] for name in lots[2]} == set(NAMES)


def test_resumed_it_is_the_run_that_was_never_stopped(house, tmp_path):
    brief = [*BRIEF, "train.checkpoint_every=3", "train.threads=1"]
    whole = finetune(house / "run", data=house / "store", out=tmp_path / "a", task="segmentation", overrides=brief)
    import shutil

    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-0000006")
    resumed = finetune(house / "run", data=house / "store", out=tmp_path / "b", task="segmentation", overrides=brief,
                       resume=True)  # fmt: skip
    a, b = whole.cloud_task().network.state_dict(), resumed.cloud_task().network.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_does_not_fit_says_why(house, tmp_path):
    with pytest.raises(ConfigError, match="holds clouds, and the encoder 'residual' is for scans"):
        finetune(data=house / "store", out=tmp_path / "x", task="classification")
    with pytest.raises(ConfigError, match="the store has no teapot"):
        finetune(house / "run", data=house / "store", out=tmp_path / "x", task="classification",
                 overrides=["classification.classes=[teapot]"])  # fmt: skip
    items = [CloudItem(id=str(n), cloud=shape(NAMES[0], n, seed=0, points=60), patient=str(n)) for n in range(3)]
    bare = store_from_clouds(tmp_path / "bare", items, classes=dict(enumerate(CLASSES))).folder
    with pytest.raises(DataError, match="fewer than two classes"):
        finetune(house / "run", data=bare, out=tmp_path / "x", task="classification")
    with pytest.raises(DataError, match="no labelled cloud is in the splits"):
        finetune(house / "run", data=bare, out=tmp_path / "x", task="segmentation")
    with pytest.raises(DataError, match="no segmenter of points or classifier predicted anything of clouds here"):
        evaluate(house / "run", data=house / "store")
    assert not (tmp_path / "x").exists()


def test_what_is_said_before_a_run_is_of_clouds(house, tmp_path, capsys):
    finetune(house / "run", data=house / "store", out=tmp_path / "x", task="classification", labels=2,
             overrides=["train.batch_size=2"], dry_run=True)  # fmt: skip
    said = capsys.readouterr().out
    assert "draw 0 of 2 labelled objects" in said
    assert "2 clouds a step are few" in said


def test_runs_on_clouds_are_reported_and_exported_as_such(house, tmp_path):
    finetune(house / "run", data=house / "store", out=tmp_path / "class", task="classification", overrides=BRIEF)
    evaluate(tmp_path / "class", data=house / "store")
    report(house / "run", tmp_path / "class", out=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"{NAMES[0]}, {NAMES[1]}" in page  # every class, the first too
    assert ">structures<" not in page
    assert "clouds right and wrong" in page
    assert "no store that was given" not in page
    assert "Where the encoder looks" in page

    for run, name in ((house / "run", "encoder"), (tmp_path / "class", "network")):
        export(run, to="safetensors", out=tmp_path / name)
        again, before = medssl.load(tmp_path / name).state_dict(), medssl.load(run).state_dict()
        assert all(torch.equal(again[key], before[key]) for key in before)
        with pytest.raises(ConfigError, match="is of clouds"):
            export(run, to="onnx", out=tmp_path / "x.onnx")


def test_a_store_of_clouds_is_reported(house, tmp_path):
    report(house / "store", out=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"{NAMES[0]} 7, {NAMES[1]} 7" in page
    assert "14 clouds; nothing has been trained on them yet" in page
    assert "patients" not in page


def test_a_manifest_of_clouds_is_reported(tmp_path):
    (tmp_path / "in").mkdir()
    for n in range(4):
        np.save(tmp_path / "in" / f"{n}.npy", shape(NAMES[0], n, seed=0, points=80).points)
    index(tmp_path / "in", out=tmp_path / "m.parquet")
    report(tmp_path / "m.parquet", out=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for words in (">clouds<", ">objects<", "points of a cloud"):
        assert words in page
    assert "scans<" not in page
    assert "patients<" not in page
