"""Folders of clouds to rows: layouts, archives, classes, patients, hashes, and keeping what has not changed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medssl.manifest.build import build_manifest
from medssl.manifest.schema import read_manifest, write_manifest
from pointcloud.checking import CHECKS
from pointcloud.claims import claim
from pointcloud.cloud import make_cloud
from pointcloud.describe import cloud_reader, shape_hash
from pointcloud.folders import arrange
from pointcloud.formats import reading
from pointcloud.shapes import shape

POINTS = shape("chair", 0, seed=0, points=96).points


def class_of(row):
    return json.loads(row["targets"] or "{}").get("class", "")


def built(folder: Path, **options):
    return build_manifest(folder, clouds=cloud_reader(), workers=1, **options)[0]


@pytest.mark.parametrize(
    ("names", "name", "expected"),
    [
        (("chair/train/a.off", "chair/test/b.off", "cup/train/a.off", "cup/test/b.off"), 1, ("chair", "test", "")),
        (("train/chair/1.ply", "test/chair/2.ply", "train/cup/1.ply", "test/cup/2.ply"), 2, ("cup", "train", "")),
        (("a/chair/1.ply", "a/chair/2.ply", "a/cup/1.ply", "a/cup/2.ply"), 3, ("cup", "", "")),
        # Folders of patients hold structures.
        (("p1/liver.stl", "p1/spleen.stl", "p2/liver.stl", "p2/spleen.stl"), 3, ("spleen", "", "p2")),
        (("x/patient01/liver.stl", "x/patient01/gall.stl", "x/patient02/liver.stl"), 0, ("", "", "")),
        (("sub-01/a1.ply", "sub-01/a2.ply", "sub-02/a3.ply", "sub-02/a4.ply"), 0, ("", "", "")),
        # One cloud a folder is no class.
        (("a/1.ply", "b/2.ply", "c/3.ply"), 0, ("", "", "")),
        (("clouds/1.ply", "clouds/2.ply"), 0, ("", "", "")),
    ],
)
def test_what_folders_say(names, name, expected):
    placed = arrange(names).placed[names[name]]
    assert (placed.group, placed.split, placed.patient) == expected


def test_claims_look_into_files_whose_names_say_little(tmp_path):
    np.savetxt(tmp_path / "a.txt", POINTS)
    np.savetxt(tmp_path / "b.csv", POINTS, delimiter=",", header="x,y,z", comments="")
    np.save(tmp_path / "c.npy", POINTS)
    np.save(tmp_path / "d.npy", np.zeros((5, 200)))
    np.savez(tmp_path / "e.npz", points=POINTS)
    np.savez(tmp_path / "f.npz", values=np.zeros((3, 3, 3)), affine=np.eye(4))
    (tmp_path / "g.txt").write_text("torus_01\ncup_02\n")
    (tmp_path / "h.csv").write_text("id,age\na,1\n")
    np.c_[POINTS, np.linspace(0, 1, 96)].astype("<f4").tofile(tmp_path / "i.bin")
    np.random.default_rng(0).integers(0, 255, 1600).astype("u1").tofile(tmp_path / "j.bin")
    (tmp_path / "k.npy").write_bytes(b"no array")
    (tmp_path / "l.ply").write_bytes(b"")
    (tmp_path / "m.nii").write_bytes(b"")
    said = {path.name[0]: claim(path) for path in sorted(tmp_path.iterdir())}
    assert {key for key, value in said.items() if value == "cloud"} == set("abceil")
    assert {key for key, value in said.items() if value == "damaged"} == set("k")


def test_a_damaged_array_is_a_cloud_only_among_clouds(tmp_path):
    (tmp_path / "broken.npy").write_bytes(b"no array")
    assert len(built(tmp_path)) == 0
    np.save(tmp_path / "good.npy", POINTS)
    assert {Path(row["path"]).name: bool(row["error"]) for row in built(tmp_path).rows()} == {
        "broken.npy": True,
        "good.npy": False,
    }


def test_an_archive_gives_one_row_a_cloud(tmp_path):
    np.savez(
        tmp_path / "organs.npz",
        points=np.stack([POINTS, POINTS + 1, POINTS * 2]),
        label=np.array([1, 0, 1]),
        classes=np.array(["heart", "liver"]),
        patient=np.array(["p1", "p1", "p2"]),
        unit="mm",
    )
    found = list(built(tmp_path).rows())
    assert [(row["id"], row["item"], row["patient"], class_of(row), row["length_unit"]) for row in found] == [
        ("organs-0", 0, "p1", "liver", "mm"),
        ("organs-1", 1, "p1", "heart", "mm"),
        ("organs-2", 2, "p2", "liver", "mm"),
    ]
    assert found[0]["points"] == 96
    assert np.allclose(found[2]["extent"], np.ptp(POINTS * 2, axis=0))
    assert len({row["split"] for row in found if row["patient"] == "p1"}) == 1


def test_hdf5_gives_one_row_a_shape_and_numbers_for_classes(tmp_path):
    import h5py

    with h5py.File(tmp_path / "train0.h5", "w") as file:
        file["data"] = np.stack([POINTS, POINTS * 2, POINTS * np.nan])
        file["label"] = np.array([[3], [7], [3]], dtype=np.uint8)
    found = list(built(tmp_path).rows())
    assert [(class_of(row), bool(row["error"])) for row in found] == [("3", False), ("7", False), ("", True)]


def test_numbered_clouds_of_two_classes_are_not_one_patient(tmp_path):
    for name in ("cup", "torus"):
        (tmp_path / name).mkdir()
        for number in range(3):
            np.save(tmp_path / name / f"{number:04d}.npy", shape(name, number, seed=0, points=80).points)
    manifest = built(tmp_path)
    assert manifest.summary()["patients"] == 6
    assert {class_of(row) for row in manifest.rows()} == {"cup", "torus"}


def test_a_patient_with_volumes_and_clouds_is_in_one_split(tmp_path):
    import nibabel

    for number in range(6):
        folder = tmp_path / f"patient{number:02d}"
        folder.mkdir()
        image = nibabel.Nifti1Image(np.random.default_rng(number).normal(size=(8, 8, 8)).astype("f4"), np.eye(4))
        nibabel.save(image, folder / f"patient{number:02d}_t1.nii.gz")
        np.savez(folder / "liver.npz", points=shape("cup", number, seed=0, points=80).points)
        np.savez(folder / "spleen.npz", points=shape("torus", number, seed=0, points=80).points)
    manifest = built(tmp_path)
    assert repr(manifest).startswith("Manifest: 6 scans and 12 clouds of 6 patients")
    for number in range(6):
        of_one = [row for row in manifest.rows() if row["patient"] == f"patient{number:02d}"]
        assert len(of_one) == 3
        assert len({row["split"] for row in of_one}) == 1
    assert {class_of(row) for row in manifest.rows() if row["kind"] == "cloud"} == {"liver", "spleen"}


def test_what_has_not_changed_is_kept_and_settings_count(tmp_path):
    np.save(tmp_path / "a.npy", POINTS)
    np.savez(tmp_path / "b.npz", points=np.stack([POINTS, POINTS * 3]))
    first, counts = build_manifest(tmp_path, clouds=cloud_reader(), workers=1)
    assert (counts.read, counts.reused) == (3, 0)
    write_manifest(first, tmp_path / "m.csv")
    before = read_manifest(tmp_path / "m.csv")
    second, counts = build_manifest(tmp_path, clouds=cloud_reader(), previous=before, workers=1)
    assert (counts.read, counts.reused, counts.gone) == (0, 3, 0)
    assert second.frame.equals(first.frame)
    third, counts = build_manifest(tmp_path, clouds=cloud_reader(unit="m"), previous=before, workers=1)
    assert (counts.read, counts.reused) == (3, 0)
    assert set(third.frame["length_unit"]) == {"m"}
    (tmp_path / "b.npz").unlink()
    assert build_manifest(tmp_path, clouds=cloud_reader(), previous=before, workers=1)[1].gone == 2


def test_the_hash_knows_points_whatever_their_order():
    other = POINTS[::-1].copy()
    assert shape_hash(make_cloud(POINTS)) == shape_hash(make_cloud(other))
    assert shape_hash(make_cloud(POINTS)) == shape_hash(make_cloud(POINTS, labels=np.arange(96)))
    other[0, 0] += 1e-3
    assert shape_hash(make_cloud(POINTS)) != shape_hash(make_cloud(other))
    assert shape_hash(make_cloud(POINTS)) != shape_hash(make_cloud(POINTS[:-1]))
    far = POINTS.astype(np.float64) + 5e6
    assert shape_hash(make_cloud(far)) != shape_hash(make_cloud(far + 1))


def test_a_mesh_counts_its_vertices_and_is_known_in_another_format(tmp_path):
    corners = "0 0 0\n1 0 0\n0 1 0\n0 0 1\n"
    (tmp_path / "a.off").write_text(f"OFF4 2 0\n{corners}3 0 1 2\n3 0 1 3\n")
    turned = "".join(f"v {line}\n" for line in corners.splitlines()[::-1])
    (tmp_path / "b.obj").write_text(turned + "f 4 3 2\nf 4 3 1\n")
    first, second = built(tmp_path).rows()
    assert (first["points"], second["points"]) == (4, 4)
    assert first["content_hash"] == second["content_hash"]
    assert first["split"] == second["split"]
    assert list(first["attributes"]) == ["faces"]
    assert not [kind for _, kind, _, _ in CHECKS.of_one(first)]  # a few vertices are no few points


def test_a_few_points_are_few(tmp_path):
    np.save(tmp_path / "a.npy", POINTS[:9])
    (row,) = built(tmp_path).rows()
    assert [kind for _, kind, _, _ in CHECKS.of_one(row)] == ["few-points"]


def test_every_class_of_clouds_is_in_the_test_split_where_there_are_enough(tmp_path):
    for name in ("cup", "torus", "chair"):
        (tmp_path / name).mkdir()
        for number in range(10):
            np.save(tmp_path / name / f"{number:04d}.npy", shape(name, number, seed=0, points=80).points)
    for seed in range(3):
        found = Counter(class_of(row) for row in built(tmp_path, seed=seed).rows() if row["split"] == "test")
        assert found == {"cup": 2, "torus": 2, "chair": 2}


def test_clouds_alone_are_counted_by_object(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number:04d}.npy", shape("cup", number, seed=0, points=80).points)
    assert repr(built(tmp_path)).startswith("Manifest: 3 clouds of 3 objects")


def test_what_an_older_reader_found_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", POINTS)
    monkeypatch.setattr(reading, "VERSION", 1)
    write_manifest(built(tmp_path / "in"), tmp_path / "m.parquet")
    monkeypatch.undo()
    _, counts = build_manifest(
        tmp_path / "in", clouds=cloud_reader(), workers=1, previous=read_manifest(tmp_path / "m.parquet")
    )
    assert counts.reused == 0
