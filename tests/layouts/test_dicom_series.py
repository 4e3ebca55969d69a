"""DICOM as it comes: which slices are one scan, what they measure, what is missing, and what is no scan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

import medssl
from medssl import formats
from medssl.errors import FormatError
from medssl.formats import dicom
from medssl.formats.dicom_write import write_multiframe
from medssl.manifest.check import check_manifest
from tests.layouts.dicom_tree import AXIAL, edit, image, itk, save, series, uid, voxels
from tests.layouts.tree import index

AFFINE = np.array([[-2.0, 0, 0, 10], [0, -3.0, 0, 20], [0, 0, 4.0, 30], [0, 0, 0, 1]])


def scans(folder: Path, *settings: str) -> list[dict]:
    return [row for row in index(folder, *settings).rows() if row["error"] is None]


def read(row: dict) -> formats.Scan:
    return formats.read(Path(row["path"]), paths=[Path(p) for p in row["paths"]])


def stored(paths: list[Path]) -> np.ndarray:
    """Return what pydicom reads, with each slice's own slope and intercept."""
    found = [pydicom.dcmread(path) for path in paths]
    return np.stack(
        [d.pixel_array * float(d.get("RescaleSlope", 1)) + float(d.get("RescaleIntercept", 0)) for d in found]
    )


def kinds(row: dict) -> list[str]:
    return [note.partition(":")[0] for note in row["notes"]]


class TestOneScan:
    def test_one_series_uid_over_four_patients_is_four_scans(self, tmp_path: Path) -> None:
        for n in range(4):
            series(tmp_path / "d" / f"f{n}", voxels(n), patient=f"P{n}")
        rows = scans(tmp_path / "d")
        assert len({row["id"] for row in rows}) == len({row["patient"] for row in rows}) == len(rows) == 4
        for row in rows:
            np.testing.assert_array_equal(read(row).values, voxels(int(Path(row["path"]).name[1])) - 1024)

    def test_two_patients_in_one_folder_are_not_mixed(self, tmp_path: Path) -> None:
        for n, kind in enumerate(("P1", "P2")):
            series(tmp_path / "d", voxels(n), patient=kind, prefix=kind, origin=(0.0, 0.0, 18.0 * n))
        assert sorted(row["shape"][0] for row in scans(tmp_path / "d")) == [6, 6]

    def test_patients_without_an_identifier_are_told_by_their_names(self, tmp_path: Path) -> None:
        for n, name in enumerate(("A^A", "B^B")):
            tags = {"PatientID": None, "PatientName": name, "StudyInstanceUID": uid("one")}
            series(tmp_path / "d", voxels(n), patient="", instances=n, prefix=str(n), **tags)
        manifest = index(tmp_path / "d")
        assert [row["shape"][0] for row in manifest.rows()] == [6, 6]
        assert "A^A" not in str(list(manifest.rows()))

    def test_two_series_of_one_number_and_a_series_in_several_folders(self, tmp_path: Path) -> None:
        one = series(tmp_path / "d" / "a", voxels(1), name="one", SeriesNumber=5)
        series(tmp_path / "d" / "a", voxels(2), name="two", SeriesNumber=5, prefix="x")
        (tmp_path / "d" / "b").mkdir()
        one[3].rename(tmp_path / "d" / "b" / one[3].name)
        rows = scans(tmp_path / "d")
        assert [row["shape"][0] for row in rows] == [6, 6]
        assert {tuple(read(row).values[0, 0, :3]) for row in rows} == {
            tuple(voxels(n)[0, 0, :3] - 1024) for n in (1, 2)
        }

    def test_orientations_that_differ_by_rounding_are_one_and_two_sizes_are_two(self, tmp_path: Path) -> None:
        wobble = (1.0, 1e-5, 0.0, -1e-5, 1.0, 0.0)
        series(tmp_path / "d", voxels(), per_slice=lambda k: {"cosines": wobble if k % 2 else AXIAL})
        series(tmp_path / "d", voxels(1, (3, 8, 8)), prefix="scout", instances="scout")
        assert sorted(tuple(row["shape"]) for row in scans(tmp_path / "d")) == [(3, 8, 8), (6, 12, 10)]

    @pytest.mark.parametrize(
        ("cosines", "step"),
        [
            ((1, 0, 0, 0, 1, 0), (0, 0, 3)),  # head first, supine
            ((-1, 0, 0, 0, -1, 0), (0, 0, 3)),  # prone
            ((-1, 0, 0, 0, 1, 0), (0, 0, -3)),  # feet first
            ((1, 0, 0, 0, 1, 0), (0, 0, -3)),  # the other way round
            ((0, 1, 0, 0, 0, -1), (3, 0, 0)),  # sagittal
            ((0.8, 0.6, 0, -0.6, 0.8, 0), (0, 0, 3)),  # oblique
        ],
    )
    def test_geometry_is_that_of_simpleitk(self, cosines, step, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(), cosines=tuple(map(float, cosines)), step=step)
        (row,) = scans(tmp_path / "d")
        ordered = [Path(p) for p in row["paths"]]
        assert set(ordered) == set(paths)
        values, affine = itk(ordered)
        np.testing.assert_array_equal(read(row).values, values)
        np.testing.assert_allclose(np.array(row["affine"]).reshape(4, 4), affine, atol=1e-6)
        assert row["notes"] == []

    def test_big_endian_and_a_tilted_gantry(self, tmp_path: Path) -> None:
        swapped = voxels().astype(">i2")
        paths = series(tmp_path / "d", swapped, syntax=ExplicitVRBigEndian, step=(0.0, 0.8, 3.0))
        (row,) = scans(tmp_path / "d")
        np.testing.assert_array_equal(read(row).values, stored(paths))
        assert kinds(row) == ["gantry tilt"]
        assert np.array(row["affine"]).reshape(4, 4)[:3, 2] == pytest.approx([0.0, -0.8, 3.0])


MARKED = [
    ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
    ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
    ({"EchoTime": 2.46}, {"EchoTime": 4.92}),
    ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
    ({"ImageType": ["DERIVED", "PRIMARY", "DIXON", "WATER"]}, {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "FAT"]}),
    ({"StackID": "1"}, {"StackID": "2"}),
    ({"InversionTime": 100.0}, {"InversionTime": 900.0}),
]


class TestParts:
    @pytest.mark.parametrize(("first", "second"), MARKED, ids=[next(iter(a)) for a, _ in MARKED])
    def test_volumes_of_one_series_are_distinguished_by_their_headers(self, first, second, tmp_path: Path) -> None:
        for n, tags in enumerate((first, second)):
            series(tmp_path / "d", voxels(n), modality="MR", instances=n, prefix=str(n), **tags)
        rows = scans(tmp_path / "d")
        assert len({row["id"] for row in rows}) == len(rows) == 2
        for row in rows:
            n = int(Path(row["paths"][0]).name[0])
            np.testing.assert_array_equal(read(row).values, voxels(n))
            assert any(note.startswith("part of a series: " + next(iter(first))) for note in row["notes"])
            assert row["frames"] == 1
        again = scans(tmp_path / "d")
        assert [(row["id"], row["notes"]) for row in again] == [(row["id"], row["notes"]) for row in rows]

    @pytest.mark.parametrize("keyword", ["TriggerTime", "ContentTime", "AcquisitionTime"])
    def test_times_that_differ_at_each_place_are_ranked(self, keyword: str, tmp_path: Path) -> None:
        for n in range(3):
            series(
                tmp_path / "d",
                voxels(n),
                modality="MR",
                instances=n,
                prefix=str(n),
                per_slice=lambda k, n=n: {
                    keyword: f"12{2 - n:02d}{k:02d}.5" if keyword != "TriggerTime" else 30.0 * (2 - n) + 0.1 * k,
                    "InstanceNumber": 3 * k + n + 1,
                },
            )
        rows = scans(tmp_path / "d")
        assert len(rows) == 3
        for row in rows:
            n = int(Path(row["paths"][0]).name[0])
            np.testing.assert_array_equal(read(row).values, voxels(n))
            assert f"volume {3 - n} of 3" in row["notes"][-1]

    def test_echoes_times_parts_of_complex_numbers_are_all_distinguished(self, tmp_path: Path) -> None:
        for n in range(4):
            tags = {"EchoTime": 2.0 + n // 2, "ImageType": ["ORIGINAL", "PRIMARY", "MP"[n % 2], "ND"]}
            series(tmp_path / "d", voxels(n), modality="MR", instances=n, prefix=str(n), **tags)
        rows = scans(tmp_path / "d")
        assert len(rows) == 4
        for row in rows:
            np.testing.assert_array_equal(read(row).values, voxels(int(Path(row["paths"][0]).name[0])))

    def test_counting_up_within_one_volume_divides_nothing(self, tmp_path: Path) -> None:
        counted = lambda k: {"AcquisitionNumber": k + 1, "ContentTime": f"1200{k:02d}", "EchoTime": 2.0 + k % 2}  # noqa: E731
        series(tmp_path / "d", voxels(), per_slice=counted)
        (row,) = scans(tmp_path / "d")
        assert (row["shape"], row["notes"]) == ([6, 12, 10], [])

    def test_dovetailed_phases_are_distinguished(self, tmp_path: Path) -> None:
        for n in range(2):
            series(
                tmp_path / "d", voxels(n), instances=n, prefix=str(n), AcquisitionNumber=n + 1, origin=(0, 0, 0.8 * n)
            )
        rows = scans(tmp_path / "d")
        assert [row["spacing_mm"][0] for row in rows] == pytest.approx([3.0, 3.0])

    def test_what_cannot_be_distinguished_is_said(self, tmp_path: Path) -> None:
        series(tmp_path / "d", voxels(0))
        series(tmp_path / "d", voxels(1)[:2], instances=1, prefix="x", per_slice=lambda k: {"InstanceNumber": 50 + k})
        (row,) = scans(tmp_path / "d")
        assert kinds(row) == ["duplicate positions"]
        assert "2 slices" in row["notes"][0]
        np.testing.assert_array_equal(read(row).values, voxels(0) - 1024)

    def test_repeats_without_any_mark_are_a_guess_that_says_so(self, tmp_path: Path) -> None:
        for n in range(2):
            series(
                tmp_path / "d",
                voxels(n),
                instances=n,
                prefix=str(n),
                per_slice=lambda k, n=n: {"InstanceNumber": 6 * n + k + 1},
            )
        rows = scans(tmp_path / "d")
        assert len(rows) == 2
        assert all("which is a guess" in row["notes"][0] for row in rows)

    def test_volumes_of_one_multi_frame_file_are_named_and_the_first_is_used(self, tmp_path: Path) -> None:
        file = tmp_path / "d" / "all.dcm"
        values = np.stack([voxels(n) for n in range(2)])
        write_multiframe(file, values, AFFINE, modality="MR")

        def diffusion(ds: Dataset) -> None:
            for n, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
                item = Dataset()
                item.DiffusionBValue = 1000.0 * (1 - n // 6)
                frame.MRDiffusionSequence = [item]
                del frame.FrameContentSequence[0].TemporalPositionIndex

        edit(file, diffusion)
        (row,) = scans(tmp_path / "d")
        assert (row["frames"], kinds(row)) == (2, ["several volumes"])
        assert "DiffusionBValue 0.0; DiffusionBValue 1000.0" in row["notes"][0]
        np.testing.assert_array_equal(formats.read(file).values, voxels(1))
        np.testing.assert_array_equal(formats.read(file, frame=1).values, voxels(0))

    def test_frames_in_three_planes_do_not_end_the_index(self, tmp_path: Path) -> None:
        series(tmp_path / "d" / "good", voxels())
        file = tmp_path / "d" / "planes.dcm"
        write_multiframe(file, voxels(), AFFINE, modality="MR")

        def turn(ds: Dataset) -> None:
            planes = [AXIAL, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)]
            ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = []
            for n, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
                item = Dataset()
                item.ImageOrientationPatient = list(planes[n // 2])
                frame.PlaneOrientationSequence = [item]

        edit(file, turn)
        rows = list(index(tmp_path / "d").rows())
        assert [row["shape"] for row in rows if row["error"] is None] == [[6, 12, 10]]
        (aside,) = [row for row in rows if row["error"]]
        assert "3 planes" in aside["error"]
        assert aside["flags"] == ["set-aside"]


class TestNumbers:
    def test_padding_becomes_air_and_drives_no_percentile(self, tmp_path: Path) -> None:
        values = voxels()
        values[:, :, :4] = -2000
        paths = series(tmp_path / "d", values)
        for path in paths:
            edit(path, lambda ds: ds.add_new("PixelPaddingValue", "US", 63536))  # -2000, as some write it
        (row,) = scans(tmp_path / "d")
        expected = np.where(values == -2000, -1024, values - 1024)
        np.testing.assert_array_equal(read(row).values, expected)
        assert (row["min"], row["p005"]) == (-1024, np.percentile(expected, 0.5))
        assert stored(paths).min() == -3024

    def test_a_range_of_padding_in_mr_becomes_the_lowest_value(self, tmp_path: Path) -> None:
        values = voxels()
        values[1, :3], values[1, 3:5] = -30, -25
        series(tmp_path / "d", values, modality="MR", PixelPaddingValue=-30, PixelPaddingRangeLimit=-20)
        (row,) = scans(tmp_path / "d")
        np.testing.assert_array_equal(read(row).values, np.where(values < 0, values[values > 0].min(), values))

    def test_padding_that_would_take_tissue_is_left_and_said(self, tmp_path: Path) -> None:
        values = voxels()
        values[0, 0, :5] = 1024  # 0 HU
        series(tmp_path / "d", values, PixelPaddingValue=1024)
        (row,) = scans(tmp_path / "d")
        np.testing.assert_array_equal(read(row).values, values - 1024)
        assert kinds(row) == ["padding in doubt"]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_floating_point_pixels_stay_so(self, dtype: str, tmp_path: Path) -> None:
        values = (voxels() / 7.0).astype(dtype)

        def floating(k: int) -> dict:
            name = "FloatPixelData" if dtype == "float32" else "DoubleFloatPixelData"
            gone = ("PixelData", "BitsStored", "HighBit", "PixelRepresentation")
            return dict.fromkeys(gone) | {name: values[k].tobytes(), "BitsAllocated": values.itemsize * 8}

        series(tmp_path / "d", voxels(), modality="MR", per_slice=floating)
        (row,) = scans(tmp_path / "d")
        assert row["dtype"] == dtype
        np.testing.assert_array_equal(read(row).values, values)

    def test_pet_has_a_slope_for_each_slice_and_says_its_units(self, tmp_path: Path) -> None:
        slopes = {"Units": "BQML", "RescaleIntercept": 0}
        paths = series(
            tmp_path / "d", voxels(), modality="PT", per_slice=lambda k: slopes | {"RescaleSlope": 0.25 + 0.125 * k}
        )
        (row,) = scans(tmp_path / "d")
        np.testing.assert_allclose(read(row).values, stored(paths), rtol=1e-6)
        assert (row["units"], json.loads(row["fields"])["Units"]) == ("arbitrary", "BQML")
        assert row["notes"] == ["units: the values are in BQML; no SUV is computed"]

    def test_a_missing_slope_among_others_is_an_error_of_the_check(self, tmp_path: Path) -> None:
        series(tmp_path / "d", voxels(), modality="PT", per_slice=lambda k: {} if k == 2 else {"RescaleSlope": 2.0})
        found = check_manifest(index(tmp_path / "d"))
        assert [f.kind for f in found.findings if f.severity == "error"] == ["uneven-rescale"]

    def test_decimal_commas_are_read_and_other_words_refused(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels(), modality="MR", RescaleSlope="0.5", RescaleIntercept="1.5")
        plain = stored(paths)
        for path in paths:
            raw = path.read_bytes()
            assert raw.count(b"0.5 ") == 1
            path.write_bytes(raw.replace(b"0.5 ", b"0,5 "))
        (row,) = scans(tmp_path / "d")
        np.testing.assert_array_equal(read(row).values, plain)
        paths[0].write_bytes(paths[0].read_bytes().replace(b"0,5 ", b"0x5 "))
        (error,) = dicom.find_series(tmp_path / "d")[1]
        assert "RescaleSlope is '0x5'" in error.reason

    def test_each_frame_has_its_own_rescale(self, tmp_path: Path) -> None:
        file = tmp_path / "d" / "all.dcm"
        write_multiframe(file, voxels(), AFFINE, modality="MR")

        def scale(ds: Dataset) -> None:
            ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = []
            for n, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
                item = Dataset()
                item.RescaleSlope, item.RescaleIntercept, item.RescaleType = n + 1, n, "US"
                frame.PixelValueTransformationSequence = [item]

        edit(file, scale)
        factors = np.arange(6)[:, None, None]
        np.testing.assert_array_equal(formats.read(file).values, voxels() * (factors + 1) + factors)

    def test_bits_beyond_those_stored_are_cut_off_as_gdcm_does(self, tmp_path: Path) -> None:
        plain = voxels().astype(np.uint16)
        drawn = plain | np.where(np.indices(plain.shape).sum(axis=0) % 3 == 0, 0x8000, 0).astype(np.uint16)
        paths = series(tmp_path / "d", drawn, BitsStored=12, HighBit=11)
        (row,) = scans(tmp_path / "d")
        np.testing.assert_array_equal(read(row).values, plain.astype(int) - 1024)
        np.testing.assert_array_equal(itk(paths)[0], plain.astype(int) - 1024)

    def test_a_scale_of_philips_own_is_said(self, tmp_path: Path) -> None:
        for path in series(tmp_path / "d", voxels(), modality="MR"):
            edit(
                path,
                lambda ds: ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.5),
            )
        (row,) = scans(tmp_path / "d")
        assert kinds(row) == ["display values"]


class TestGaps:
    def told(self, folder: Path) -> tuple[str, list[float]]:
        (row,) = scans(folder)
        assert kinds(row) == ["missing slices"]
        return row["notes"][0], row["spacing_mm"]

    def test_every_tenth_slice_is_told_by_numbers_and_thickness(self, tmp_path: Path) -> None:
        for n, path in enumerate(series(tmp_path / "d", voxels(0, (41, 6, 6)), spacing=(10.0, 1.0, 1.0))):
            if n % 10:
                path.unlink()
        note, spacing = self.told(tmp_path / "d")
        assert "about 36 of 41" in note
        assert spacing[0] == pytest.approx(100.0)  # where they lie

    def test_eight_missing_of_eleven_are_eight(self, tmp_path: Path) -> None:
        for n, path in enumerate(series(tmp_path / "d", voxels(0, (11, 6, 6)), spacing=(10.0, 1.0, 1.0))):
            if 2 <= n < 10:
                path.unlink()
        note, spacing = self.told(tmp_path / "d")
        assert "about 8 in 1 gaps, the first after slice 2 of 3" in note
        assert spacing[0] == pytest.approx(10.0)

    def test_a_distance_that_the_header_states_tells_as_well(self, tmp_path: Path) -> None:
        series(tmp_path / "d", voxels(), step=(0.0, 0.0, 6.0), SpacingBetweenSlices=3.0)
        assert "about 5 of 11" in self.told(tmp_path / "d")[0]

    def test_thin_slices_far_apart_are_as_they_were_made(self, tmp_path: Path) -> None:
        series(tmp_path / "d", voxels(), step=(0.0, 0.0, 10.0), SliceThickness=1.0)
        (row,) = scans(tmp_path / "d")
        assert kinds(row) == ["spaced slices"]

    @pytest.mark.parametrize("jump", [2, 30])
    def test_numbers_that_count_other_images_too_miss_nothing(self, jump: int, tmp_path: Path) -> None:
        series(tmp_path / "d", voxels(), per_slice=lambda k: {"InstanceNumber": jump * k + 1})
        (row,) = scans(tmp_path / "d")
        assert row["notes"] == []

    def test_a_negative_distance_is_a_distance(self, tmp_path: Path) -> None:
        series(tmp_path / "a", voxels(), SpacingBetweenSlices=-3.0)
        (row,) = scans(tmp_path / "a")
        assert (row["notes"], row["spacing_mm"][0]) == ([], pytest.approx(3.0))
        series(tmp_path / "b", voxels()[:1], SpacingBetweenSlices=-4.5)
        (row,) = scans(tmp_path / "b")
        assert (kinds(row), row["spacing_mm"][0]) == (["one slice"], pytest.approx(4.5))

    def test_the_store_says_what_is_doubtful(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shape = (12, 20, 20)
        series(tmp_path / "d" / "a", voxels(0, shape))[4].unlink()
        series(tmp_path / "d" / "b", voxels(1, shape), patient="P2")
        series(tmp_path / "d" / "b", voxels(2, shape)[:2], patient="P2", instances=1, prefix="x", SeriesNumber=1)
        manifest = index(tmp_path / "d")
        medssl.cache(manifest, out=tmp_path / "store", overrides=["workers=1"])
        said = capsys.readouterr()
        for kind in ("missing-slices", "duplicate-positions"):
            assert f"1 scans are marked '{kind}'" in said.out + said.err


class TestNoScans:
    def test_objects_that_are_no_volumes_are_counted_and_named_in_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        series(tmp_path / "d" / "ct", voxels())
        others = {
            "1.2.840.10008.5.1.4.1.1.88.11": "SR",
            "1.2.840.10008.5.1.4.1.1.88.59": "KO",
            "1.2.840.10008.5.1.4.1.1.11.1": "PR",
            "1.2.840.10008.5.1.4.1.1.104.1": "DOC",
            "1.2.840.10008.5.1.4.1.1.481.5": "RTPLAN",
            "1.2.840.10008.5.1.4.1.1.66.1": "REG",
            "1.2.840.10008.5.1.4.1.1.66": "",
            "1.2.840.10008.5.1.4.1.1.9.1.1": "ECG",
        }
        pixels = ("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient")
        for n, (sop_class, modality) in enumerate(others.items()):
            for k in range(2):
                tags = dict.fromkeys(pixels) | {"SOPClassUID": sop_class, "Modality": modality}
                save(image(voxels()[0], instance=(n, k), **tags), tmp_path / "d" / "rest" / f"{n}{k}.dcm")
        dose = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "Modality": "RTDOSE"}
        save(image(voxels()[0], instance="dose", **dose), tmp_path / "d" / "rest" / "dose.dcm")
        mosaic = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"], "modality": "MR"}
        save(image(voxels()[0], instance="mosaic", **mosaic), tmp_path / "d" / "rest" / "mosaic.dcm")
        rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "Modality": "US"}
        save(image(voxels()[0], instance="us", **rgb), tmp_path / "d" / "rest" / "us.dcm")
        (tmp_path / "d" / "DICOMDIR").write_bytes((tmp_path / "d" / "ct" / "001.dcm").read_bytes())
        manifest = index(tmp_path / "d")
        assert [row["shape"] for row in manifest.rows() if row["error"] is None] == [[6, 12, 10]]
        assert not [row for row in manifest.rows() if row["error"] and "set-aside" not in row["flags"]]
        said = capsys.readouterr()
        (line,) = [line for line in (said.out + said.err).replace("\n  ", " ").splitlines() if "set aside" in line]
        text = (said.out + said.err).replace("\n", " ")
        assert "20 DICOM objects are not volumes" in line
        for name in ("Basic Text SR", "Encapsulated PDF", "RT Plan", "RT Dose", "Spatial Registration", "Raw Data",
                     "Siemens mosaic", "colour image", "DICOM directory", "12-lead ECG"):  # fmt: skip
            assert name in " ".join(text.split()), name

    def test_one_flipped_bit_gives_a_format_error_and_nothing_else(self, tmp_path: Path) -> None:
        whole = save(image(voxels()[0]), tmp_path / "a.dcm").read_bytes()
        tags = {
            "Rows": b"\x28\x00\x10\x00", "Columns": b"\x28\x00\x11\x00", "BitsAllocated": b"\x28\x00\x00\x01",
            "BitsStored": b"\x28\x00\x01\x01", "HighBit": b"\x28\x00\x02\x01",
            "PixelRepresentation": b"\x28\x00\x03\x01", "SamplesPerPixel": b"\x28\x00\x02\x00",
        }  # fmt: skip
        refused = 0
        for tag in tags.values():
            begin = whole.index(tag)
            for place in range(begin + (0 if tag == tags["BitsStored"] else 8), begin + 10):
                for bit in range(8):
                    damaged = bytearray(whole)
                    damaged[place] ^= 1 << bit
                    (tmp_path / "a.dcm").write_bytes(damaged)
                    try:
                        formats.read(tmp_path / "a.dcm")
                    except FormatError:
                        refused += 1
        assert refused > 80

    def test_pixels_that_no_codec_unpacks_say_which(self, tmp_path: Path) -> None:
        paths = series(tmp_path / "d", voxels())
        for path in paths:

            def pack(ds: Dataset) -> None:
                ds.PixelData = pydicom.encaps.encapsulate([bytes(200)])
                ds["PixelData"].is_undefined_length = True
                ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"

            edit(path, pack)
        (row,) = index(tmp_path / "d").rows()
        assert "transfer syntax MPEG2" in row["error"]
        assert "Install" in row["error"]

    def test_ids_never_clash_whatever_files_are_called(self) -> None:
        from medssl.manifest.assemble import assemble
        from medssl.manifest.schema import manifest_of_rows
        from medssl.manifest.sources import Source

        fields = json.dumps({"series": "a" * 16, "patient": "b" * 16, "modality": "CT", "units": "HU"})
        pairs = [
            (
                Source(path=Path("/d/x.dcm"), paths=(Path("/d/x.dcm"),), relative="x.dcm"),
                {"path": "/d/x.dcm", "paths": ["/d/x.dcm"], "flags": [], "notes": [], "fields": fields},
            )
            for _ in range(3)
        ]
        rows = assemble(pairs, modality="", pattern=None)
        assert len({row["id"] for row in rows}) == 3
        assert len(manifest_of_rows(rows)) == 3
