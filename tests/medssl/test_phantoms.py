"""Synthetic patients: the same for the same numbers, different between subjects, and written as real files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medssl import formats
from medssl.errors import ConfigError, FormatError
from medssl.formats import dicom
from medssl.phantoms import CLASSES, phantom, write_bad_folder, write_cohort
from medssl.phantoms.fields import smooth_field, spline_basis
from medssl.randomness import numpy_generator

SHAPE = (40, 40, 40)
NUMBER = {name: number for number, name in CLASSES.items()}


def centre(labels: np.ndarray, name: str) -> np.ndarray:
    return np.array(ndimage.center_of_mass(labels == NUMBER[name]))


class TestFields:
    @pytest.mark.parametrize(("length", "nodes"), [(1, 4), (7, 4), (64, 9), (10, 26)])
    def test_weights_of_a_sample_sum_to_one(self, length: int, nodes: int) -> None:
        basis = spline_basis(length, nodes)
        assert basis.shape == (length, nodes)
        assert basis.min() >= 0
        np.testing.assert_allclose(basis.sum(axis=1), 1.0, rtol=1e-5)

    def test_a_spline_through_a_straight_line_is_the_line(self) -> None:
        found = spline_basis(50, 8) @ np.arange(8, dtype=np.float32)
        np.testing.assert_allclose(found, 1.0 + (np.arange(50) + 0.5) / 50 * 5, rtol=1e-5)

    def test_axes_are_in_order_and_the_field_is_the_same_at_any_resolution(self) -> None:
        coarse = smooth_field(numpy_generator(3), (15, 21, 27), 6)
        fine = smooth_field(numpy_generator(3), (45, 63, 81), 6)
        assert coarse.shape == (15, 21, 27)
        # Three fine cells make a coarse one, and the middle one has its centre.
        np.testing.assert_allclose(fine[1::3, 1::3, 1::3], coarse, atol=1e-4)

    def test_the_scale_is_about_one(self) -> None:
        fields = [smooth_field(numpy_generator(n), (24, 24, 24), 14) for n in range(5)]
        assert np.std(fields) == pytest.approx(1.0, abs=0.12)
        assert abs(np.mean(fields)) < 0.12


class TestPhantom:
    def test_it_depends_on_seed_and_subject_alone(self) -> None:
        first = phantom(4, modality="MR", shape=SHAPE, seed=9)
        np.random.default_rng(0).random(5)
        phantom(5, modality="MR", shape=SHAPE, seed=9)
        again = phantom(4, modality="MR", shape=SHAPE, seed=9)
        np.testing.assert_array_equal(first.values, again.values)
        np.testing.assert_array_equal(first.labels, again.labels)
        for other in (phantom(5, modality="MR", shape=SHAPE, seed=9), phantom(4, modality="MR", shape=SHAPE, seed=10)):
            assert (other.labels != first.labels).mean() > 0.01

    def test_ct_and_mr_show_the_same_body(self) -> None:
        ct, mr = phantom(1, modality="CT", shape=SHAPE), phantom(1, modality="MR", shape=SHAPE)
        np.testing.assert_array_equal(ct.labels, mr.labels)
        assert abs(np.corrcoef(ct.values.ravel(), mr.values.ravel())[0, 1]) < 0.95

    @pytest.mark.parametrize("subject", range(8))
    def test_organs_lie_where_they_lie_in_people(self, subject: int) -> None:
        labels = phantom(subject, shape=SHAPE).labels
        assert sorted(np.unique(labels).tolist()) == sorted(CLASSES)
        at = {name: centre(labels, name) for name in NUMBER if name != "background"}  # (z, y, x), x to the right
        for left, right in (("left kidney", "right kidney"), ("left lung", "right lung"), ("spleen", "liver")):
            assert at[left][2] + 5 < at[right][2]
        assert at["spine"][1] < at["aorta"][1] < at["heart"][1]
        for lower, upper in (("left kidney", "liver"), ("liver", "heart"), ("liver", "right lung")):
            assert at[lower][0] < at[upper][0]
        volume = np.bincount(labels.ravel(), minlength=len(CLASSES))
        assert volume[NUMBER["liver"]] > 3 * volume[NUMBER["left kidney"]] > 0

    @pytest.mark.parametrize("name", ["liver", "spleen", "left kidney", "right kidney", "heart"])
    def test_organs_are_in_one_piece(self, name: str) -> None:
        pieces, _ = ndimage.label(phantom(2, shape=SHAPE).labels == NUMBER[name])
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() > 0.9 * sizes.sum()

    def test_ct_values_are_hounsfield_units_of_the_tissues(self) -> None:
        made = phantom(0, modality="CT", shape=SHAPE)
        middle = {name: float(np.median(made.values[made.labels == number])) for name, number in NUMBER.items()}
        assert made.values.dtype == np.int16
        assert made.values.min() >= -1024
        assert made.values.max() <= 3071
        assert middle["left lung"] == pytest.approx(-830, abs=60)
        assert 30 < middle["liver"] < 130
        assert middle["spine"] > 120
        assert np.median(made.values[0, 0]) == pytest.approx(-1000, abs=20)

    def test_mr_gain_and_bias_differ_between_subjects(self) -> None:
        brightest = [np.percentile(phantom(n, modality="MR", shape=SHAPE).values, 99) for n in range(6)]
        assert max(brightest) > 1.5 * min(brightest)
        made = phantom(0, modality="MR", shape=SHAPE)
        assert made.values.min() >= 0

    def test_shape_spacing_and_affine(self) -> None:
        made = phantom(0, shape=(10, 12, 14), spacing_mm=(3.0, 2.0, 1.0))
        assert made.values.shape == made.labels.shape == (10, 12, 14)
        np.testing.assert_allclose(made.affine[:3, 3], [-6.5, -11.0, -13.5])
        assert made.affine[:3, :3].tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 3]]

    def test_the_body_is_the_same_at_any_resolution(self) -> None:
        coarse, fine = phantom(3, shape=(20, 20, 20)).labels, phantom(3, shape=(60, 60, 60)).labels
        assert (fine[1::3, 1::3, 1::3] == coarse).mean() > 0.995

    def test_wrong_wishes_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="Did you mean 'CT'"):
            phantom(0, modality="CTA")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="at least 8"):
            phantom(0, shape=(8, 8, 7))


class TestCohort:
    def test_it_is_a_decathlon_folder_and_some_dicom(self, tmp_path: Path) -> None:
        cohort = write_cohort(tmp_path, subjects=5, shape=(16, 16, 16), unlabelled=1, dicom=2, seed=7)
        described = json.loads((tmp_path / "dataset.json").read_text())
        assert [Path(pair["image"]).name for pair in described["training"]] == ["case_000.nii.gz", "case_001.nii.gz"]
        assert described["test"] == ["./imagesTs/case_002.nii.gz"]
        assert described["labels"]["1"] == "liver"
        assert (described["numTraining"], described["numTest"]) == (2, 1)
        assert len(cohort.images) == 5
        for subject, (image, label) in enumerate(zip(cohort.images, cohort.labels, strict=True)):
            made = phantom(subject, shape=(16, 16, 16), seed=7)
            scan = formats.read(image)
            np.testing.assert_array_equal(scan.values, made.values)
            np.testing.assert_allclose(scan.header.affine, made.affine, atol=1e-4)
            assert (label is None) == (subject == 2)
            if label is not None:
                np.testing.assert_array_equal(formats.read(label).values, made.labels)
        found, errors = dicom.find_series(tmp_path)
        assert errors == []
        assert [one.header.path.name for one in found] == ["case_003", "case_004"]
        assert len({one.header.fields["patient"] for one in found}) == 2

    def test_the_same_again_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_cohort(tmp_path / name, subjects=2, modality="MR", shape=(12, 12, 12), dicom=1)
        files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
        assert len(files) == 16
        for file in files:
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    @pytest.mark.parametrize("wish", [{"subjects": 0}, {"subjects": 2, "unlabelled": 2, "dicom": 1}, {"dicom": -1}])
    def test_more_than_there_are_is_refused(self, wish: dict, tmp_path: Path) -> None:
        with pytest.raises(ConfigError):
            write_cohort(tmp_path, **wish)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bad_folder(tmp_path_factory.mktemp("bad"))


class TestBadFolder:
    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("truncated_gzip", "truncated"),
            ("text", "text, not a gzip"),
            ("zero_length", "0 bytes"),
            ("empty_dicom", "0 bytes"),
        ],
    )
    def test_the_broken_ones_are_refused(self, kinds: dict[str, Path], kind: str, reason: str) -> None:
        with pytest.raises(FormatError, match=reason):
            formats.read_header(kinds[kind])

    def test_the_doubtful_ones_are_read_as_they_are(self, kinds: dict[str, Path]) -> None:
        assert not np.isfinite(formats.read(kinds["nan"]).values).all()
        assert np.ptp(formats.read(kinds["constant"]).values) == 0
        assert formats.read_header(kinds["four_dimensional"]).frames == 2
        assert kinds["duplicate"].read_bytes() == kinds["good"].read_bytes()
        assert formats.read(kinds["accented"]).values.shape == (24, 20, 22)
        assert formats.read_header(kinds["two_slices"]).shape[0] == 2

    def test_no_permission(self, kinds: dict[str, Path]) -> None:
        if os.access(kinds["no_permission"], os.R_OK):
            pytest.skip("this user may read any file")
        with pytest.raises(FormatError, match="Permission denied"):
            formats.read_header(kinds["no_permission"])

    def test_mixed_series_are_distinguished_and_the_localiser_set_aside(self, kinds: dict[str, Path]) -> None:
        found, errors = dicom.find_series(kinds["mixed_series"])
        assert [one.header.shape for one in found] == [(24, 20, 22)] * 2
        assert sorted(type(error).__name__ for error in errors) == ["FormatError", "SetAsideError"]

    def test_writing_again_is_fine(self, tmp_path: Path) -> None:
        first = write_bad_folder(tmp_path)
        assert write_bad_folder(tmp_path) == first
