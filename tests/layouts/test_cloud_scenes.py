"""Scenes, objects and patients of clouds: what belongs together lies on one side of a split."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.manifest.check import check_manifest
from pointcloud.folders import arrange
from tests.layouts.cloud_tree import class_of, cloud, points, room, rows_of, semantic_kitti, split_of, sweep, understood


def assert_whole(rows, owners):
    """Every owner has all of its clouds on one side, and the split has more than one side."""
    found = split_of(rows)
    assert set(found) == set(owners)
    assert all(len(splits) == 1 for splits in found.values())
    assert len(set().union(*found.values())) > 1


def test_sweeps_of_a_sequence_stay_together(tmp_path):
    semantic_kitti(tmp_path / "in", dict.fromkeys(range(6), 3))
    manifest, rows = rows_of(tmp_path / "in")
    assert_whole(rows, [f"sequences/{n:02d}" for n in range(6)])
    assert not any(map(class_of, rows.values()))
    assert "6 sequences of 18 clouds stay whole in a split" in understood(manifest)
    assert "sequences/00/velodyne/000000.bin is of sequences/00" in understood(manifest)


def test_poses_beside_sweeps_are_no_clouds_and_the_standard_holds(tmp_path):
    semantic_kitti(tmp_path / "in", dict.fromkeys((0, 1, 8, 11), 2))
    pose = "{0} {1} 0 {2} -{1} {0} 0 {3} 0 0 1 0.5"
    for number in (0, 1, 8, 11):
        folder = tmp_path / "in" / "sequences" / f"{number:02d}"
        turns = [(np.cos(a), np.sin(a), 3 * a, 7 * a) for a in np.linspace(0, 2, 30)]
        (folder / "poses.txt").write_text("".join(pose.format(*row) + "\n" for row in turns))
        (folder / "calib.txt").write_text("P0: 1 0 0 0 0 1 0 0 0 0 1 0\n")
        tum = [f"{n}.5 {n} 1 2 0 {np.sin(n)} 0 {np.cos(n)}" for n in range(9)]
        (folder / "trajectory.txt").write_text("\n".join(tum))
        (folder / "intrinsic.txt").write_text("570 0 320 0\n0 570 240 0\n0 0 1 0\n0 0 0 1\n")
    manifest, rows = rows_of(tmp_path / "in")
    assert {name.rsplit(".", 1)[1] for name in rows} == {"bin"}
    assert {name.split("/")[1]: row["split"] for name, row in rows.items()} == {
        "00": "train", "01": "train", "08": "val", "11": "test"
    }  # fmt: skip
    assert "split: published (standard of SemanticKITTI" in understood(manifest)
    cloud(tmp_path / "in" / "map.ply", 900)  # a cloud beside them takes nothing from the standard
    manifest, rows = rows_of(tmp_path / "in", "fresh=true")
    assert {row["split"] for name, row in rows.items() if "/08/" in name} == {"val"}
    assert "1 clouds drawn" in understood(manifest)


def test_sweeps_of_a_log_of_nuscenes_stay_together(tmp_path):
    logs = [f"n{15 + n:03d}-2018-07-2{n}-11-22-45+0800" for n in range(5)]
    for number, log in enumerate(logs):
        for at in range(3):
            name = f"{log}__LIDAR_TOP__{1532402927647951 + 50000 * at}.pcd.bin"
            sweep(tmp_path / "in" / "samples" / "LIDAR_TOP" / name, 10 * number + at, columns=5)
    manifest, rows = rows_of(tmp_path / "in")
    assert len(rows) == 15
    assert_whole(rows, logs)
    assert "5 logs" in understood(manifest)


def test_drives_of_kitti_and_segments_of_waymo_stay_together(tmp_path):
    for drive in range(4):
        folder = f"2011_09_26/2011_09_26_drive_{drive:04d}_sync/velodyne_points/data"
        segment = f"segment-1020{drive}656353524179475_7625_000_7645_000_with_camera_labels"
        for at in range(3):
            sweep(tmp_path / "kitti" / folder / f"{at:010d}.bin", 10 * drive + at)
            cloud(tmp_path / "waymo" / segment / f"{at:06d}.ply", 100 + 10 * drive + at)
    assert_whole(rows_of(tmp_path / "kitti")[1], [f"2011_09_26_drive_{n:04d}" for n in range(4)])
    found = rows_of(tmp_path / "waymo")[1]
    assert_whole(found, [f"segment-1020{n}656353524179475_7625_000_7645_000" for n in range(4)])
    assert not any(map(class_of, found.values()))


def test_numbered_sweeps_of_one_folder_are_one_sequence_as_a_guess(tmp_path):
    for folder in range(4):
        for at in range(3):
            sweep(tmp_path / "in" / f"town{'abcd'[folder]}" / "velodyne" / f"{at:06d}.bin", 10 * folder + at)
    manifest, rows = rows_of(tmp_path / "in")
    assert_whole(rows, ["towna", "townb", "townc", "townd"])
    assert "guess: 4 sequences of 12 clouds stay whole" in understood(manifest)
    other = rows_of(tmp_path / "in", "patient_pattern=town[ab]|town[cd]", "fresh=true")[1]
    assert set(split_of(other)) == {"towna", "townb", "townc", "townd"}


def test_a_published_split_parts_the_sweeps_of_one_folder(tmp_path):
    for at in range(6):
        sweep(tmp_path / "in" / "training" / "velodyne" / f"{at:06d}.bin", at)
    for at in range(2):
        sweep(tmp_path / "in" / "testing" / "velodyne" / f"{at:06d}.bin", 10 + at)
    (tmp_path / "in" / "ImageSets").mkdir()
    for name, numbers in (("train", (0, 2, 4)), ("val", (1, 3, 5)), ("test", (0, 1))):
        (tmp_path / "in" / "ImageSets" / f"{name}.txt").write_text("".join(f"{n:06d}\n" for n in numbers))
    manifest, rows = rows_of(tmp_path / "in")
    splits = {name: row["split"] for name, row in rows.items()}
    assert [splits[f"training/velodyne/{n:06d}.bin"] for n in range(6)] == ["train", "val"] * 3
    assert splits["testing/velodyne/000000.bin"] == splits["testing/velodyne/000001.bin"] == "test"
    assert "the published split parts the 6 sweeps of 1 folders" in understood(manifest)
    assert not [f for f in check_manifest(manifest).findings if f.severity == "error"]


def test_scans_of_a_room_of_scannet_are_one_room(tmp_path):
    for scene in range(5):
        for scan in range(2):
            name = f"scene{scene:04d}_{scan:02d}"
            cloud(tmp_path / "in" / "scans" / name / f"{name}_vh_clean_2.ply", 10 * scene + scan)
    manifest, rows = rows_of(tmp_path / "in")
    assert_whole(rows, [f"scene{n:04d}" for n in range(5)])
    assert not any(map(class_of, rows.values()))
    assert "5 rooms of 10 clouds" in understood(manifest)


def test_blocks_and_crops_of_a_scan_are_one_scan(tmp_path):
    for number, stem in enumerate(("hall", "porch", "attic", "cellar")):
        for at in range(3):
            cloud(tmp_path / "in" / f"{stem}_{'block' if number % 2 else 'crop_'}{at}.ply", 10 * number + at)
        cloud(tmp_path / "in" / f"{stem}.ply", 10 * number + 5)
    manifest, rows = rows_of(tmp_path / "in")
    assert_whole(rows, ["hall", "porch", "attic", "cellar"])
    assert "guess: 4 scans of 16 clouds" in understood(manifest)


@pytest.mark.parametrize(
    "variants",
    [
        ("chair_0001", "chair_0001_augmented_1", "chair_0001_augmented_3"),
        ("chair_0001", "chair_0001_bg", "chair_0001_PB_T50_RS"),
        ("chair_0001_scan1", "chair_0001_scan2", "chair_0001_rescan_3"),
        ("a/original/chair_0001", "a/augmented/chair_0001", "a/augmented/chair_0001_rot90"),
    ],
)
def test_variants_of_an_object_are_one_object(variants):
    others = [name.replace("0001", "0002") for name in variants]
    placed = arrange([f"{name}.ply" for name in (*variants, *others)]).placed
    first = {placed[f"{name}.ply"].patient for name in variants}
    second = {placed[f"{name}.ply"].patient for name in others}
    assert len(first) == len(second) == 1
    assert first != second
    assert first.pop().endswith("chair_0001")


def test_numbered_objects_of_classes_are_no_variants():
    names = [f"{word}/{word}_{n:04d}.off" for word in ("chair", "cup") for n in range(4)]
    arranged = arrange(names)
    assert {said.patient for said in arranged.placed.values()} == {""}
    assert {said.group for said in arranged.placed.values()} == {"chair", "cup"}
    assert any(
        line.startswith("guess: the class of a cloud is its folder (2: chair, cup)") for line in arranged.understood
    )


@pytest.mark.parametrize(
    "names",
    [
        [f"2021-03-{day:02d}/{n}.ply" for day in (4, 5) for n in range(3)],
        [f"{word}/{n}.ply" for word in ("00", "01", "12") for n in range(3)],
        [f"site{site}/{n}.ply" for site in (1, 2) for n in range(3)],
        [f"scene_{scene}/points/{n}.ply" for scene in (1, 2) for n in range(3)],
    ],
)
def test_dates_numbers_and_scenes_are_no_classes(names):
    assert {said.group for said in arrange(names).placed.values()} == {""}


def test_folders_that_differ_by_a_number_are_scenes(tmp_path):
    for site in range(4):
        for at in range(3):
            cloud(tmp_path / "in" / f"site{site}" / f"{at}.ply", 10 * site + at)
    manifest, rows = rows_of(tmp_path / "in")
    assert_whole(rows, [f"site{n}" for n in range(4)])
    assert "guess: 4 folders differ by a number alone, so they are taken for scenes" in understood(manifest)


@pytest.mark.parametrize("flat", [False, True])
def test_organs_of_a_patient_are_on_one_side_and_classes(tmp_path, flat):
    organs = ("liver", "spleen", "left_kidney")
    for number in range(5):
        for at, organ in enumerate(organs):
            name = f"patient{number:02d}{'_' if flat else '/'}{organ}.stl"
            cloud(tmp_path / "in" / name, 3 * number + at)
    manifest, rows = rows_of(tmp_path / "in")
    assert_whole(rows, [f"patient{n:02d}" for n in range(5)])
    assert {class_of(row) for row in rows.values()} == set(organs)
    assert "guess: the class of a cloud is" in understood(manifest)
    without = rows_of(tmp_path / "in", "class_folders=false", "fresh=true")[1]
    assert not any(map(class_of, without.values()))
    assert_whole(without, [f"patient{n:02d}" for n in range(5)])


def test_pieces_of_a_room_are_no_clouds(tmp_path):
    for area in (1, 2):
        for number in range(3):
            room(
                tmp_path / "in" / f"Area_{area}" / f"office_{number + 1}",
                10 * area + number,
                {"wall_1": 90, "chair_1": 60},
            )
    _manifest, rows = rows_of(tmp_path / "in")
    assert sorted(rows) == [f"Area_{a}/office_{n}/office_{n}.txt" for a in (1, 2) for n in (1, 2, 3)]
    assert_whole(rows, [f"Area_{a}/office_{n}" for a in (1, 2) for n in (1, 2, 3)])
    assert not any(map(class_of, rows.values()))


@pytest.mark.parametrize("absolute", [False, True])
def test_a_list_of_sweeps_keeps_sequences_whole(tmp_path, absolute):
    semantic_kitti(tmp_path / "in", dict.fromkeys(range(6), 3))
    names = sorted((tmp_path / "in").rglob("*.bin"))
    lines = [str(name if absolute else name.relative_to(tmp_path / "in")) for name in names]
    (tmp_path / "in" / "list.csv").write_text("path\n" + "\n".join(lines) + "\n")
    import medssl

    manifest = medssl.index(tmp_path / "in" / "list.csv", out=tmp_path / "m.parquet").manifest
    assert {row["patient"] for row in manifest.rows()} == {f"sequences/{n:02d}" for n in range(6)}
    assert "6 sequences of 18 clouds stay whole" in understood(manifest)


def test_check_warns_of_folders_and_stems_in_several_splits(tmp_path):
    for word in ("north", "south"):
        for number in range(8):
            cloud(tmp_path / "in" / word / f"{word}_{number}.ply", len(word) * 100 + number + (word == "south") * 50)
    manifest, _ = rows_of(tmp_path / "in", "class_folders=false")
    kinds = {f.kind: f.what for f in check_manifest(manifest).findings}
    assert "clouds of 2 folders lie in several splits" in kinds["folder-in-several-splits"]
    assert "such as those of 'north' (" in kinds["stem-in-several-splits"]


def test_blocks_of_s3dis_in_hdf5_belong_to_their_rooms(tmp_path):
    import h5py
    import numpy as np

    folder = tmp_path / "in" / "indoor3d_sem_seg_hdf5_data"
    folder.mkdir(parents=True)
    rooms = [f"Area_1_office_{n // 2}" for n in range(12)]
    for part in range(2):
        with h5py.File(folder / f"ply_data_all_{part}.h5", "w") as file:
            values = [np.c_[points(10 * part + n, 80), points(7, 80), points(8, 80)] for n in range(6)]
            file["data"] = np.stack(values).astype("f4")
            file["label"] = np.stack([np.arange(80) % 13 for _ in range(6)]).astype("u1")
    (folder / "all_files.txt").write_text("".join(f"indoor3d_sem_seg_hdf5_data/ply_data_all_{n}.h5\n" for n in (0, 1)))
    (folder / "room_filelist.txt").write_text("".join(f"{name}\n" for name in rooms))
    _manifest, rows = rows_of(tmp_path / "in")
    assert [row["patient"] for row in sorted(rows.values(), key=lambda r: (r["path"], r["item"]))] == rooms
    assert_whole(rows, set(rooms))
    # One label a point, which was passed over in silence, and columns that are not known.
    for row in rows.values():
        assert row["label_values"] == list(range(13))
        assert not class_of(row)
        assert any("4" in note and "not read" in note for note in row["notes"])


def test_a_folder_that_holds_everything_is_no_scene():
    names = [f"scan_2023/{word}/{n}.ply" for word in ("cup", "torus") for n in range(3)]
    placed = arrange(names).placed
    assert {said.patient for said in placed.values()} == {""}
    assert {said.group for said in placed.values()} == {"cup", "torus"}


def test_a_list_of_absolute_paths_is_read_from_where_they_part(tmp_path):
    import medssl

    root = tmp_path / "session_3"
    for scene in range(3):
        for at in range(2):
            cloud(root / f"scene_{scene}" / f"{at}.ply", 10 * scene + at)
    names = sorted(root.rglob("*.ply"))
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"{name}\n" for name in names))
    manifest = medssl.index(tmp_path / "list.csv", out=tmp_path / "m.parquet").manifest
    assert {row["patient"] for row in manifest.rows()} == {f"scene_{n}" for n in range(3)}
