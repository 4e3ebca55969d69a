"""The published split of clouds: kept, or said that it is not."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from medssl.manifest.check import check_manifest
from pointcloud.folders import arrange
from tests.layouts.cloud_tree import class_of, cloud, findings, points, room, rows_of, semantic_kitti, understood


def write_h5(path, seed, count, label=0, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = np.stack([points(seed + n, 80) for n in range(count)]).astype("f4")
        file["label"] = np.full((count, 1), label, "u1")
        for name, values in arrays.items():
            file[name] = values


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("modelnet40_ply_hdf5_2048/ply_data_train0.h5", "modelnet40_ply_hdf5_2048/ply_data_test0.h5"),
        ("h5_files/main_split/training_objectdataset.h5", "h5_files/main_split/test_objectdataset.h5"),
    ],
)
def test_names_of_files_of_many_clouds_give_the_split(tmp_path, train, test):
    write_h5(tmp_path / "in" / train, 0, 4, 0)
    write_h5(tmp_path / "in" / test, 50, 3, 1)
    manifest, rows = rows_of(tmp_path / "in")
    assert {row["split"] for name, row in rows.items() if name.startswith(train)} == {"train"}
    assert {row["split"] for name, row in rows.items() if name.startswith(test)} == {"test"}
    assert len(rows) == 7
    assert "split: published (names of files, such as" in understood(manifest)


def test_variants_of_one_hdf5_set_share_their_objects(tmp_path):
    for folder in ("main_split", "main_split_nobg"):
        write_h5(tmp_path / "in" / "h5_files" / folder / "training_objectdataset.h5", 10 if "nobg" in folder else 0, 3)
    rows = rows_of(tmp_path / "in")[1]
    assert sorted(row["patient"] for row in rows.values()) == sorted(
        f"training_objectdataset/{n}" for n in (0, 1, 2, 0, 1, 2)
    )


def test_folders_give_the_split(tmp_path):
    for number, (split, word) in enumerate((s, w) for s in ("train", "val", "test") for w in ("cup", "torus")):
        for at in range(2):
            cloud(tmp_path / "in" / split / word / f"{at}.ply", 10 * number + at)
    manifest, rows = rows_of(tmp_path / "in")
    assert {name: row["split"] for name, row in rows.items()} == {name: name.split("/")[0] for name in rows}
    assert {name: class_of(row) for name, row in rows.items()} == {name: name.split("/")[1] for name in rows}
    assert "split: published (folders test, train, val)" in understood(manifest)


def test_lists_give_the_split(tmp_path):
    names = [f"{word}_{n:04d}" for word in ("cup", "torus") for n in range(1, 5)]
    for number, name in enumerate(names):
        cloud(tmp_path / "in" / name.split("_")[0] / f"{name}.txt", number)
    (tmp_path / "in" / "modelnet40_train.txt").write_text("\n".join(n for n in names if n[-1] in "123") + "\n")
    (tmp_path / "in" / "modelnet40_test.txt").write_text("\n".join(n for n in names if n[-1] == "4") + "\n")
    (tmp_path / "in" / "modelnet40_shape_names.txt").write_text("cup\ntorus\n")
    manifest, rows = rows_of(tmp_path / "in")
    assert {name: row["split"] for name, row in rows.items()} == {
        name: "test" if name.endswith("4.txt") else "train" for name in rows
    }
    assert {class_of(row) for row in rows.values()} == {"cup", "torus"}
    assert "split: published (lists modelnet40_test.txt, modelnet40_train.txt)" in understood(manifest)
    assert not findings(manifest)


def test_what_is_wrong_with_lists_is_counted(tmp_path):
    for number in range(6):
        cloud(tmp_path / "in" / f"thing{number}x.ply", number)
    (tmp_path / "in" / "train.txt").write_text("thing0x\nthing1x\nthing2x\ngone1\ngone2\n")
    (tmp_path / "in" / "test.txt").write_text("thing2x\nthing3x\n")
    manifest, rows = rows_of(tmp_path / "in")
    said = findings(manifest)
    assert said["listed-and-gone"].startswith("2 of 5 names of train.txt are not there (gone1, gone2)")
    assert said["on-two-lists"].startswith("1 clouds are on lists of several splits (test and train; thing2x.ply")
    assert said["on-no-list"].startswith("2 of 6 clouds are on none of the lists (thing4x.ply")
    assert rows["thing2x.ply"]["split"] == "test"
    assert rows["thing0x.ply"]["split"] == "train"
    severities = {f.kind: f.severity for f in check_manifest(manifest).findings}
    assert severities["on-two-lists"] == "error"
    assert severities["on-no-list"] == severities["listed-and-gone"] == "warning"


def test_lists_of_shapenet_name_folders_and_files(tmp_path):
    root = tmp_path / "in"
    for number, synset in enumerate(("02691156", "03001627")):
        for at in range(4):
            cloud(root / synset / f"{at}f2c.txt", 10 * number + at)
    (root / "train_test_split").mkdir()
    for split, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (3,))):
        entries = [f"shape_data/{synset}/{n}f2c" for synset in ("02691156", "03001627") for n in numbers]
        (root / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(entries))
    (root / "synsetoffset2category.txt").write_text("Airplane\t02691156\nChair\t03001627\n")
    rows = rows_of(root)[1]
    expected = {0: "train", 1: "train", 2: "val", 3: "test"}
    assert {n: r["split"] for n, r in rows.items()} == {n: expected[int(n.split("/")[1][0])] for n in rows}
    assert {class_of(r) for n, r in rows.items() if n.startswith("026")} == {"Airplane"}


def test_a_list_whose_names_fit_several_folders_counts_for_none(tmp_path):
    (tmp_path / "train.txt").write_text("0001\n0002\n")
    arranged = arrange(["a/0001.ply", "b/0001.ply", "a/0002.ply"], ["train.txt"], tmp_path)
    assert {name: said.split for name, said in arranged.placed.items()} == {
        "a/0001.ply": "",
        "b/0001.ply": "",
        "a/0002.ply": "train",
    }
    said = {kind: what for _, kind, what, _ in arranged.findings}
    assert said["list-is-unclear"].startswith("1 names of train.txt fit clouds of several folders (0001, ...)")


def test_a_list_of_scenes_of_scannet_gives_the_split(tmp_path):
    for scene in range(4):
        name = f"scene{scene:04d}_00"
        cloud(tmp_path / "in" / "scans" / name / f"{name}_vh_clean_2.ply", scene)
    (tmp_path / "in" / "scannetv2_train.txt").write_text("scene0000_00\nscene0001_00\nscene0002_00\n")
    (tmp_path / "in" / "scannetv2_val.txt").write_text("scene0003_00\n")
    rows = rows_of(tmp_path / "in")[1]
    assert [row["split"] for _, row in sorted(rows.items())] == ["train", "train", "train", "val"]


def test_the_standard_of_semantickitti_is_applied_and_said(tmp_path):
    semantic_kitti(tmp_path / "in", {0: 2, 8: 2, 9: 1, 11: 2})
    manifest, rows = rows_of(tmp_path / "in")
    of_sequence = {name.split("/")[1]: row["split"] for name, row in rows.items()}
    assert of_sequence == {"00": "train", "08": "val", "09": "train", "11": "test"}
    assert "standard of SemanticKITTI: sequences 00-07, 09, 10 train; 08 val; 11-21 test" in understood(manifest)


def test_where_the_standard_leaves_one_side_the_split_is_drawn_and_said(tmp_path):
    semantic_kitti(tmp_path / "in", dict.fromkeys(range(5), 2))
    manifest, rows = rows_of(tmp_path / "in")
    assert {row["split"] for row in rows.values()} > {"train"}
    assert "all sequences here are in the split 'train' of SemanticKITTI's standard" in understood(manifest)
    assert "split: drawn" in understood(manifest)


def test_area_5_is_said_and_not_forced(tmp_path):
    for area in (1, 5):
        for number in (1, 2):
            room(tmp_path / "in" / f"Area_{area}" / f"office_{number}", 10 * area + number, {"wall_1": 90})
    manifest, _ = rows_of(tmp_path / "in")
    assert "S3DIS: papers test on Area_5; that is not forced here" in understood(manifest)


def test_a_toy_train_is_in_no_split():
    placed = arrange(["toys/train_1.ply", "toys/train_2.ply", "toys/car_1.ply"]).placed
    assert {said.split for said in placed.values()} == {""}


def test_classes_of_hdf5_are_called_as_the_list_beside_it_says(tmp_path):
    root = tmp_path / "in"
    write_h5(root / "ply_data_train0.h5", 0, 3, 1, faceId=np.zeros((3, 80), "i4"))
    write_h5(root / "ply_data_test0.h5", 30, 2, 0)
    (root / "shape_names.txt").write_text("airplane\nbathtub\n")
    manifest, rows = rows_of(root)
    assert {class_of(row) for name, row in rows.items() if "train" in name} == {"bathtub"}
    assert {class_of(row) for name, row in rows.items() if "test" in name} == {"airplane"}
    assert "names of classes are those of shape_names.txt" in understood(manifest)
    assert any(
        "'faceId'" in note
        for note in rows["ply_data_train0.h5#0" if "ply_data_train0.h5#0" in rows else "ply_data_train0.h5"]["notes"]
    )


def test_labels_and_names_within_hdf5(tmp_path):
    path = tmp_path / "in" / "set.h5"
    seg = np.arange(240).reshape(3, 80, 1) % 4
    write_h5(path, 0, 3, 1, seg=seg, names=np.array([b"mug", b"lamp"]))
    rows = rows_of(tmp_path / "in")[1]
    assert {class_of(row) for row in rows.values()} == {"lamp"}
    assert [row["label_voxels"] for row in rows.values()] == [[20] * 4] * 3
