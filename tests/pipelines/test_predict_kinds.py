"""``medssl predict`` on cases of several channels, classes of scans, classes and parts of clouds."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medssl
from medssl.errors import ConfigError, DataError
from medssl.formats.nifti import write_nifti
from medssl.randomness import numpy_generator
from medssl.workflows.cache import cache
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.predict import predict
from pointcloud.shapes import CLASSES, parts_of, shape

UNET = ["train.steps=3", "train.log_every=2", "train.checkpoint_every=100", "train.threads=1",
        "train.accelerator=cpu", "encoder.name=unet", "encoder.channels=[4,8]"]  # fmt: skip
SHAPE = (12, 14, 13)


def said(capsys) -> str:
    return " ".join("".join(capsys.readouterr()).split())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def case(folder: Path, number: int, names=("t1", "flair"), *, label: bool = False) -> None:
    draw = numpy_generator(4, number)
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 4:10, 3:9] = 1
    for name in names:
        values = draw.normal(300, 30, SHAPE) + (200.0 if name == "flair" else -150.0) * labels.astype(float)
        write_nifti(folder / f"p{number}/p{number}_{name}.nii.gz", values.astype(np.float32), np.diag([1, 1.1, 1.2, 1]))
    if label:
        write_nifti(folder / f"p{number}/p{number}_seg.nii.gz", labels, np.diag([1, 1.1, 1.2, 1]))


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    home = tmp_path_factory.mktemp("channels")
    for number in range(4):
        case(home / "scans", number, label=True)
    index(home / "scans", out=home / "m.parquet", overrides=["modality=MR", "channels=t1,flair", "test=0.3", "val=0"])
    store = cache(home / "m.parquet", out=home / "store", overrides=["workers=1"]).store
    assert store.channels == ("t1", "flair")
    run = finetune(data=home / "store", out=home / "run", overrides=[*UNET, "segmentation.window=[12,12,12]"])
    assert run.predictions
    return home


def test_cases_are_predicted_as_those_of_the_store(channels, tmp_path):
    found = predict(channels / "run", channels / "scans", out=tmp_path / "out", overrides=["modality=MR"])
    assert len(found.done) == 4
    theirs = sorted((channels / "run/predictions").glob("*.nii.gz"))
    for path in theirs:
        ours = nib.load(tmp_path / "out" / path.name)
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(nib.load(path).dataobj))
    files = [channels / f"scans/p0/p0_{name}.nii.gz" for name in ("flair", "t1")]  # the shell's order is no matter
    alone = predict(channels / "run", *files, out=tmp_path / "one", overrides=["modality=MR"])
    assert len(alone.done) == 1
    stacked = np.stack([np.asarray(nib.load(path).dataobj).transpose(2, 1, 0) for path in files[::-1]])
    of_array = medssl.load_model(channels / "run").predict(stacked, spacing_mm=(1.2, 1.1, 1.0))
    written = np.asarray(nib.load(alone.files[alone.done[0]][0]).dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(of_array.labels, written)


def test_files_numbered_as_nnunet_does_are_taken_by_their_numbers(channels, tmp_path):
    """One new patient of two files shows no rule by itself: `channels=0000,0001` had been refused as well."""
    (tmp_path / "new").mkdir()
    for number, name in enumerate(("t1", "flair")):
        shutil.copy(channels / f"scans/p0/p0_{name}.nii.gz", tmp_path / f"new/anna_{number:04d}.nii.gz")
    with pytest.raises(DataError, match="none of the 2 scans"):
        predict(channels / "run", tmp_path / "new", out=tmp_path / "guessed", overrides=["modality=MR"])
    said = (tmp_path / "guessed/predictions.csv").read_text()
    assert "channels=0000,0001 takes these in the order of the run's" in said
    asked = ["modality=MR", "channels=0000,0001"]
    found = predict(channels / "run", tmp_path / "new", out=tmp_path / "out", overrides=asked)
    assert list(found.done) == ["anna"]
    named = [channels / f"scans/p0/p0_{name}.nii.gz" for name in ("t1", "flair")]
    other = predict(channels / "run", *named, out=tmp_path / "named", overrides=["modality=MR"])
    one, two = (np.asarray(nib.load(each.files[each.done[0]][0]).dataobj) for each in (found, other))
    np.testing.assert_array_equal(one, two)


def test_channels_by_number_are_of_one_patient(channels, tmp_path):
    """Two patients would lie on both sides of a split."""
    (tmp_path / "new").mkdir()
    for person in ("anna", "bert", "cora"):
        for number, name in enumerate(("t1", "flair")):
            shutil.copy(channels / f"scans/p0/p0_{name}.nii.gz", tmp_path / f"new/{person}_{number:04d}.nii.gz")
    rows = list(index(tmp_path / "new", out=tmp_path / "m.parquet", channels="0000,0001").manifest.rows())
    assert {(row["patient"], row["case"]) for row in rows} == {(name, name) for name in ("anna", "bert", "cora")}
    assert sorted(row["channel"] for row in rows) == ["0000"] * 3 + ["0001"] * 3


def test_a_channel_that_is_lacking_or_out_of_order_is_refused_by_name(channels, tmp_path):
    case(tmp_path / "new", 7)
    case(tmp_path / "new", 8, ("t1",))
    found = predict(channels / "run", tmp_path / "new", out=tmp_path / "out")
    assert len(found.done) == 1
    (why,) = found.failed.values()
    assert "lacks flair" in why
    with pytest.raises(ConfigError, match="'t1' stands in place 2"):
        predict(channels / "run", tmp_path / "new", out=tmp_path / "out2", overrides=["channels=flair,t1"])
    case(tmp_path / "odd", 9, ("t1w", "t2"))
    with pytest.raises(ConfigError, match="takes 2 channels"):
        predict(channels / "run", tmp_path / "odd", out=tmp_path / "out3", overrides=["channels=t1w"])
    with pytest.raises(ConfigError, match=r"\(2, z, y, x\) of t1, flair"):
        medssl.load_model(channels / "run").predict(np.zeros(SHAPE), spacing_mm=(1, 1, 1))


def test_frames_and_other_names_are_taken_by_hand(channels, tmp_path):
    case(tmp_path / "plain", 5)
    draw = [
        np.asarray(nib.load(tmp_path / f"plain/p5/p5_{n}.nii.gz").dataobj).transpose(2, 1, 0) for n in ("t1", "flair")
    ]
    write_nifti(tmp_path / "four/p5.nii.gz", np.stack(draw), np.diag([1, 1.1, 1.2, 1]))
    plain = predict(channels / "run", tmp_path / "plain", out=tmp_path / "o1")
    four = predict(channels / "run", tmp_path / "four", out=tmp_path / "o2")
    maps = [np.asarray(nib.load(found.files[found.done[0]][0]).dataobj) for found in (plain, four)]
    np.testing.assert_array_equal(*maps)


def frames(folder: Path, order: tuple[str, ...], names: tuple[str, ...] = ()) -> None:
    """Write case 5 as one file whose frames come in this order, named by a dataset.json unless there are no names."""
    draw = [np.asarray(nib.load(folder.parent / f"plain/p5/p5_{n}.nii.gz").dataobj).transpose(2, 1, 0) for n in order]
    write_nifti(folder / "imagesTs/p5.nii.gz", np.stack(draw), np.diag([1, 1.1, 1.2, 1]))
    if names:
        described = {"name": "x", "modality": dict(enumerate(names)), "labels": {}, "training": [],
                     "test": ["./imagesTs/p5.nii.gz"]}  # fmt: skip
        (folder / "dataset.json").write_text(json.dumps(described))


def test_frames_go_by_the_names_of_a_dataset_json_whatever_their_order(channels, tmp_path, capsys):
    case(tmp_path / "plain", 5)
    frames(tmp_path / "turned", ("flair", "t1"), ("FLAIR", "T1"))
    frames(tmp_path / "other", ("flair", "t1"), ("swi", "t2"))
    frames(tmp_path / "nameless", ("t1", "flair"))
    plain = predict(channels / "run", tmp_path / "plain", out=tmp_path / "o1")
    wanted = np.asarray(nib.load(plain.files[plain.done[0]][0]).dataobj)
    capsys.readouterr()
    for name in ("turned", "nameless"):
        found = predict(channels / "run", tmp_path / name, out=tmp_path / f"o-{name}")
        np.testing.assert_array_equal(np.asarray(nib.load(found.files[found.done[0]][0]).dataobj), wanted)
        guessed = "guess: nothing names the frames of 1 4D files; they are taken for t1, flair" in said(capsys)
        assert guessed == (name == "nameless")
    with pytest.raises(DataError, match="none of the 1 scans"):
        predict(channels / "run", tmp_path / "other", out=tmp_path / "o-other")
    assert "lacks t1, flair" in said(capsys)
    by_hand = predict(channels / "run", tmp_path / "other", out=tmp_path / "o-hand", overrides=["channels=t2,swi"])
    np.testing.assert_array_equal(np.asarray(nib.load(by_hand.files[by_hand.done[0]][0]).dataobj), wanted)


def test_a_run_of_one_named_channel_takes_no_other_silently(channels, tmp_path):
    index(channels / "scans", out=tmp_path / "m.parquet", overrides=["modality=MR", "channels=t1", "test=0.3", "val=0"])
    cache(tmp_path / "m.parquet", out=tmp_path / "store", overrides=["workers=1"])
    finetune(data=tmp_path / "store", out=tmp_path / "run", overrides=[*UNET, "segmentation.window=[12,12,12]"])
    assert len(predict(tmp_path / "run", channels / "scans", out=tmp_path / "own").done) == 4
    case(tmp_path / "new", 9, ("t1w", "t2w"))
    predict(tmp_path / "run", tmp_path / "new", out=tmp_path / "all")
    told = {row["id"]: row["differs"] for row in rows(tmp_path / "all")}
    assert "it is the channel t2w, and" in told["p9_t2w"]
    assert "channel" not in told["p9_t1w"]
    named = predict(tmp_path / "run", tmp_path / "new", out=tmp_path / "named", overrides=["channels=t1w"])
    assert list(named.done) == ["p9_t1w"]
    for wrong, why in (("flair", "Channels that were found: t1w, t2w"), ("frames", "takes one channel, t1")):
        with pytest.raises(ConfigError, match=why):
            predict(tmp_path / "run", tmp_path / "new", out=tmp_path / "no", overrides=[f"channels={wrong}"])


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    home = tmp_path_factory.mktemp("classes")
    lines = [
        "path,patient,split",
        *(f"s/p{n}.nii.gz,p{n},{s}" for n, s in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2)),
    ]
    for number in range(8):
        values = numpy_generator(6, number).normal(0, 20, (10, 12, 11)) + 300 * (number % 2)
        values[:, :2] = -1000
        write_nifti(home / f"s/p{number}.nii.gz", values.astype(np.int16), np.diag([1.0, 1.1, -1.4, 1.0]))
    (home / "list.csv").write_text("\n".join(lines) + "\n")
    (home / "t.csv").write_text("patient,kind\n" + "".join(f"p{n},{'ab'[n % 2]}\n" for n in range(8)))
    index(home / "list.csv", out=home / "m.parquet", overrides=["modality=CT", f"targets={home / 't.csv'}"])
    cache(home / "m.parquet", out=home / "store", overrides=["workers=1"])
    for level, window in (("volume", "[8,8,8]"), ("slice", "[1,8,8]")):
        flat = ["encoder.dims=2"] if level == "slice" else []
        finetune(data=home / "store", out=home / level, task="classification",
                 overrides=[*UNET, *flat, "classification.target=kind", f"classification.window={window}",
                            f"classification.level={level}"])  # fmt: skip
    return home


@pytest.mark.parametrize("level", ["volume", "slice"])
def test_classes_of_scans_are_those_of_the_runs_own_table(classes, tmp_path, level):
    (classes / "new").mkdir(exist_ok=True)
    for number in (6, 7):
        (classes / f"new/p{number}.nii.gz").write_bytes((classes / f"s/p{number}.nii.gz").read_bytes())
    predict(classes / level, classes / "new", out=tmp_path / "out")
    with (classes / level / "predictions.csv").open() as file:
        theirs = {row["id"].rpartition("-")[2]: row for row in csv.DictReader(file) if row["split"] == "test"}
    found = rows(tmp_path / "out")
    assert len(found) == 2
    for row in found:
        for name in ("predicted", "p_a", "p_b"):
            assert row[name] == theirs[row["id"]][name]
    of_python = medssl.load_model(classes / level).predict(classes / "new/p6.nii.gz")
    assert f"{of_python.probabilities['a']:.6g}" == theirs["p6"]["p_a"]
    both = predict(
        [classes / level, classes / level], classes / "new", out=tmp_path / "both", overrides=["table=parquet"]
    )
    assert both.table.suffix == ".parquet"


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    home = tmp_path_factory.mktemp("clouds")
    names = [name for name in CLASSES if parts_of(name)][:2]
    for name in names:
        for number in range(6):
            made = shape(name, number, seed=0, points=90, parts=True)
            split = ("train", "train", "train", "train", "val", "test")[number]
            path = home / f"s/{name}/{split}/{name}{number}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, points=made.points, labels=made.labels)
    index(home / "s", out=home / "m.parquet", overrides=["unit=mm"])
    cache(home / "m.parquet", out=home / "store", overrides=["workers=1"])
    brief = ["train.steps=3", "train.batch_size=4", "train.log_every=3", "cloud.hidden=[8]", "train.accelerator=cpu",
             "encoder.name=pointnet", "cloud.points=64", "train.threads=1"]  # fmt: skip
    for task, preset in (("classification", "point_classification_small"), ("segmentation", "point_parts_small")):
        finetune(data=home / "store", out=home / task, task=task, preset=preset, overrides=brief)
    return home


def test_classes_of_clouds_are_those_of_the_runs_own_table(clouds, tmp_path):
    predict(clouds / "classification", clouds / "s", out=tmp_path / "out")
    with (clouds / "classification/predictions.csv").open() as file:
        theirs = {row["id"]: row for row in csv.DictReader(file)}
    found = {row["id"]: row for row in rows(tmp_path / "out")}
    assert len(found) == 12
    assert theirs
    for name, row in theirs.items():
        chances = {key: value for key, value in row.items() if key.startswith("p_")}
        assert chances == {key: found[name][key] for key in chances}
        assert row["predicted"] == found[name]["predicted"]


def test_parts_are_those_of_the_run_in_the_order_of_the_file(clouds, tmp_path):
    from plyfile import PlyData

    found = predict(clouds / "segmentation", clouds / "s", out=tmp_path / "out", overrides=["uncertainty=true"])
    assert len(found.done) == 12
    with (clouds / "segmentation/parts.csv").open() as file:
        for row in csv.DictReader(file):
            theirs = np.load(clouds / "segmentation" / row["file"])
            vertex = PlyData.read(tmp_path / "out" / found.files[row["id"]][0].name)["vertex"]
            np.testing.assert_array_equal(vertex["label"], theirs)
    one = next((clouds / "s").rglob("*5.npz"))
    with np.load(one) as source:
        points = source["points"].astype(np.float64)
    holed = np.insert(points, [0, 40], np.nan, axis=0)
    np.save(tmp_path / "holed.npy", holed)
    again = predict(clouds / "segmentation", tmp_path / "holed.npy", out=tmp_path / "o2", overrides=["unit=mm"])
    vertex = PlyData.read(again.files[again.done[0]][0])["vertex"]
    assert len(vertex) == len(holed)
    missing = np.isnan(holed[:, 0])
    np.testing.assert_array_equal(np.asarray(vertex["label"])[missing], -1)
    np.testing.assert_allclose(np.stack([vertex[a] for a in "xyz"], axis=1)[~missing], points, atol=1e-6)
    assert "nothing says its class" in rows(tmp_path / "o2")[0]["differs"]


def test_a_large_cloud_gets_a_part_at_every_point(clouds, tmp_path):
    big = shape(CLASSES[0], 3, seed=1, points=9000).points
    np.save(tmp_path / "big.npy", big)
    found = medssl.load_model(clouds / "segmentation").predict(tmp_path / "big.npy")
    assert found.labels.shape == (9000,)
    np.testing.assert_array_equal(medssl.load_model(clouds / "segmentation").predict(big).labels, found.labels)


def test_of_clouds_several_runs_are_averaged_and_chances_add_up(clouds, tmp_path):
    from plyfile import PlyData

    seeds = {"classification": "point_classification_small", "segmentation": "point_parts_small"}
    brief = ["train.steps=3", "train.batch_size=4", "train.log_every=3", "cloud.hidden=[8]", "train.accelerator=cpu",
             "encoder.name=pointnet", "cloud.points=64", "train.threads=1", "train.seed=7"]  # fmt: skip
    one = next((clouds / "s").rglob("*5.npz"))
    with np.load(one) as source:
        points = source["points"]
    for task, preset in seeds.items():
        finetune(data=clouds / "store", out=tmp_path / task, task=task, preset=preset, overrides=brief)
        runs = [clouds / task, tmp_path / task]
        each = [medssl.load_model(run).predict(points).probabilities for run in runs]
        mean = medssl.load_model(runs).predict(points).probabilities
        if task == "classification":
            for name, chance in mean.items():
                assert chance == pytest.approx((each[0][name] + each[1][name]) / 2, abs=1e-5)
            assert each[0] != each[1]
            continue
        np.testing.assert_allclose(mean, (each[0] + each[1]) / 2, atol=1e-5)
        wanted = ["probabilities=true", "uncertainty=true", "unit=mm"]
        found = predict(runs, one, out=tmp_path / "out", overrides=wanted)
        vertex = PlyData.read(found.files[found.done[0]][0])["vertex"]
        names = [name for name in vertex.data.dtype.names if name.startswith("p")]
        chances = np.stack([vertex[name] for name in names], axis=-1).astype(np.float64)
        np.testing.assert_allclose(chances.sum(axis=-1), 1.0, atol=1e-4)
        numbers = sorted(int(number) for number in json.loads((tmp_path / "out/labels.json").read_text())["parts"])
        assert len(numbers) == len(names)
        np.testing.assert_array_equal(np.asarray(vertex["label"]), np.array(numbers)[chances.argmax(axis=-1)])
        entropy = -(chances * np.log(np.clip(chances, 1e-12, None))).sum(axis=-1) / np.log(len(names))
        np.testing.assert_allclose(vertex["uncertainty"], entropy, atol=1e-3)


def test_bad_clouds_are_named_and_nothing_is_done_twice(clouds, tmp_path, monkeypatch):
    import pointcloud.predicting

    good = [path.read_bytes() for path in sorted((clouds / "s").rglob("*.npz"))[:2]]
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a.npz").write_bytes(good[0])
    (tmp_path / "new/b.npz").write_bytes(good[1][:60])
    np.save(tmp_path / "new/nan.npy", np.full((70, 3), np.nan))
    (tmp_path / "new/empty.xyz").write_text("")
    found = predict(clouds / "segmentation", tmp_path / "new", out=tmp_path / "out", overrides=["unit=mm"])
    assert found.done == ("a",)
    assert set(found.failed) == {"b", "nan", "empty"}
    assert all(found.failed.values())
    made = []
    whole = pointcloud.predicting.CloudWorker.prepare
    monkeypatch.setattr(
        pointcloud.predicting.CloudWorker,
        "prepare",
        lambda self, item, folder: made.append(item.id) or whole(self, item, folder),
    )
    (tmp_path / "new/b.npz").write_bytes(good[1])
    again = predict(clouds / "segmentation", tmp_path / "new", out=tmp_path / "out", overrides=["unit=mm"])
    assert made == ["b"]
    assert set(again.done) == {"a", "b"}
    assert len(rows(tmp_path / "out")) == 4
