"""Labels of points in files of their own: read with the right values, or named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import medssl
from medssl.errors import DataError
from medssl.manifest.check import check_manifest
from medssl.manifest.schema import read_manifest
from medssl.manifest.unlabelled import unlabelled_numbers
from pointcloud.store import CloudStore
from tests.layouts.cloud_tree import (
    class_of,
    cloud,
    kitti_labels,
    points,
    room,
    rows_of,
    semantic_kitti,
    sweep,
    understood,
)


def stored(folder: Path, **settings) -> CloudStore:
    """Store what `rows_of` indexed, whole."""
    out = folder / "store"
    medssl.cache(folder / "found.parquet", out=out, overrides=["points=4096", "privacy=paths"], **settings)
    return CloudStore.open(out)


def counts(row) -> dict[int, int]:
    return dict(zip(row["label_values"], row["label_voxels"], strict=True))


def by_file(store: CloudStore) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Return points and labels of each stored cloud by the name of its file."""
    return {
        Path(entry.source_path).name: (store.points(n), store.labels(n) if entry.label_file else None)
        for n, entry in enumerate(store.entries)
    }


def test_labels_of_sweeps_are_read_from_their_lower_bits(tmp_path):
    truth = semantic_kitti(tmp_path / "in", {0: 2, 8: 1, 11: 1})
    manifest, rows = rows_of(tmp_path / "in")
    assert len(rows) == 4
    for name, row in rows.items():
        if "/11/" in name:
            assert row["label_values"] is None
            continue
        expected = np.where(truth[name] == 0, -1, truth[name])  # 0 is "unlabeled"
        assert counts(row) == dict(zip(*(v.tolist() for v in np.unique(expected, return_counts=True)), strict=True))
        assert row["label_path"].endswith(".label")
    said = understood(manifest)
    assert "3 sequences, 4 files of sweeps, 3 with labels of points (3 .label)" in said
    assert "in .label files 0, 1 means unlabelled" in said
    assert "instances, the upper ones, are not kept" in said
    store = stored(tmp_path)
    assert store.parts == {10: "car", 40: "road", 252: "moving-car"}
    (place,) = [n for n, entry in enumerate(store.entries) if entry.source_path.endswith("00/velodyne/000000.bin")]
    labels = store.labels(place)
    own = truth["sequences/00/velodyne/000000.bin"]
    assert np.array_equal(np.asarray(labels), np.where(own == 0, -1, own))
    assert np.array_equal(np.unique(labels), [-1, 10, 40, 252])


def test_a_label_of_another_number_of_points_is_an_error_that_names_both(tmp_path):
    semantic_kitti(tmp_path / "in", {0: 2, 8: 1})
    label = tmp_path / "in/sequences/00/labels/000001.label"
    label.write_bytes(label.read_bytes()[:-8])
    _, rows = rows_of(tmp_path / "in")
    error = rows["sequences/00/velodyne/000001.bin"]["error"]
    assert error == f"It has 400 points, and {label} has labels of 398. Find its own labels."
    assert sum(row["error"] is not None for row in rows.values()) == 1


def test_labels_that_belong_to_no_cloud_are_counted(tmp_path):
    sweep(tmp_path / "in" / "velodyne" / "000000.bin", 0)
    for number in range(3):
        kitti_labels(tmp_path / "in" / "labels" / f"{number + 5:06d}.label", np.zeros(9, int))
    manifest, rows = rows_of(tmp_path / "in")
    assert len(rows) == 1
    assert "3 .label files, which belong to no cloud here were not read (labels/000005.label, ...)" in understood(
        manifest
    )


def test_a_label_that_changes_is_read_again(tmp_path):
    semantic_kitti(tmp_path / "in", {0: 1, 8: 1})
    rows_of(tmp_path / "in")
    first = stored(tmp_path)
    kitti_labels(tmp_path / "in/sequences/00/labels/000000.label", np.full(400, 70))
    _manifest, rows = rows_of(tmp_path / "in")
    assert counts(rows["sequences/00/velodyne/000000.bin"]) == {70: 400}
    assert counts(rows["sequences/08/velodyne/000000.bin"])[40] > 0
    second = stored(tmp_path)
    assert {e.id: e.key for e in first.entries} != {e.id: e.key for e in second.entries}
    assert 70 in second.parts
    assert read_manifest(tmp_path / "found.parquet").rows().__next__()["label_size_bytes"] == 1600


def test_a_label_that_changes_and_keeps_size_and_time_is_stored_anew(tmp_path):
    semantic_kitti(tmp_path / "in", {0: 1, 8: 1})
    rows_of(tmp_path / "in")
    first = {entry.id: entry.key for entry in stored(tmp_path).entries}
    label = tmp_path / "in/sequences/00/labels/000000.label"
    before = label.stat()
    kitti_labels(label, np.full(400, 70))
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))
    _, rows = rows_of(tmp_path / "in")
    assert counts(rows["sequences/00/velodyne/000000.bin"]) == {70: 400}
    store = stored(tmp_path)
    assert sum(entry.key != first[entry.id] for entry in store.entries) == 1
    assert 70 in store.parts


def test_rooms_take_their_labels_from_their_pieces(tmp_path):
    pieces = {"wall_1": 120, "wall_2": 40, "chair_1": 60, "chair_12": 20, "stairs_1": 15}
    found = room(tmp_path / "in" / "Area_1" / "office_1", 1, pieces)
    room(tmp_path / "in" / "Area_2" / "office_1", 2, {"floor_1": 80})
    manifest, rows = rows_of(tmp_path / "in")
    assert len(rows) == 2
    row = rows["Area_1/office_1/office_1.txt"]
    assert counts(row) == {2: 160, 8: 80, 12: 15}  # S3DIS' own numbers; stairs are clutter there
    assert "numbered as S3DIS counts its 13 classes, with stairs as clutter" in understood(manifest)
    store = stored(tmp_path)
    assert store.parts == {1: "floor", 2: "wall", 8: "chair", 12: "clutter"}
    entry = next(n for n, e in enumerate(store.entries) if e.points == 255)
    where = {"wall": 2, "chair": 8, "stairs": 12}
    expected = {tuple(np.float32(p)): where[name.split("_")[0]] for name, rows in found.items() for p in rows}
    for place, label in zip(store.points(entry), store.labels(entry), strict=True):
        assert expected[tuple(place)] == label


def test_pieces_of_another_room_are_an_error(tmp_path):
    room(tmp_path / "in" / "Area_1" / "office_1", 1, {"wall_1": 120})
    room(tmp_path / "in" / "Area_1" / "office_2", 2, {"wall_1": 120})
    folders = [tmp_path / "in" / "Area_1" / f"office_{n}" / "Annotations" for n in (1, 2)]
    shutil.rmtree(folders[0])
    shutil.copytree(folders[1], folders[0])
    _, rows = rows_of(tmp_path / "in")
    error = rows["Area_1/office_1/office_1.txt"]["error"]
    assert error.startswith(f"120 of its 120 points lie in no piece of {folders[0]}, and 120 of 120 points")
    assert rows["Area_1/office_2/office_2.txt"]["error"] is None


def test_parts_of_shapenet_have_numbers_of_their_own_in_each_class(tmp_path):
    root = tmp_path / "in"
    truth = {}
    for number, synset in enumerate(("02691156", "03001627")):
        for at in range(3):
            cloud(root / synset / "points" / f"{at}ab.pts", 10 * number + at)
            truth[synset, at] = 1 + (np.arange(96) + at) % (2 + number)
            for folder in ("points_label", "expert_verified/points_label"):
                (root / synset / folder).mkdir(parents=True, exist_ok=True)
                np.savetxt(root / synset / folder / f"{at}ab.seg", truth[synset, at], fmt="%d")
    manifest, rows = rows_of(root)
    assert len(rows) == 6
    assert {class_of(row) for row in rows.values()} == {"02691156", "03001627"}
    assert counts(rows["02691156/points/0ab.pts"]) == {1: 48, 2: 48}
    assert counts(rows["03001627/points/0ab.pts"]) == {101: 32, 102: 32, 103: 32}
    assert "6 clouds have a second file of labels" in understood(manifest)
    store = stored(tmp_path)
    assert store.parts[102] == "03001627 2"
    for entry, row in enumerate(store.entries):
        name = Path(row.source_path)
        shift = 100 * (name.parts[-3] == "03001627")
        assert np.array_equal(store.labels(entry), truth[name.parts[-3], int(name.name[0])] + shift)


def test_labels_of_semantic3d_and_of_folders_of_labels(tmp_path):
    root = tmp_path / "in"
    for number, stem in enumerate(("domfountain", "bildstein")):
        cloud(root / f"{stem}_xyz.txt", number)
        np.savetxt(root / f"{stem}_xyz.labels", np.arange(96) % 3, fmt="%d")
    cloud(root / "points" / "other.ply", 9)
    (root / "labels").mkdir()
    np.savetxt(root / "labels" / "other.txt", np.arange(96) % 2, fmt="%d")
    manifest, rows = rows_of(root)
    assert counts(rows["domfountain_xyz.txt"]) == {-1: 32, 1: 32, 2: 32}
    assert counts(rows["points/other.ply"]) == {0: 48, 1: 48}
    assert len(rows) == 3
    assert "in .labels files 0 means unlabelled" in understood(manifest)


def test_arrays_of_one_folder_are_one_cloud(tmp_path):
    root = tmp_path / "in"
    truth = {}
    for number in range(3):
        folder = root / "Area_1" / f"office_{number + 1}"
        folder.mkdir(parents=True)
        values = points(number)
        np.save(folder / "coord.npy", values)
        np.save(folder / "color.npy", np.full((96, 3), 7, "u1"))
        np.save(folder / "normal.npy", np.tile([0.0, 0, 1], (96, 1)))
        truth[number] = (np.arange(96) + number) % 4
        np.save(folder / "segment.npy", truth[number][:, None])
        np.save(folder / "instance.npy", np.zeros((96, 1), int))
    np.save(root / "loose.npy", points(8))
    np.save(root / "loose_labels.npy", np.arange(96) % 5)
    manifest, rows = rows_of(root)
    assert sorted(rows) == [f"Area_1/office_{n}/coord.npy" for n in (1, 2, 3)] + ["loose.npy"]
    assert "beside coordinates, 3 color.npy, 3 instance.npy, 3 normal.npy were not read" in understood(manifest)
    assert list(counts(rows["loose.npy"])) == [0, 1, 2, 3, 4]
    store = stored(tmp_path)
    for entry, about in enumerate(store.entries):
        if about.source_path.endswith("coord.npy"):
            number = int(Path(about.source_path).parent.name[-1]) - 1
            assert np.array_equal(store.labels(entry), truth[number])
            assert np.allclose(store.points(entry), points(number), atol=1e-6)


def write_mesh(path: Path, vertices: np.ndarray, labels: np.ndarray | None = None) -> None:
    """Write triangles as ascii PLY, with a label a vertex where asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\n"
    head += "".join(f"property float {a}\n" for a in "xyz")
    head += "property ushort label\n" if labels is not None else ""
    head += f"element face {len(vertices) - 2}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [" ".join(map(str, [*v, *([labels[n]] if labels is not None else [])])) for n, v in enumerate(vertices)]
    faces = [f"3 {n} {n + 1} {n + 2}" for n in range(len(vertices) - 2)]
    path.write_text(head + "\n".join([*rows, *faces]) + "\n")


def test_labels_of_scannet_are_those_of_the_vertices(tmp_path):
    root = tmp_path / "in"
    labels = np.arange(96) % 3
    for scene in range(3):
        stem = root / "scans" / f"scene{scene:04d}_00" / f"scene{scene:04d}_00_vh_clean_2"
        write_mesh(stem.with_name(stem.name + ".ply"), points(scene))
        write_mesh(stem.with_name(stem.name + ".labels.ply"), points(scene), labels)
    (root / "scannetv2-labels.combined.tsv").write_text("id\tnyu40id\tnyu40class\n1\t1\twall\n2\t2\tfloor\n")
    _, rows = rows_of(root)
    assert len(rows) == 3
    assert all(counts(row) == {-1: 32, 1: 32, 2: 32} for row in rows.values())
    store = stored(tmp_path)
    assert store.parts == {1: "wall", 2: "floor"}
    for entry in range(3):
        assert np.array_equal(store.labels(entry), np.where(labels == 0, -1, labels))
        assert len(store.points(entry)) == 96  # the vertices, not points of the surface


def test_groups_of_scannet_name_the_classes(tmp_path):
    root = tmp_path / "in"
    for scene, words in enumerate((("wall", "chair"), ("wall", "table"))):
        folder = root / f"scene{scene:04d}_00"
        stem = f"scene{scene:04d}_00"
        write_mesh(folder / f"{stem}_vh_clean_2.ply", points(scene))
        segments = {"segIndices": (np.arange(96) // 32 * 10).tolist()}
        (folder / f"{stem}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
        groups = [{"label": words[0], "segments": [0]}, {"label": words[1], "segments": [20]}]
        (folder / f"{stem}.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    _, rows = rows_of(root)
    assert counts(rows["scene0000_00/scene0000_00_vh_clean_2.ply"]) == {-1: 32, 0: 32, 2: 32}
    assert counts(rows["scene0001_00/scene0001_00_vh_clean_2.ply"]) == {-1: 32, 1: 32, 2: 32}
    store = stored(tmp_path)
    assert store.parts == {0: "chair", 1: "table", 2: "wall"}
    assert np.array_equal(store.labels(0), np.repeat([2, -1, 0], 32))
    # Groups that come to hold other segments change the labels, though no name and no segment does.
    groups = [{"label": "wall", "segments": [0, 10]}, {"label": "chair", "segments": [20]}]
    (root / "scene0000_00" / "scene0000_00.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    _, rows = rows_of(root)
    assert counts(rows["scene0000_00/scene0000_00_vh_clean_2.ply"]) == {0: 32, 2: 64}
    assert np.array_equal(stored(tmp_path).labels(0), np.repeat([2, 2, 0], 32))


@pytest.mark.parametrize(("top", "expected"), [(19, {255}), (250, set())])
def test_255_is_unlabelled_where_no_other_number_is_near(tmp_path, top, expected):
    values = np.r_[np.arange(48) % 4, np.full(44, top), np.full(4, 255)]
    for number in range(3):
        np.savez(_made(tmp_path / "in") / f"{number}.npz", points=points(number), labels=values)
    _, rows = rows_of(tmp_path / "in")
    assert unlabelled_numbers(rows.values()) == expected
    store = stored(tmp_path)
    assert (255 in store.parts) != bool(expected)
    assert np.array_equal(store.labels(0), np.where(np.isin(values, list(expected)), -1, values))


def test_labels_that_are_instances_are_not_stored_and_large_ones_keep_their_value(tmp_path):
    np.savez(_made(tmp_path / "in") / "a.npz", points=points(0, 2000), labels=np.arange(2000))
    np.savez(tmp_path / "in" / "b.npz", points=points(1), labels=np.arange(96) % 3)
    np.savez(tmp_path / "in" / "c.npz", points=points(2), labels=np.arange(96) % 3 + 2**33)
    manifest, rows = rows_of(tmp_path / "in")
    assert rows["a.npz"]["label_values"] is None
    assert {f.kind for f in check_manifest(manifest).findings} >= {"labels-are-instances"}
    store = stored(tmp_path)
    assert {e.id: e.label_file is not None for e in store.entries} == {"a": False, "b": True, "c": True}
    large = next(n for n, e in enumerate(store.entries) if e.id == "c")
    assert np.array_equal(store.labels(large), np.arange(96) % 3 + 2**33)  # no number is wrapped around


def test_names_of_parts_come_from_files_beside(tmp_path):
    np.savez(_made(tmp_path / "in") / "a.npz", points=points(0), labels=np.arange(96) % 3)
    (tmp_path / "in" / "part_names.json").write_text(json.dumps({"seat": 0, "back": 1, "leg": 2}))
    rows_of(tmp_path / "in")
    assert stored(tmp_path).parts == {0: "seat", 1: "back", 2: "leg"}


def test_a_csv_names_the_labels_of_clouds(tmp_path):
    sweep(_made(tmp_path / "in") / "a.bin", 0)
    kitti_labels(tmp_path / "in" / "anything.label", np.arange(400) % 3 + 10)
    (tmp_path / "in" / "list.csv").write_text("path,label\na.bin,anything.label\n")
    manifest = medssl.index(tmp_path / "in" / "list.csv", out=tmp_path / "m.parquet").manifest
    assert next(manifest.rows())["label_values"] == [10, 11, 12]


def test_formats_that_nothing_reads_are_counted(tmp_path):
    cloud(tmp_path / "in" / "a.ply", 0)
    for name in ("b.fls", "c.fls", "drive.bag", "rest.zip"):
        (tmp_path / "in" / name).write_bytes(b"something")
    manifest, rows = rows_of(tmp_path / "in")
    assert len(rows) == 1
    assert manifest.notes == ("passed over: 2 .fls, 1 .bag, 1 .zip (archives: unpack first)",)
    assert "passed over" not in " ".join(understood(manifest))
    for name in ("a.ply",):
        (tmp_path / "in" / name).unlink()
    with pytest.raises(DataError, match=r"passed over: .*2 \.fls"):
        medssl.index(tmp_path / "in", out=tmp_path / "none.parquet")


def test_every_suffix_beside_clouds_is_counted_once_and_labels_are_not(tmp_path):
    folder = tmp_path / "in" / "sequences" / "00"
    for number in range(2):
        sweep(_made(folder / "velodyne") / f"{number:06d}.bin", number)
        kitti_labels(_made(folder / "labels") / f"{number:06d}.label", np.arange(400) % 3 + 10)
    kitti_labels(folder / "labels" / "000009.label", np.arange(400) % 3 + 10)  # of no sweep: told by name
    for name in ("a.feather", "b.feather", "c.mtl", "d.sens", "e"):
        (folder / name).write_bytes(b"something")
    (folder / "times.txt").write_text("0.0\n0.1\n")
    _made(folder / "image_2")
    (folder / "image_2" / "000000.png").write_bytes(b"\x89PNG")
    manifest, _ = rows_of(tmp_path / "in")
    said = "passed over: 2 .feather, 1 .mtl, 1 .sens, 1 without a suffix, 1 pictures beside clouds"
    assert manifest.notes == (said,)
    assert any(
        "1 .label files, which belong to no cloud here" in line for line in manifest.settings["of_clouds"]["understood"]
    )


def test_trees_of_scans_are_told_nothing_of_clouds(tmp_path):
    from tests.layouts.tree import index, label, voxels, write

    for number in range(3):
        write(tmp_path / "in" / "images" / f"case_{number}.nii.gz", voxels(number))
        write(tmp_path / "in" / "labels" / f"case_{number}.nii.gz", label(number))
    (tmp_path / "in" / "labels" / "train.txt").write_text("case_0\ncase_1\n")
    manifest = index(tmp_path / "in")
    assert "of_clouds" not in manifest.settings
    cloud(tmp_path / "in" / "meshes" / "case_0.ply", 0)
    assert ".gz" not in understood(index(tmp_path / "in"))


def test_a_class_of_points_that_only_test_objects_have_is_told(tmp_path):
    for split, top in (("train", 2), ("test", 4)):
        for number in range(2):
            values = np.arange(96) % top
            np.savez(_made(tmp_path / "in" / split) / f"{number}.npz", points=points(number + 9 * top), labels=values)
    manifest, _ = rows_of(tmp_path / "in")
    said = {f.kind: f.what for f in check_manifest(manifest).findings}
    assert said["part-never-trained"].startswith("2 classes of points (2, 3) are in no cloud of the split 'train'")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_numbers_of_a_gltf_are_no_cloud_and_tell_of_changes(tmp_path):
    import trimesh

    box = trimesh.creation.box(extents=(2.0, 3.0, 4.0))
    for name, content in trimesh.exchange.gltf.export_gltf(trimesh.Scene(box)).items():
        (_made(tmp_path / "in") / name).write_bytes(content)
    numbers = sorted((tmp_path / "in").glob("*.bin"))
    manifest, rows = rows_of(tmp_path / "in")
    assert list(rows) == ["model.gltf"]
    assert manifest.notes == ()
    first = rows["model.gltf"]
    assert len(first["paths"]) == 1 + len(numbers)
    for file in numbers:  # half as high: same sizes, another shape
        values = np.frombuffer(file.read_bytes(), "<u4").copy()
        if np.abs(values.view("<f4")).max() == 2.0:
            file.write_bytes((values.view("<f4") / 2).tobytes())
    _, again = rows_of(tmp_path / "in")
    assert again["model.gltf"]["content_hash"] != first["content_hash"]
