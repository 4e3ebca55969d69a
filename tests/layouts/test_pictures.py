"""Pictures: colours, depth, pages, stacks of slices, and masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from medssl import formats
from medssl.errors import FormatError
from medssl.formats.label_map import label_of
from tests.layouts.tree import by_name, index

GREY = np.random.default_rng(0).integers(0, 255, (20, 24)).astype(np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 255, (20, 24, 3)).astype(np.uint8)


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def stack(folder: Path, seed: int, count: int = 12, name: str = "slice_{}") -> np.ndarray:
    """Write slices whose names do not sort by letters, and return their values."""
    values = np.random.default_rng(seed).integers(0, 255, (count, 20, 24)).astype(np.uint8)
    for number, plane in enumerate(values, 1):
        save(folder / f"{name.format(number)}.png", plane)
    return values


def test_colours_are_refused_until_a_channel_is_named(tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.tif", COLOURS)
    (row,) = index(tmp_path / "scans", "modality=MR").rows()
    assert "in colour" in row["error"]
    assert "picture_channel=red|green|blue" in row["error"]
    for number, channel in enumerate(("red", "green", "blue")):
        (row,) = index(tmp_path / "scans", "modality=MR", f"picture_channel={channel}").rows()
        assert row["error"] is None
        assert (row["min"], row["p50"]) == (COLOURS[..., number].min(), np.median(COLOURS[..., number]))
        assert any(note.startswith(f"colour: {channel}") for note in row["notes"])
    (row,) = index(tmp_path / "scans", "modality=MR").rows()
    assert row["error"]


def test_grey_in_colours_is_grey_and_deep_pictures_keep_their_values(tmp_path: Path) -> None:
    save(tmp_path / "grey.png", np.stack([GREY] * 3, axis=-1))
    scan = formats.read(tmp_path / "grey.png")
    np.testing.assert_array_equal(scan.values[0], GREY)
    assert any(note.startswith("grey saved in colours") for note in scan.header.warnings)
    deep = GREY.astype(np.uint16) * 250 + 7
    tifffile.imwrite(tmp_path / "deep.tif", np.stack([deep] * 3, axis=-1), photometric="rgb")
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([deep] * 3, axis=-1), isVector=True), str(tmp_path / "deep.png"))
    tifffile.imwrite(tmp_path / "wide.tif", deep.astype(np.uint32) * 70_000)
    for name, expected in (("deep.tif", deep), ("deep.png", deep), ("wide.tif", deep.astype(np.uint32) * 70_000)):
        np.testing.assert_array_equal(formats.read(tmp_path / name).values[0], expected)


def test_pages_of_one_size_are_slices_and_others_are_refused(tmp_path: Path) -> None:
    pages = np.random.default_rng(2).integers(0, 60_000, (5, 20, 24)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="minisblack")
    tifffile.imwrite(tmp_path / "imagej.tif", pages, imagej=True, metadata={"axes": "ZYX"})
    for name in ("pages.tif", "imagej.tif"):
        scan = formats.read(tmp_path / name)
        np.testing.assert_array_equal(scan.values, pages)
        assert scan.header.warnings[0].startswith("stack: 5 pages")
        assert scan.header.warnings[1].startswith("no voxel size")
        assert formats.read_header(tmp_path / name).shape == (5, 20, 24)
    tifffile.imwrite(tmp_path / "channels.tif", pages, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(FormatError, match="channels or times"):
        formats.read(tmp_path / "channels.tif")
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as file:
        file.write(pages[0])
        file.write(pages[0, :10, :10])
    with pytest.raises(FormatError, match="several sizes"):
        formats.read(tmp_path / "sizes.tif")


@pytest.mark.parametrize("layout", ["beside", "within", "twin"])
def test_a_folder_of_slices_is_one_scan_with_its_masks(layout: str, tmp_path: Path) -> None:
    root, values, masks = tmp_path / "scans", {}, {}
    for seed in range(3):
        patient = f"patient{seed}"
        folder = root / "images" / patient if layout == "twin" else root / patient
        values[patient] = stack(folder, seed)
        masks[patient] = (values[patient] > 128).astype(np.uint8)
        for number, plane in enumerate(masks[patient], 1):
            place = {"beside": folder, "within": folder / "masks", "twin": root / "masks" / patient}[layout]
            save(place / (f"slice_{number}_mask.png" if layout == "beside" else f"slice_{number}.png"), plane)
    manifest = index(root, "modality=MR")
    rows = list(manifest.rows())
    assert [row["patient"] for row in rows] == ["patient0", "patient1", "patient2"]
    for row in rows:
        scan = formats.read(Path(row["path"]), paths=[Path(name) for name in row["paths"]])
        np.testing.assert_array_equal(scan.values, values[row["patient"]])
        np.testing.assert_array_equal(label_of(Path(row["label_path"]), scan.header).values, masks[row["patient"]])
        assert row["shape"] == [12, 20, 24]
        assert any(note.startswith("no voxel size") for note in row["notes"])
        assert row["label_voxels"] == np.bincount(masks[row["patient"]].ravel()).tolist()
        assert not [flag for flag in row["flags"] if flag.startswith("label-")]
    assert any(note.startswith("stacks of pictures: 3 folders") for note in manifest.notes)
    assert len(index(root, "modality=MR", "pictures=single", out="single.parquet")) > 3


def test_single_pictures_stay_single(tmp_path: Path) -> None:
    for kind in ("NORMAL", "PNEUMONIA"):
        for number in range(1, 5):
            save(tmp_path / "scans" / kind / f"IM-{number:04d}.png", np.roll(GREY, number * (3 + len(kind)), axis=1))
    assert {tuple(row["shape"]) for row in index(tmp_path / "scans", "modality=CR").rows()} == {(1, 20, 24)}
    flat = tmp_path / "flat"
    stack(flat, 3, count=4)
    assert len(index(flat, "modality=CR")) == 4
    assert len(index(flat, "modality=CR", "pictures=stacks", out="stack.parquet")) == 1


def test_a_gap_and_a_missing_mask_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "scans" / "patient1"
    stack(folder, 0)
    (folder / "slice_5.png").unlink()
    save(folder / "slice_1_mask.png", GREY % 2)
    (row,) = index(tmp_path / "scans", "modality=MR").rows()
    assert any(note.startswith("missing slices: 1 numbers are left out, such as 5") for note in row["notes"])
    assert "label-unreadable" in row["flags"]
    assert any("10 of 11 slices have no mask" in note for note in row["notes"])


def test_a_palette_gives_its_indices(tmp_path: Path) -> None:
    classes = (GREY % 3).astype(np.uint8)
    mask = Image.fromarray(classes, "P")
    mask.putpalette([200, 30, 30, 0, 0, 0, 10, 250, 10] + [0] * 759)
    save(tmp_path / "scans" / "images" / "a.png", GREY)
    (tmp_path / "scans" / "masks").mkdir()
    mask.save(tmp_path / "scans" / "masks" / "a.png")
    row = by_name(index(tmp_path / "scans", "modality=CR"))["images/a.png"]
    assert row["label_values"] == [0, 1, 2]
    assert row["label_voxels"] == np.bincount(classes.ravel()).tolist()


@pytest.mark.parametrize("table", ["label_colours.json", "class_dict.csv", ""])
def test_colours_of_a_mask_need_a_table(table: str, tmp_path: Path) -> None:
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255]], np.uint8)
    classes = GREY % 3
    save(tmp_path / "scans" / "images" / "a.png", GREY)
    save(tmp_path / "scans" / "masks" / "a.png", palette[classes])
    if table.endswith(".json"):
        said = {"0": [0, 0, 0], "1": "#ff0000", "7": [0, 128, 255]}
        (tmp_path / "scans" / table).write_text(json.dumps(said))
    elif table:
        (tmp_path / "scans" / "masks" / table).write_text("name,r,g,b\nnone,0,0,0\none,255,0,0\ntwo,0,128,255\n")
    row = by_name(index(tmp_path / "scans", "modality=CR"))["images/a.png"]
    if not table:
        assert "label-unreadable" in row["flags"]
        assert any("label_colours.json" in note for note in row["notes"])
        return
    assert row["label_values"] == ([0, 1, 7] if table.endswith(".json") else [0, 1, 2])
    assert row["label_voxels"] == np.bincount(classes.ravel()).tolist()
    where = next((tmp_path / "scans").rglob(table))
    where.write_text(where.read_text().replace("[0, 128, 255]", "[1, 1, 1]").replace("0,128,255", "1,1,1"))
    row = by_name(index(tmp_path / "scans", "modality=CR"))["images/a.png"]
    assert any("(0, 128, 255)" in note for note in row["notes"])


def test_masks_that_jpeg_spoilt_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "scans" / "images" / "a.png", GREY)
    path = tmp_path / "scans" / "masks" / "a.jpg"
    save(path, (np.arange(480).reshape(20, 24) % 3 * 100).astype(np.uint8))
    row = by_name(index(tmp_path / "scans", "modality=CR"))["images/a.png"]
    assert "label-unreadable" in row["flags"]
    assert any("JPEG" in note for note in row["notes"])
