"""DICOM series: grouping, order, gaps, frames, rescaling, compression, what is set aside, and privacy."""

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from medssl import formats
from medssl.errors import FormatError
from medssl.formats import dicom
from medssl.formats.dicom_write import write_multiframe, write_series

AFFINE = np.array([[-2.0, 0, 0, 10], [0, -3.0, 0, 20], [0, 0, 4.0, 30], [0, 0, 0, 1]])
VALUES = np.random.default_rng(1).integers(-1000, 2000, (7, 5, 6)).astype(np.int16)


def edit(path: Path, change) -> None:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


def only(folder: Path) -> dicom.Series:
    found, errors = dicom.find_series(folder)
    assert errors == []
    assert len(found) == 1
    return found[0]


def kinds(header: formats.ScanHeader) -> list[str]:
    return [warning.split(":")[0] for warning in header.warnings]


def test_order_comes_from_positions_not_from_names_or_instance_numbers(tmp_path: Path) -> None:
    paths = write_series(tmp_path, VALUES, AFFINE)
    shuffled = np.random.default_rng(0).permutation(len(paths))
    for number, path in zip(shuffled, paths, strict=True):
        edit(path, lambda ds, n=number: setattr(ds, "InstanceNumber", int(n)))
        path.rename(tmp_path / f"{number:02d}.dcm")
    series = only(tmp_path)
    assert kinds(series.header) == []
    np.testing.assert_array_equal(dicom.read_series(series).values, VALUES)
    np.testing.assert_allclose(series.header.affine, AFFINE, atol=1e-9)
    assert series.header.paths == tuple(tmp_path / f"{n:02d}.dcm" for n in shuffled)


def test_mixed_series_in_a_tree_are_distinguished(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VALUES, AFFINE, name="one")
    write_series(tmp_path / "a", VALUES[:, :4], AFFINE, name="two")
    write_series(tmp_path / "b" / "c", VALUES + 1, AFFINE, name="three", modality="MR")
    found, errors = dicom.find_series(tmp_path)
    assert errors == []
    assert [(one.header.path.relative_to(tmp_path).as_posix(), one.header.shape) for one in found] == [
        ("a", (7, 5, 6)),
        ("a", (7, 4, 6)),
        ("b/c", (7, 5, 6)),
    ]
    assert [one.header.modality for one in found] == ["CT", "CT", "MR"]
    assert dicom.find_series(tmp_path, recursive=False)[0] == []


def test_one_series_uid_with_two_orientations_or_shapes_is_two_volumes(tmp_path: Path) -> None:
    write_series(tmp_path, VALUES, AFFINE, name="x")
    turned = AFFINE[:, [1, 2, 0, 3]]
    for path in write_series(tmp_path / "more", VALUES, turned, name="y"):
        uid = pydicom.dcmread(tmp_path / "x-0001.dcm").SeriesInstanceUID
        edit(path, lambda ds, u=uid: setattr(ds, "SeriesInstanceUID", u))
    found, errors = dicom.find_series(tmp_path)
    assert errors == []
    # The planes are axial and sagittal; slices are sorted along the normal, which points to S and to L.
    assert sorted(one.header.orientation for one in found) == ["LPS", "PSL"]


def test_a_series_spread_over_folders_is_one_and_a_whole_copy_of_it_is_two(tmp_path: Path) -> None:
    for number, path in enumerate(write_series(tmp_path, VALUES, AFFINE)):
        half = tmp_path / f"part{number % 2}"
        half.mkdir(exist_ok=True)
        path.rename(half / path.name)
    assert only(tmp_path).header.shape == (7, 5, 6)
    assert only(tmp_path).header.path == tmp_path
    shutil.copytree(tmp_path / "part0", tmp_path / "copy")
    series = only(tmp_path)
    assert (series.header.shape[0], kinds(series.header)) == (7, ["copies"])
    for folder in ("whole", "whole again"):
        shutil.copytree(tmp_path / "part0", tmp_path / folder)
        shutil.copytree(tmp_path / "part1", tmp_path / folder, dirs_exist_ok=True)
    found, _ = dicom.find_series(tmp_path)
    assert sorted((one.header.shape[0], kinds(one.header)) for one in found) == [(7, []), (7, ["copies"])]


class TestStack:
    def test_missing_slices_are_counted(self, tmp_path: Path) -> None:
        paths = write_series(tmp_path, VALUES, AFFINE)
        paths[2].unlink()
        paths[3].unlink()
        header = only(tmp_path).header
        assert kinds(header) == ["missing slices"]
        assert "about 2 in 1 gaps, the first after slice 2 of 5" in header.warnings[0]
        assert header.spacing_mm == pytest.approx((4.0, 3.0, 2.0))

    def test_duplicate_positions_keep_the_first(self, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINE)
        extra = write_series(tmp_path / "extra", VALUES[2:4] * 0, AFFINE, name="extra")
        for index, path in enumerate(extra):

            def join(ds, k=index):
                like = pydicom.dcmread(tmp_path / f"slice-{k + 3:04d}.dcm")
                ds.SeriesInstanceUID, ds.ImagePositionPatient = like.SeriesInstanceUID, like.ImagePositionPatient
                ds.InstanceNumber = 100 + k

            edit(path, join)
            path.rename(tmp_path / path.name)
        series = only(tmp_path)
        assert kinds(series.header) == ["duplicate positions"]
        assert "2 slices" in series.header.warnings[0]
        np.testing.assert_array_equal(dicom.read_series(series).values, VALUES)

    def test_copies_of_a_file_count_once(self, tmp_path: Path) -> None:
        paths = write_series(tmp_path, VALUES, AFFINE)
        shutil.copy(paths[3], tmp_path / "slice-0004 (1).dcm")
        series = only(tmp_path)
        assert kinds(series.header) == ["copies"]
        np.testing.assert_array_equal(dicom.read_series(series).values, VALUES)

    def test_the_files_of_a_header_give_the_same_series_again(self, tmp_path: Path) -> None:
        paths = write_series(tmp_path, VALUES, AFFINE)
        shutil.copy(paths[3], tmp_path / "again.dcm")
        paths[5].unlink()
        header = only(tmp_path).header
        assert kinds(header) == ["copies", "missing slices"]
        again = dicom.series_of(header.paths[::-1]).header
        assert (again.warnings, again.paths, again.shape) == (header.warnings, header.paths, header.shape)
        assert header.paths[-1].name in ("again.dcm", "slice-0004.dcm")

    def test_slices_that_all_have_one_identifier_are_no_copies(self, tmp_path: Path) -> None:
        for path in write_series(tmp_path, VALUES, AFFINE):
            edit(path, lambda ds: setattr(ds, "SOPInstanceUID", "1.2.3"))
        series = only(tmp_path)
        assert kinds(series.header) == []
        np.testing.assert_array_equal(dicom.read_series(series).values, VALUES)

    def test_uneven_distances_are_named(self, tmp_path: Path) -> None:
        paths = write_series(tmp_path, VALUES, AFFINE)
        edit(paths[3], lambda ds: setattr(ds, "ImagePositionPatient", [-10, -20, 43.2]))
        header = only(tmp_path).header
        assert kinds(header) == ["uneven slices"]
        assert header.spacing_mm[0] == pytest.approx(4.0)

    def test_times_of_one_series_are_volumes_of_their_own(self, tmp_path: Path) -> None:
        for time in range(3):
            for path in write_series(
                tmp_path, VALUES + time, AFFINE, name=f"t{time}", tags={"TemporalPositionIdentifier": 3 - time}
            ):
                edit(path, lambda ds: setattr(ds, "SeriesInstanceUID", "1.2.3"))
        found, errors = dicom.find_series(tmp_path)
        assert errors == []
        assert sorted(one.slug for one in found) == ["time1", "time2", "time3"]
        for series in found:
            assert (series.header.frames, series.header.shape, kinds(series.header)) == (1, (7, 5, 6), [])
            time = 3 - int(series.slug[-1])
            np.testing.assert_array_equal(dicom.read_series(series).values, VALUES + time)
            with pytest.raises(FormatError, match="no frame 1"):
                dicom.read_series(series, frame=1)

    def test_stray_slices_are_named(self, tmp_path: Path) -> None:
        paths = write_series(tmp_path, VALUES, AFFINE)
        edit(paths[3], lambda ds: setattr(ds, "ImagePositionPatient", [-4, -20, 42]))
        assert kinds(only(tmp_path).header) == ["stray slices"]

    def test_the_tilt_of_a_gantry_is_measured(self, tmp_path: Path) -> None:
        sheared = AFFINE.copy()
        sheared[1, 2] = 4.0 * np.tan(np.deg2rad(12.0))
        write_series(tmp_path, VALUES, sheared)
        header = only(tmp_path).header
        assert header.warnings == ("gantry tilt: 12.0 degrees; the affine is sheared",)
        np.testing.assert_allclose(header.affine, sheared, atol=1e-9)

    def test_without_positions_the_instance_numbers_serve(self, tmp_path: Path) -> None:
        for path in write_series(tmp_path, VALUES, AFFINE):
            edit(path, lambda ds: delattr(ds, "ImagePositionPatient"))
        series = only(tmp_path)
        assert kinds(series.header) == ["no positions"]
        np.testing.assert_array_equal(dicom.read_series(series).values, VALUES)
        assert series.header.spacing_mm == pytest.approx((4.0, 3.0, 2.0))

    def test_one_slice_and_no_pixel_spacing(self, tmp_path: Path) -> None:
        for path in write_series(tmp_path, VALUES[:1], AFFINE):
            edit(path, lambda ds: delattr(ds, "PixelSpacing"))
        header = only(tmp_path).header
        assert kinds(header) == ["no voxel size", "one slice"]
        assert header.spacing_mm == pytest.approx((4.0, 1.0, 1.0))


class TestNumbers:
    def test_slope_and_intercept_of_every_slice_are_its_own(self, tmp_path: Path) -> None:
        paths = write_series(tmp_path, VALUES, AFFINE, modality="MR")
        for index, path in enumerate(paths):

            def scale(ds, k=index):
                ds.RescaleSlope, ds.RescaleIntercept = 0.5 * (k + 1), float(k)

            edit(path, scale)
        scan = formats.read(tmp_path)
        assert scan.header.dtype == scan.values.dtype.name == "float32"
        factors = 0.5 * np.arange(1, 8)[:, None, None]
        np.testing.assert_allclose(scan.values, VALUES * factors + np.arange(7)[:, None, None], rtol=1e-6)

    def test_a_ct_without_rescale_has_no_hounsfield_units(self, tmp_path: Path) -> None:
        def strip(ds):
            del ds.RescaleSlope, ds.RescaleIntercept

        for path in write_series(tmp_path, VALUES, AFFINE):
            edit(path, strip)
        header = only(tmp_path).header
        assert header.units == "arbitrary"
        assert kinds(header) == ["no HU"]

    def test_monochrome1_is_inverted_for_mr_and_not_for_ct(self, tmp_path: Path) -> None:
        for modality in ("CT", "MR"):
            for path in write_series(tmp_path / modality, np.abs(VALUES), AFFINE, modality=modality):
                edit(path, lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"))
        np.testing.assert_array_equal(formats.read(tmp_path / "CT").values, np.abs(VALUES))
        scan = formats.read(tmp_path / "MR")
        np.testing.assert_array_equal(scan.values, 4095 - np.abs(VALUES).astype(int))
        assert kinds(scan.header) == ["inverted"]

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
    def test_transfer_syntaxes(self, syntax, tmp_path: Path) -> None:
        values = np.tile(VALUES, (1, 8, 8))  # JPEG 2000 wants at least 32 x 32
        paths = write_series(tmp_path, values, AFFINE, transfer_syntax=syntax)
        assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID == syntax
        np.testing.assert_array_equal(formats.read(tmp_path).values, values)

    @pytest.mark.parametrize(
        "name",
        ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_bigendian.dcm"],
    )
    def test_slices_that_others_packed(self, name: str) -> None:
        folder = Path(pydicom.__file__).parent / "data" / "test_files"
        if not (folder / name).exists():
            pytest.skip(f"this pydicom comes without {name}")
        plain, packed = formats.read(folder / "MR_small.dcm"), formats.read(folder / name)
        np.testing.assert_array_equal(packed.values, plain.values)
        assert packed.header.shape == (1, 64, 64)

    def test_values_below_the_usual_offset_are_signed(self, tmp_path: Path) -> None:
        values = VALUES.copy()
        values[0, 0, 0] = -2048
        write_series(tmp_path, values, AFFINE)
        np.testing.assert_array_equal(formats.read(tmp_path).values, values)

    def test_what_cannot_be_written_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="integers"):
            write_series(tmp_path, VALUES * 0.5, AFFINE)
        with pytest.raises(ValueError, match="16 bits"):
            write_series(tmp_path, VALUES.astype(int) * 1000, AFFINE)


class TestMultiFrame:
    @pytest.mark.parametrize("modality", ["CT", "MR"])
    def test_frames_of_one_file_are_slices(self, modality: str, tmp_path: Path) -> None:
        write_multiframe(tmp_path / "all.dcm", VALUES, AFFINE, modality=modality)
        series = only(tmp_path)
        assert series.header.path == tmp_path / "all.dcm"
        assert series.header.units == ("HU" if modality == "CT" else "arbitrary")
        np.testing.assert_array_equal(dicom.read_series(series).values, VALUES)
        np.testing.assert_allclose(series.header.affine, AFFINE, atol=1e-9)

    def test_time_points_of_one_file_are_frames(self, tmp_path: Path) -> None:
        write_multiframe(tmp_path / "cine.dcm", np.stack([VALUES, VALUES + 9]), AFFINE, modality="MR")
        assert formats.read_header(tmp_path / "cine.dcm").frames == 2
        np.testing.assert_array_equal(formats.read(tmp_path / "cine.dcm", frame=1).values, VALUES + 9)

    def test_frames_without_a_place_are_set_aside(self, tmp_path: Path) -> None:
        write_multiframe(tmp_path / "cine.dcm", VALUES, AFFINE, modality="MR")
        edit(tmp_path / "cine.dcm", lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"))
        found, errors = dicom.find_series(tmp_path)
        assert found == []
        assert isinstance(errors[0], dicom.SetAsideError)
        assert "7 frames" in errors[0].reason


class TestAside:
    @pytest.mark.parametrize(
        ("tags", "reason"),
        [
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
            ({"SeriesDescription": "3-plane LOC"}, "localiser"),
            ({"SeriesDescription": "Topogram 0.6"}, "localiser"),
            ({"SeriesDescription": "Dose Report"}, "dose report"),
            ({"SamplesPerPixel": 3}, "colour"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
            ({"Modality": "SEG"}, "not a scan"),
        ],
    )
    def test_what_is_no_volume_is_listed_once_with_its_reason(self, tags: dict, reason: str, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINE, name="good")
        write_series(tmp_path, VALUES[:3], AFFINE, name="other", tags=tags)
        found, errors = dicom.find_series(tmp_path)
        assert [one.header.shape[0] for one in found] == [7]
        assert len(errors) == 1
        assert isinstance(errors[0], dicom.SetAsideError)
        assert reason in errors[0].reason
        assert "2 more files" in errors[0].reason

    def test_projections_and_reports_are_set_aside(self, tmp_path: Path) -> None:
        (path,) = write_series(tmp_path, VALUES[:1], AFFINE, name="film", tags={"Modality": "DX"})
        edit(path, lambda ds: delattr(ds, "ImagePositionPatient"))
        (path,) = write_series(tmp_path, VALUES[:1], AFFINE, name="report")

        def to_report(ds):
            for keyword in ("Rows", "Columns", "PixelData"):
                delattr(ds, keyword)
            ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"

        edit(path, to_report)
        (path,) = write_series(tmp_path, VALUES[:1], AFFINE, name="sound", tags={"Modality": "US"})
        edit(path, lambda ds: delattr(ds, "ImagePositionPatient"))
        found, errors = dicom.find_series(tmp_path)
        assert found == []
        assert len(errors) == 3
        assert all(isinstance(error, dicom.SetAsideError) for error in errors)
        reasons = " ".join(error.reason for error in errors)
        assert "projection (DX)" in reasons
        assert "Radiation Dose SR" in reasons


class TestBroken:
    def test_broken_files_are_listed_and_the_rest_goes_through(self, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINE)
        whole = (tmp_path / "slice-0001.dcm").read_bytes()
        (tmp_path / "empty.dcm").write_bytes(b"")
        (tmp_path / "text.dcm").write_text("not an image\n")
        (tmp_path / "cut.dcm").write_bytes(whole[:200])
        edit(shutil.copy(tmp_path / "slice-0001.dcm", tmp_path / "no_rows.dcm"), lambda ds: delattr(ds, "Rows"))
        (tmp_path / "noise.dcm").write_bytes(np.random.default_rng(0).bytes(5000))
        (tmp_path / "notes.txt").write_text("notes\n")
        (tmp_path / "DICOMDIR").write_bytes(whole)
        found, errors = dicom.find_series(tmp_path)
        assert len(found) == 1
        assert sorted(error.path.name for error in errors) == [
            "DICOMDIR",
            "cut.dcm",
            "empty.dcm",
            "no_rows.dcm",
            "noise.dcm",
            "text.dcm",
        ]
        assert [error.path.name for error in errors if isinstance(error, dicom.SetAsideError)] == ["DICOMDIR"]
        scan = formats.read(tmp_path)
        np.testing.assert_array_equal(scan.values, VALUES)
        assert kinds(scan.header) == ["damaged files"]

    def test_pixels_cut_short_are_found_by_the_header_read(self, tmp_path: Path) -> None:
        big = np.zeros((2, 64, 64), dtype=np.int16)
        path = write_series(tmp_path, big, AFFINE)[1]
        path.write_bytes(path.read_bytes()[:-4000])
        found, errors = dicom.find_series(tmp_path)
        assert "truncated" in errors[0].reason
        assert found[0].header.shape[0] == 1

    def test_pixels_that_cannot_be_unpacked_name_the_file(self, tmp_path: Path) -> None:
        path = write_series(tmp_path, np.tile(VALUES, (1, 8, 8)), AFFINE, transfer_syntax=JPEG2000Lossless)[3]

        def spoil(ds):
            ds.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(40)])

        edit(path, spoil)
        with pytest.raises(FormatError) as caught:
            formats.read(tmp_path)
        assert caught.value.path == path

    def test_files_without_suffix_count_where_they_have_the_mark(self, tmp_path: Path) -> None:
        for index, path in enumerate(write_series(tmp_path, VALUES, AFFINE)):
            path.rename(tmp_path / (f"IM{index}" if index % 2 else f"1.2.840.{index}"))
        (tmp_path / "README").write_text("hello\n")
        assert only(tmp_path).header.shape == (7, 5, 6)

    def test_permission_denied(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = write_series(tmp_path, VALUES, AFFINE)
        paths[6].chmod(0)
        if os.access(paths[6], os.R_OK):
            real = Path.open

            def refuse(self: Path, *args, **kwargs):
                if self == paths[6]:
                    raise PermissionError(13, "Permission denied", str(self))
                return real(self, *args, **kwargs)

            monkeypatch.setattr(Path, "open", refuse)
        found, errors = dicom.find_series(tmp_path)
        assert found[0].header.shape[0] == 6
        assert [error.path for error in errors] == [paths[6]]
        assert "Permission denied" in errors[0].reason

    def test_an_empty_folder_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="no DICOM series"):
            formats.read(tmp_path)


class TestPrivacy:
    SECRET = "Mustermann"

    def test_names_dates_and_free_text_never_leave_the_header(self, tmp_path: Path) -> None:
        write_series(
            tmp_path,
            VALUES,
            AFFINE,
            patient_id=f"{self.SECRET}-4711",
            tags={
                "PatientName": f"{self.SECRET}^Erika",
                "PatientBirthDate": "19640812",
                "SeriesDescription": f"Thorax {self.SECRET}",
                "InstitutionName": self.SECRET,
                "StudyDate": "20240131",
                "KVP": 120,
                "ConvolutionKernel": ["B30f", "1"],
            },
        )
        header = only(tmp_path).header
        shown = repr(header.fields)
        for secret in (self.SECRET, "4711", "19640812", "20240131", "Thorax"):
            assert secret not in shown
        assert float(header.fields["KVP"]) == 120
        assert header.fields["ConvolutionKernel"] == "B30f/1"

    def test_one_patient_has_one_key_and_two_have_two(self, tmp_path: Path) -> None:
        for name, patient in (("a", "P1"), ("b", "P1 "), ("c", "P2")):
            write_series(tmp_path / name, VALUES, AFFINE, patient_id=patient, name=name)
        keys = [formats.read_header(tmp_path / name).fields["patient"] for name in "abc"]
        assert keys[0] == keys[1] != keys[2]
        assert all(len(key) == 16 for key in keys)
