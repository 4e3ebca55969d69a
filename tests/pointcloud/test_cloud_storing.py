"""Clouds of a manifest into a store: classes, thinning, keeping what is there, and what fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.failure_notes import NOT_HERE
from medssl.manifest.build import build_manifest
from medssl.store.read import Store
from pipelines.cli import app
from pointcloud import storing
from pointcloud.describe import cloud_reader
from pointcloud.shapes import shape
from pointcloud.store import CloudStore
from pointcloud.storing import CloudStoreSettings, store_clouds


def folder_of(tmp_path: Path) -> Path:
    for name in ("torus", "cup"):
        for split in ("train", "test"):
            where = tmp_path / "shapes" / name / split
            where.mkdir(parents=True)
            for number in range(2):
                points = shape(name, number, seed=len(split), points=300).points
                np.savez(where / f"{name}_{number}.npz", points=points, labels=np.arange(300) % 3)
    return tmp_path / "shapes"


def manifest_of(folder: Path):
    return build_manifest(folder, clouds=cloud_reader(), workers=1)[0]


def test_classes_splits_and_labels_go_along(tmp_path):
    manifest = manifest_of(folder_of(tmp_path))
    report = store_clouds(tmp_path / "store", manifest, CloudStoreSettings(points=128))
    store = CloudStore.open(tmp_path / "store")
    assert (report.listed, report.written, report.subsampled, report.failed) == (8, 8, 8, {})
    assert store.classes == {0: "cup", 1: "torus"}
    assert store.parts == {0: "0", 1: "1", 2: "2"}
    paths = {row["id"]: row["path"] for row in manifest.rows()}
    for row, entry in enumerate(store.entries):
        assert store.classes[entry.label] in entry.id
        assert entry.split in entry.id
        assert entry.source_path == ""
        points, labels = store.points(row), store.labels(row)
        assert points.shape == (128, 3)
        with np.load(paths[entry.id]) as source:
            places = {tuple(p): label for p, label in zip(source["points"].tolist(), source["labels"], strict=True)}
        assert [places[tuple(p)] for p in points.tolist()] == labels.tolist()


def test_what_is_there_is_kept_and_the_manifest_has_the_last_word(tmp_path):
    manifest, settings = manifest_of(folder_of(tmp_path)), CloudStoreSettings(points=128)
    store_clouds(tmp_path / "store", manifest, settings)
    frame = manifest.frame
    moved = manifest.with_frame(frame.with_columns(split=frame["split"].replace("test", "val"), targets=None))
    report = store_clouds(tmp_path / "store", moved, settings)
    store = CloudStore.open(tmp_path / "store")
    assert report.written == 0
    assert {entry.split for entry in store.entries} == {"train", "val"}
    assert {entry.label for entry in store.entries} == {None}
    assert store_clouds(tmp_path / "store", manifest, CloudStoreSettings(points=64)).written == 8


def test_a_file_that_broke_since_is_told_and_the_rest_is_stored(tmp_path):
    folder = folder_of(tmp_path)
    manifest = manifest_of(folder)
    broken = folder / "cup" / "train" / "cup_0.npz"
    broken.write_bytes(b"PK broken")
    report = store_clouds(tmp_path / "store", manifest, CloudStoreSettings())
    assert report.listed == 7
    ((name, reason),) = report.failed.items()
    assert str(broken) in reason
    assert CloudStore.open(tmp_path / "store").failed == {name: reason.replace(str(broken), name)}


def test_shards_fill_one_store_of_clouds(tmp_path):
    folder = folder_of(tmp_path)
    manifest, settings = manifest_of(folder), CloudStoreSettings(points=128)
    whole = folder / "cup" / "train" / "cup_0.npz"
    kept = whole.read_bytes()
    whole.write_bytes(b"PK broken")
    store_clouds(tmp_path / "one", manifest, settings)
    reports = [store_clouds(tmp_path / "store", manifest, settings, shard=(part, 3)) for part in range(3)]
    assert [report.written for report in reports] == [3, 2, 2]
    assert [report.waiting for report in reports] == [5, 2, 0]
    assert len(reports[2].failed) == 1  # it fell to the second shard
    assert (tmp_path / "store" / "clouds.json").read_bytes() == (tmp_path / "one" / "clouds.json").read_bytes()
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "store").rglob("*.json"))
    whole.write_bytes(kept)
    assert store_clouds(tmp_path / "store", manifest, settings, shard=(1, 3)).failed == {}
    assert len(CloudStore.open(tmp_path / "store")) == 8
    assert not list((tmp_path / "store").rglob("*.failed.json"))


def test_what_another_machine_stored_elsewhere_is_no_success(tmp_path, monkeypatch):
    """A cluster's machine wrote into its own working folder, and that was reported as stored."""
    manifest = manifest_of(folder_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    honest = storing.run_jobs

    def far(work, jobs, **how):
        assert all(job[0].is_absolute() for job in jobs.values())
        moved = {number: (tmp_path / "far", *job[1:]) for number, job in jobs.items()}
        return honest(work, moved, **how)

    monkeypatch.setattr(storing, "run_jobs", far)
    report = store_clouds(Path("store"), manifest, CloudStoreSettings(points=128))
    assert (report.listed, len(report.failed)) == (0, 8)
    assert set(report.failed.values()) == {NOT_HERE}


@pytest.mark.parametrize("names", [("7", "12"), ("7", "b"), ("07", "8")])
def test_numbers_stay_numbers_where_all_are(tmp_path, names):
    for name in names:
        (tmp_path / "s" / name).mkdir(parents=True)
        for number in range(2):
            np.save(tmp_path / "s" / name / f"{number}.npy", shape("cup", number, seed=int(name == names[0])).points)
    store_clouds(tmp_path / "store", manifest_of(tmp_path / "s"), CloudStoreSettings())
    expected = {7: "7", 12: "12"} if names == ("7", "12") else dict(enumerate(names))
    assert CloudStore.open(tmp_path / "store").classes == expected


def test_volumes_and_clouds_share_a_folder(tmp_path):
    import nibabel

    folder = folder_of(tmp_path)
    image = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(9, 8, 7)).astype("f4"), np.eye(4))
    nibabel.save(image, folder / "head_t1.nii.gz")
    runner = CliRunner()
    for words in (["index", str(folder), "--out", str(tmp_path / "m.parquet")],
                  ["cache", str(tmp_path / "m.parquet"), "--out", str(tmp_path / "store"), "workers=1"]):  # fmt: skip
        outcome = runner.invoke(app, words)
        assert outcome.exit_code == 0, outcome.output
    assert len(Store.open(tmp_path / "store").entries) == 1
    assert len(CloudStore.open(tmp_path / "store")) == 8
