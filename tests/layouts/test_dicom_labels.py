"""DICOM SEG and RTSTRUCT beside their series: which scan they label, which voxels, and what is said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from highdicom.seg import Segmentation, SegmentDescription, segread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from skimage.draw import disk, polygon2mask
from skimage.measure import find_contours, grid_points_in_poly

from medssl import formats
from medssl.errors import FormatError
from medssl.formats.dicom_contours import rasterise
from medssl.formats.label_map import label_of, structure_names
from tests.layouts.dicom_tree import edit, image, save, series, uid, voxels
from tests.layouts.tree import index

SHAPE = (6, 24, 20)


def truth(names: int = 2) -> np.ndarray:
    """Return masks (structure, z, y, x) that do not overlap, the first on few slices."""
    masks = np.zeros((names, *SHAPE), bool)
    for n in range(names):
        masks[n, 1 + n : 4 + n, 2 + 6 * n : 7 + 6 * n, 3 + 2 * n : 12 + n] = True
    return masks


def write_seg(
    path: Path, sources: list[Path], masks: np.ndarray, names: list[str], kind: str = "BINARY", **more
) -> Path:
    """Write masks (structure, z, y, x) on the slices of ``sources`` with highdicom."""
    images = [pydicom.dcmread(source) for source in sources]
    described = [
        SegmentDescription(
            segment_number=n,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n, name in enumerate(names, 1)
    ]
    seg = Segmentation(
        source_images=images,
        pixel_array=np.moveaxis(masks, 0, -1) if kind != "LABELMAP" else masks,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=uid(path, "series"),
        series_number=9,
        sop_instance_uid=uid(path, "instance"),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        **more,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
    return path


def write_rtstruct(path: Path, sources: list[Path], regions: dict[str, list[tuple[str, np.ndarray]]], **tags) -> Path:
    """Write contours: name -> (type, points (n, 3) in LPS mm)."""
    first = pydicom.dcmread(sources[0])
    gone = ("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID")
    sop_class = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3", "Modality": "RTSTRUCT"}
    dataset = image(
        np.zeros((1, 1), np.int16), patient=str(first.PatientID), series=str(path), **dict.fromkeys(gone) | sop_class
    )
    frame, study, used = Dataset(), Dataset(), Dataset()
    used.SeriesInstanceUID = first.SeriesInstanceUID
    used.ContourImageSequence = []
    for source in sources:
        one = Dataset()
        one.ReferencedSOPClassUID = first.SOPClassUID
        one.ReferencedSOPInstanceUID = pydicom.dcmread(source, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        used.ContourImageSequence.append(one)
    study.RTReferencedSeriesSequence = [used]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for n, (name, contours) in enumerate(regions.items(), 1):
        region, drawn = Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = n, name, first.FrameOfReferenceUID
        drawn.ReferencedROINumber, drawn.ContourSequence = n, []
        for kind, points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{v:.6f}" for v in np.asarray(points).ravel()]
            drawn.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(region)
        dataset.ROIContourSequence.append(drawn)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return save(dataset, path)


def outlines(mask: np.ndarray, sources: list[Path], kind: str = "CLOSED_PLANAR") -> list[tuple[str, np.ndarray]]:
    """Return the outlines of a mask (z, y, x), half a voxel outside of its centres, in LPS mm; holes are their own."""
    found = []
    for plane, source in zip(mask, sources, strict=True):
        ds = pydicom.dcmread(source)
        origin, cosines = np.array(ds.ImagePositionPatient, float), np.array(ds.ImageOrientationPatient, float)
        rows, columns = (float(v) for v in ds.PixelSpacing)
        for line in find_contours(np.pad(plane, 1).astype(float), 0.5):
            line = line[:-1] - 1
            found.append(
                (kind, origin + np.outer(line[:, 0] * rows, cosines[3:]) + np.outer(line[:, 1] * columns, cosines[:3]))
            )
    return found


def labelled(folder: Path) -> dict[str, Any]:
    (row,) = [row for row in index(folder).rows() if row["error"] is None]
    return row


def values_of(row: dict, classes: dict[int, str]) -> np.ndarray:
    scan = formats.read(Path(row["path"]), paths=[Path(p) for p in row["paths"]])
    label = label_of(Path(row["label_path"]), scan.header, classes=classes)
    assert label.header.shape == scan.header.shape
    np.testing.assert_allclose(label.header.affine, scan.header.affine)
    return label.values


class TestSeg:
    @pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
    def test_a_seg_anywhere_in_the_tree_labels_the_series_that_it_names(self, kind: str, tmp_path: Path) -> None:
        paths = series(tmp_path / "d" / "images", voxels(0, SHAPE))
        series(tmp_path / "d" / "others", voxels(1, SHAPE), name="other")
        masks = truth()
        more: dict[str, Any] = {"max_fractional_value": 200} if kind == "FRACTIONAL" else {}
        given = masks.astype(np.uint8)
        if kind == "FRACTIONAL":
            given = masks * 0.5 + 0.1 * (~masks)
        if kind == "LABELMAP":
            given = (masks[0] + 2 * masks[1]).astype(np.uint8)
        seg = write_seg(tmp_path / "d" / "far" / "seg.dcm", paths, given, ["Tumour", "Liver"], kind, **more)
        manifest = index(tmp_path / "d")
        assert manifest.classes == {0: "background", 1: "Liver", 2: "Tumour"}
        rows = [row for row in manifest.rows() if row["error"] is None]
        assert [Path(row["path"]).name for row in rows if row["label_path"]] == ["images"]
        (row,) = [row for row in rows if row["label_path"] == str(seg)]
        expected = 2 * masks[0] + masks[1]
        assert row["label_voxels"] == [int((expected == n).sum()) for n in range(3)]
        np.testing.assert_array_equal(values_of(row, manifest.classes), expected)
        assert not [flag for flag in row["flags"] if flag.startswith("label")]
        assert any("at least 100 of 200" in note for note in row["notes"]) == (kind == "FRACTIONAL")
        assert structure_names(seg) == ("Liver", "Tumour")

    def test_highdicom_reads_the_same_voxels(self, tmp_path: Path) -> None:
        oblique = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)
        paths = series(tmp_path / "d", voxels(0, SHAPE), cosines=oblique, step=(0.0, 0.0, -3.0))
        write_seg(tmp_path / "d" / "seg.dcm", paths, truth().astype(np.uint8), ["a", "b"])
        row = labelled(tmp_path / "d")
        volume = segread(tmp_path / "d" / "seg.dcm").get_volume(combine_segments=True, allow_missing_positions=True)
        mine = values_of(row, {1: "a", 2: "b"})
        affine = np.array(row["affine"]).reshape(4, 4)
        for place in np.argwhere(np.asarray(volume.array) > 0):  # every voxel at its place in the world
            world = np.diag([-1.0, -1, 1, 1]) @ volume.affine @ [*place, 1.0]
            x, y, z, _ = np.rint(np.linalg.inv(affine) @ world).astype(int)
            assert mine[z, y, x] == volume.array[tuple(place)]
        assert (mine > 0).sum() == (np.asarray(volume.array) > 0).sum() > 0

    def test_slices_are_matched_beyond_a_gap(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(0, SHAPE))
        write_seg(tmp_path / "d" / "seg.dcm", paths, truth().astype(np.uint8), ["a", "b"])
        paths[1].unlink()
        row = labelled(tmp_path / "d")
        # The frame of the slice that is gone lies on no slice, so that the label keeps its own grid, and says so.
        assert "label-shape-differs" in row["flags"]
        paths = series(tmp_path / "e", np.delete(voxels(0, SHAPE), 2, 0), per_slice=lambda k: {
            "position": (0.0, 0.0, 3.0 * (k + (k > 1)))})  # fmt: skip
        masks = np.delete(truth(), 2, 1)
        write_seg(tmp_path / "e" / "seg.dcm", paths, masks.astype(np.uint8), ["a", "b"])
        row = labelled(tmp_path / "e")
        np.testing.assert_array_equal(values_of(row, {1: "a", 2: "b"}), masks[0] + 2 * masks[1])

    def test_the_smaller_of_overlapping_segments_keeps_the_voxels(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(0, SHAPE))
        masks = np.zeros((2, *SHAPE), bool)
        masks[0, 2, 5:8, 5:8] = True  # 9 voxels within
        masks[1, 1:4, 2:15, 2:15] = True
        write_seg(tmp_path / "d" / "seg.dcm", paths, masks.astype(np.uint8), ["tumour", "kidney"])
        row = labelled(tmp_path / "d")
        assert row["label_voxels"][1:] == [3 * 13 * 13 - 9, 9]  # kidney, tumour
        assert any("9 voxels of tumour and kidney" in note for note in row["notes"])

    def test_names_are_numbered_for_the_cohort_and_cleaned(self, tmp_path: Path) -> None:
        for n, names in enumerate((["spleen", "liver"], ["liver", "Liver\x07 left"])):
            paths = series(tmp_path / "d" / str(n), voxels(n, SHAPE), patient=f"P{n}", name=str(n))
            write_seg(tmp_path / "d" / str(n) / "seg.dcm", paths, truth().astype(np.uint8), ["x", "y"])

            def rename(ds: Dataset, names=names) -> None:
                for item, name in zip(ds.SegmentSequence, names, strict=True):
                    item.SegmentLabel = name

            edit(tmp_path / "d" / str(n) / "seg.dcm", rename)
        manifest = index(tmp_path / "d")
        assert manifest.classes == {0: "background", 1: "Liver left", 2: "liver", 3: "spleen"}
        by_folder = {Path(row["path"]).name: row for row in manifest.rows()}
        first, second = truth()
        np.testing.assert_array_equal(values_of(by_folder["0"], manifest.classes), 3 * first + 2 * second)
        np.testing.assert_array_equal(values_of(by_folder["1"], manifest.classes), 2 * first + 1 * second)
        # A new name comes behind: labels that are stored keep their numbers.
        paths = series(tmp_path / "d" / "2", voxels(2, SHAPE), patient="P2", name="2")
        write_seg(tmp_path / "d" / "2" / "seg.dcm", paths, truth().astype(np.uint8), ["aorta", "liver"])
        again = index(tmp_path / "d")
        assert again.classes == {0: "background", 1: "Liver left", 2: "liver", 3: "spleen", 4: "aorta"}
        row = next(row for row in again.rows() if Path(row["path"]).name == "0")
        assert row["label_values"] == [0, 2, 3]

    def test_the_images_that_it_names_say_which_phase_a_seg_labels(self, tmp_path: Path) -> None:
        every = [
            series(tmp_path / "d", voxels(n, SHAPE), instances=n, prefix=str(n), AcquisitionNumber=n + 1)
            for n in range(2)
        ]
        write_seg(tmp_path / "d" / "seg.dcm", every[1], truth().astype(np.uint8), ["a", "b"])
        rows = {row["notes"][0][:37]: row["label_path"] for row in index(tmp_path / "d").rows()}
        assert rows["part of a series: AcquisitionNumber 1"] is None
        assert rows["part of a series: AcquisitionNumber 2"] is not None

    def test_several_labels_are_said_and_one_is_chosen(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(0, SHAPE))
        write_seg(tmp_path / "d" / "a.dcm", paths, truth()[:1].astype(np.uint8), ["a"])
        write_seg(tmp_path / "d" / "b.dcm", paths, truth().astype(np.uint8), ["a", "b"])
        write_rtstruct(tmp_path / "d" / "c.dcm", paths, {name: outlines(truth()[0], paths) for name in "abcd"})
        for _ in range(2):  # again, from what was kept
            row = labelled(tmp_path / "d")
            assert (Path(row["label_path"]).name, "several-labels" in row["flags"]) == ("b.dcm", True)

    def test_a_label_whose_series_is_absent_is_one_line_until_it_comes(self, tmp_path: Path) -> None:
        series(tmp_path / "d" / "a", voxels(1, SHAPE), name="other")
        paths = series(tmp_path / "later", voxels(0, SHAPE))
        write_seg(tmp_path / "d" / "b" / "seg.dcm", paths, truth().astype(np.uint8), ["a", "b"])
        rows = list(index(tmp_path / "d").rows())
        assert sorted(row["flags"] for row in rows if row["error"]) == [["label-without-image"]]
        assert [row["label_path"] for row in rows if not row["error"]] == [None]
        shutil.copytree(tmp_path / "later", tmp_path / "d" / "c")
        rows = list(index(tmp_path / "d").rows())
        assert not [row for row in rows if row["error"]]
        assert sorted(bool(row["label_path"]) for row in rows) == [False, True]
        (tmp_path / "d" / "b" / "seg.dcm").unlink()
        assert not any(row["label_path"] for row in index(tmp_path / "d").rows())

    def test_a_seg_on_another_grid_keeps_its_own(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(0, SHAPE))
        coarse = series(
            tmp_path / "coarse", voxels(0, (6, 12, 10)), spacing=(3.0, 3.0, 2.0), origin=(-19.5, -29.25, 40.0)
        )
        seg = write_seg(tmp_path / "d" / "seg.dcm", coarse, truth()[:, :, ::2, ::2].astype(np.uint8), ["a", "b"])
        row = labelled(tmp_path / "d")
        assert "label-shape-differs" in row["flags"]
        header = formats.read_header(Path(paths[0].parent / "001.dcm"))
        label = label_of(seg, header)
        volume = segread(seg).get_volume(combine_segments=True)
        assert label.values.shape == volume.array.shape
        np.testing.assert_array_equal(np.sort(np.unique(label.values)), [0, 1, 2])
        assert (label.values > 0).sum() == (volume.array > 0).sum()
        theirs = np.diag([-1.0, -1, 1, 1]) @ volume.affine[:, [2, 1, 0, 3]]  # from the last slice to the first
        np.testing.assert_array_equal(label.values, volume.array[::-1])
        np.testing.assert_allclose(label.header.affine[:, :3], theirs[:, :3] * [1, 1, -1])
        np.testing.assert_allclose(label.header.affine[:, 3], theirs @ [0, 0, len(volume.array) - 1, 1])

    def test_damaged_labels_are_format_errors(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(0, SHAPE))
        seg = write_seg(tmp_path / "d" / "seg.dcm", paths, truth().astype(np.uint8), ["a", "b"])
        header = formats.read_header(tmp_path / "d")
        whole = seg.read_bytes()
        refused = 0
        for place in np.random.default_rng(0).integers(132, len(whole), 24):
            damaged = bytearray(whole)
            damaged[place] ^= 0xFF
            seg.write_bytes(damaged)
            try:
                label_of(seg, header)
            except FormatError:
                refused += 1
        assert refused > 0
        seg.write_bytes(whole[: len(whole) // 2])
        assert [row["error"] is None for row in index(tmp_path / "d").rows()].count(True) == 1


class TestRtstruct:
    def test_contours_become_the_masks_that_they_were_drawn_around(self, tmp_path: Path) -> None:
        oblique = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)
        paths = series(tmp_path / "d" / "ct", voxels(0, SHAPE), cosines=oblique, step=(0.0, 0.4, -3.0))
        masks = truth()
        masks[1, 2:5, 10:12, 7:9] = False  # a hole
        regions = {"GTV 1": outlines(masks[0], paths), "Body": outlines(masks[1], paths, "CLOSEDPLANAR_XOR")}
        write_rtstruct(tmp_path / "d" / "rs" / "rs.dcm", paths, regions)
        row = labelled(tmp_path / "d")
        order = [paths.index(Path(p)) for p in row["paths"]]
        classes = {1: "Body", 2: "GTV 1"}
        np.testing.assert_array_equal(values_of(row, classes), (2 * masks[0] + masks[1])[order])
        assert row["label_voxels"][1:] == [int(masks[1].sum()), int(masks[0].sum())]

    def test_what_is_left_out_is_counted(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(0, SHAPE))
        good = outlines(truth()[0], paths)
        far = good[0][1] + [0, 0, 100.0]
        sideways = good[0][1][:, [0, 2, 1]]
        regions = {
            "a": [*good, good[0], ("CLOSED_PLANAR", far), ("POINT", good[0][1][:1]), ("CLOSED_PLANAR", sideways)],
            "b\x1b[31m": [good[0], good[2]],
        }
        write_rtstruct(tmp_path / "d" / "rs.dcm", paths, regions)
        row = labelled(tmp_path / "d")
        assert row["label_voxels"][1:] == [15 * 3, 0] or sum(row["label_voxels"][1:]) == 45 * 3
        text = " ".join(row["notes"])
        for words in ("1 contours beyond the slices", "1 contours that are points", "1 contours that are there twice",
                      "1 contours that do not lie along", "were not filled: b [31m (1)"):  # fmt: skip
            assert words in text, (words, text)

    def test_a_label_that_names_no_series_goes_by_its_frame_of_reference(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d" / "a", voxels(0, SHAPE))
        series(tmp_path / "d" / "b", voxels(1, SHAPE), name="b", patient="P2")

        def forget(ds: Dataset) -> None:
            del ds.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence

        edit(write_rtstruct(tmp_path / "d" / "rs.dcm", paths, {"a": outlines(truth()[0], paths)}), forget)
        rows = {Path(row["path"]).name: row for row in index(tmp_path / "d").rows()}
        assert rows["a"]["label_values"] == [0, 1]
        assert rows["b"]["label_path"] is None
        series(tmp_path / "d" / "c", voxels(2, SHAPE), name="c")
        (orphan,) = [row for row in index(tmp_path / "d", out="x.parquet").rows() if row["error"]]
        assert "which of 2 volumes" in orphan["error"]

    def test_contours_on_no_slice_are_refused(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(0, SHAPE))
        away = [(kind, points + np.array([0, 0, 500.0])) for kind, points in outlines(truth()[0], paths)]
        write_rtstruct(tmp_path / "d" / "rs.dcm", paths, {"a": away})
        row = labelled(tmp_path / "d")
        assert "label-unreadable" in row["flags"]
        assert any("None of its 3 contours" in note for note in row["notes"])


class TestContours:
    def test_any_polygon_is_as_skimage_has_it(self) -> None:
        random = np.random.default_rng(0)
        for _ in range(60):
            corners = random.uniform(-4, 34, (int(random.integers(3, 12)), 2))
            expected = grid_points_in_poly((30, 28), corners)
            moved = [grid_points_in_poly((30, 28), corners + np.array([0.0, by])) for by in (-1e-3, 1e-3)]
            sure = (moved[0] == expected) & (moved[1] == expected)  # the rest lies on a line, as good as
            np.testing.assert_array_equal(rasterise([corners], (30, 28))[sure], expected[sure])
            assert sure.sum() > 835

    def test_lines_through_centres_give_the_traced_pixels_back(self) -> None:
        corners = np.array([[3, 4], [3, 11], [9, 11], [9, 4]], float)
        mask = np.zeros((14, 16), bool)
        mask[3:10, 4:12] = True
        np.testing.assert_array_equal(rasterise([corners + 1e-5], (14, 16)), mask)
        np.testing.assert_array_equal(rasterise([np.flip(corners, 0)], (14, 16)), mask)

    def test_holes_by_a_keyhole_and_by_a_contour_of_their_own_are_one(self) -> None:
        outer = np.array([[0.5, 0.5], [0.5, 20.5], [20.5, 20.5], [20.5, 0.5]])
        inner = np.array([[5.5, 5.5], [5.5, 12.5], [12.5, 12.5], [12.5, 5.5]])
        keyhole = np.concatenate([outer, outer[:1], inner[::-1][-1:], inner[::-1], outer[:1]])
        mask = polygon2mask((24, 24), outer) & ~polygon2mask((24, 24), inner)
        np.testing.assert_array_equal(rasterise([outer, inner], (24, 24)), mask)
        np.testing.assert_array_equal(rasterise([keyhole], (24, 24)), mask)

    def test_a_traced_disk_with_a_hole_is_that_of_simpleitk(self) -> None:
        drawn = np.zeros((64, 64), np.uint8)
        drawn[disk((30, 33), 22)] = 1
        drawn[disk((28, 36), 9)] = 0
        lines = [line[:-1] - 1 for line in find_contours(np.pad(drawn, 1).astype(float), 0.5)]
        filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(drawn)))
        np.testing.assert_array_equal(rasterise(lines, (64, 64)), drawn > 0)
        np.testing.assert_array_equal(rasterise(sorted(lines, key=len)[-1:], (64, 64)), filled > 0)


@pytest.mark.slow
@pytest.mark.realdata
def test_a_real_series_takes_a_seg_and_an_rtstruct(tmp_path: Path) -> None:
    source = Path(os.environ.get("MEDSSL_DATA", "")) / "ct_dicom" / "kits_00072"
    if not source.is_dir():
        pytest.skip("needs MEDSSL_DATA")
    shutil.copytree(source, tmp_path / "d" / "ct")
    paths = sorted((tmp_path / "d" / "ct").iterdir())
    paths = [path for path in paths if path.suffix == ".dcm"]
    scan = formats.read(tmp_path / "d" / "ct")
    masks = np.stack([scan.values > 300, (scan.values > 100) & (scan.values <= 300)])
    ordered = list(scan.header.paths)
    write_seg(tmp_path / "seg.dcm", ordered, masks.astype(np.uint8), ["bone", "soft"])
    write_rtstruct(tmp_path / "rs.dcm", ordered, {"bone": outlines(masks[0], ordered)})
    for name, expected in (("seg.dcm", masks[0] + 2 * masks[1]), ("rs.dcm", masks[0])):
        shutil.copy(tmp_path / name, tmp_path / "d" / name)
        row = labelled(tmp_path / "d")
        np.testing.assert_array_equal(values_of(row, {1: "bone", 2: "soft"}), expected)
        assert row["label_voxels"][1:] == [int((expected == n).sum()) for n in range(1, int(expected.max()) + 1)]
        (tmp_path / "d" / name).unlink()
    assert paths
