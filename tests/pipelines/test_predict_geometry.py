"""What ``medssl predict`` writes lies where the scan lies, by readers that did not write it; mirrors; lone labels."""

from __future__ import annotations

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import medssl
from medssl.errors import DataError
from medssl.formats.dicom_write import write_multiframe, write_series
from medssl.formats.nifti import write_nifti
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.predict import predict
from tests.pipelines.test_predict import QUICK, home, scan, table  # noqa: F401 - home is a fixture
from tests.pipelines.test_predict_kinds import case, channels  # noqa: F401 - channels is a fixture

CT = ["modality=CT"]
GRID = (1.5, 1.2, 1.2)  # of the store: nothing is resampled
TILTED = np.array([[-1.0, 0, 0, 8], [0, -1.2, 0.4, 6], [0, 0, 1.5, -3], [0, 0, 0, 1.0]])
OBLIQUE = np.array([[-0.96, 0.28, 0, 3], [-0.28, -0.96, 0, 5], [0, 0, 2.0, 7], [0, 0, 0, 1.0]])


def labels_of(path) -> np.ndarray:
    """Read a label map with nibabel, (z, y, x)."""
    return np.asarray(nib.load(path).dataobj).T


def frames_of(path, files) -> np.ndarray:
    """Read a SEG with highdicom, (z, y, x) in the order of the slices."""
    seg = hd.seg.segread(path)
    uids = [pydicom.dcmread(one).SOPInstanceUID for one in files]
    return seg.get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )


@pytest.mark.parametrize("affine", [TILTED, OBLIQUE], ids=["tilted gantry", "oblique"])
def test_frames_of_a_seg_lie_at_the_places_of_the_slices(home, tmp_path, affine):  # noqa: F811
    values, _ = scan(9)
    files = write_series(tmp_path / "series", values, affine, name="s")
    write_nifti(tmp_path / "plain.nii.gz", values, affine)
    found = predict(home / "run", tmp_path / "series", out=tmp_path / "o1")
    plain = predict(home / "run", tmp_path / "plain.nii.gz", out=tmp_path / "o2", overrides=CT)
    (file,) = found.files[found.done[0]]
    assert file.suffix == ".dcm"
    wanted = labels_of(plain.files["plain"][0])
    np.testing.assert_array_equal(frames_of(file, files), wanted)
    raw = pydicom.dcmread(file)
    sources = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, files)}
    shared = raw.SharedFunctionalGroupsSequence[0]
    for frame, pixels in zip(raw.PerFrameFunctionalGroupsSequence, raw.pixel_array, strict=True):
        origin = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        source = sources[origin]
        np.testing.assert_allclose(frame.PlanePositionSequence[0].ImagePositionPatient, source.ImagePositionPatient,
                                   atol=1e-4)  # fmt: skip
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(pixels > 0, wanted[source.InstanceNumber - 1] == number)
    first = next(iter(sources.values()))
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(orientation, first.ImageOrientationPatient, atol=1e-6)
    np.testing.assert_allclose(shared.PixelMeasuresSequence[0].PixelSpacing, first.PixelSpacing, atol=1e-6)


def test_one_file_of_many_frames_is_answered_with_a_seg(home, tmp_path):  # noqa: F811
    values, _ = scan(9)
    affine = np.diag([-1.0, -1.2, 1.5, 1.0])
    write_multiframe(tmp_path / "many.dcm", values, affine)
    write_nifti(tmp_path / "plain.nii.gz", values, affine)
    found = predict(home / "run", tmp_path / "many.dcm", out=tmp_path / "o1")
    plain = predict(home / "run", tmp_path / "plain.nii.gz", out=tmp_path / "o2", overrides=CT)
    (file,) = found.files[found.done[0]]
    assert file.suffix == ".dcm"
    seg, source = hd.seg.segread(file), pydicom.dcmread(tmp_path / "many.dcm")
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    pixels = seg.get_pixels_by_source_frame(
        source.SOPInstanceUID, list(range(1, len(values) + 1)), combine_segments=True, ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    np.testing.assert_array_equal(pixels, labels_of(plain.files["plain"][0]))
    assert pixels.any()


def test_a_single_slice_is_answered_where_it_lies(home, tmp_path):  # noqa: F811
    values, _ = scan(9)
    files = write_series(tmp_path / "one", values[8:9], OBLIQUE, name="s")
    write_nifti(tmp_path / "plain.nii.gz", values[8:9], OBLIQUE)
    found = predict(home / "run", tmp_path / "one", out=tmp_path / "o1")
    plain = predict(home / "run", tmp_path / "plain.nii.gz", out=tmp_path / "o2", overrides=CT)
    wanted = plain.files["plain"][0]
    np.testing.assert_allclose(nib.load(wanted).affine[:3, [0, 1, 3]], OBLIQUE[:3, [0, 1, 3]], atol=1e-5)
    (file,) = found.files[found.done[0]]
    if file.suffix == ".dcm":
        np.testing.assert_array_equal(frames_of(file, files), labels_of(wanted))
    else:  # said, where one slice has no depth
        assert "written as NIfTI" in table(tmp_path / "o1")[found.done[0]]["differs"]
        np.testing.assert_array_equal(labels_of(file), labels_of(wanted))


def test_a_sheared_nrrd_is_answered_with_nifti_and_that_is_said(home, tmp_path):  # noqa: F811
    values, _ = scan(9)
    sheared = np.array([[1.0, 0, 0.3, 3], [0, 1.2, 0, 4], [0, 0, 1.5, 5], [0, 0, 0, 1.0]])
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: "
        f"{' '.join(map(str, values.shape[::-1]))}\nspace directions: "
        f"{' '.join(f'({a},{b},{c})' for a, b, c in sheared[:3, :3].T)}\nspace origin: (3,4,5)\nendian: little\n"
        "encoding: raw\n\n"
    )
    (tmp_path / "new").mkdir()
    (tmp_path / "new/sheared.nrrd").write_bytes(header.encode() + values.astype("<i2").tobytes())
    write_nifti(tmp_path / "plain.nii.gz", values, sheared)
    found = predict(home / "run", tmp_path / "new", out=tmp_path / "o1", overrides=CT)
    plain = predict(home / "run", tmp_path / "plain.nii.gz", out=tmp_path / "o2", overrides=CT)
    file = found.files["sheared"][0]
    assert file.name == "sheared.nii.gz"
    assert "written as NIfTI, not as .nrrd" in table(tmp_path / "o1")["sheared"]["differs"]
    np.testing.assert_allclose(nib.load(file).affine, sheared, atol=1e-5)
    np.testing.assert_array_equal(labels_of(file), labels_of(plain.files["plain"][0]))


def test_what_stands_on_its_head_is_the_same_tissue(home, tmp_path):  # noqa: F811
    """The same body in two orders of axes: SimpleITK finds each label at the same place in mm."""
    values, _ = scan(9)
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    turn = affine @ np.array([[-1.0, 0, 0, values.shape[2] - 1], [0, 0, 1, 0], [0, -1, 0, values.shape[0] - 1],
                              [0, 0, 0, 1]])  # fmt: skip
    write_nifti(tmp_path / "new/a.nii.gz", values, affine)
    write_nifti(tmp_path / "new/b.nii.gz", values[::-1, :, ::-1].transpose(1, 0, 2), turn)
    found = predict(home / "run", tmp_path / "new", out=tmp_path / "out", overrides=CT)
    first, second = (sitk.ReadImage(str(found.files[name][0])) for name in ("a", "b"))
    same = sitk.Resample(second, first, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(same), sitk.GetArrayFromImage(first))
    assert sitk.GetArrayFromImage(first).any()


def test_series_of_a_case_are_answered_on_the_first_channel(channels, tmp_path):  # noqa: F811
    case(tmp_path / "plain", 7)
    read = {name: nib.load(tmp_path / f"plain/p7/p7_{name}.nii.gz") for name in ("t1", "flair")}
    files = {}
    for name, image in read.items():
        values = np.rint(np.asarray(image.dataobj)).astype(np.int16).T
        files[name] = write_series(tmp_path / f"new/{name}", values, image.affine, modality="MR", patient_id="p7",
                                   name=name, tags={"SeriesDescription": name, "StudyInstanceUID": "1.2.3.4",
                                                    "FrameOfReferenceUID": "1.2.3.5"})  # fmt: skip
        write_nifti(tmp_path / f"whole/p7_{name}.nii.gz", values, image.affine)
    found = predict(channels / "run", tmp_path / "new", out=tmp_path / "o1")
    plain = predict(channels / "run", tmp_path / "whole", out=tmp_path / "o2", overrides=["modality=MR"])
    assert len(found.done) == 1, found.failed
    (file,) = found.files[found.done[0]]
    assert hd.seg.segread(file).FrameOfReferenceUID == "1.2.3.5"
    np.testing.assert_array_equal(frames_of(file, files["t1"]), labels_of(plain.files[plain.done[0]][0]))


def test_mirrored_views_are_those_of_the_mirrored_scan(home, tmp_path):  # noqa: F811
    flips = [*QUICK, "segmentation.spatial.flip=[0.5,0,0.5]"]
    finetune(data=home / "store", out=tmp_path / "run", overrides=flips, predict=[])
    values, _ = scan(9)
    plain = medssl.load_model(tmp_path / "run")
    expected = np.zeros(1)
    for axes in ((), (0,), (2,), (0, 2)):
        one = plain.predict(np.flip(values, axes), spacing_mm=GRID).probabilities
        expected = expected + np.flip(one, [1 + axis for axis in axes]) / 4
    found = medssl.load_model(tmp_path / "run", overrides=["mirror=true"]).predict(values, spacing_mm=GRID)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert np.abs(expected - plain.predict(values, spacing_mm=GRID).probabilities).max() > 1e-3


def test_a_lone_label_file_is_no_scan(home, tmp_path):  # noqa: F811
    _, labels = scan(9)
    for name in ("p_seg", "nameless"):
        write_nifti(tmp_path / f"{name}.nii.gz", labels, np.eye(4))
        with pytest.raises(DataError, match=r"No scan was found in .* Passed over: 1 x a label.*label_maps=scan"):
            predict(home / "run", tmp_path / f"{name}.nii.gz", out=tmp_path / f"o-{name}", overrides=CT)
    lone = tmp_path / "nameless.nii.gz"
    index(lone, out=tmp_path / "m.parquet", overrides=["label_maps=scan", *CT])
    assert predict(home / "run", tmp_path / "m.parquet", out=tmp_path / "o").done == ("nameless",)
