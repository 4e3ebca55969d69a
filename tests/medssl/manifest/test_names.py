"""What is read from names alone: stems, modalities, patients, labels."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.errors import ConfigError
from medssl.manifest.labels import NO_IMAGE, label_series, pair_labels
from medssl.manifest.patients import compiled_pattern, patient_key
from medssl.manifest.sources import Source, modality_of_name, stem


def test_stems_lose_the_suffix_of_the_format_alone():
    assert stem("a.b.nii.gz") == "a.b"
    assert stem("A.NII.GZ") == "A"
    assert stem("case_0001.nrrd", channel=True) == "case"
    assert stem("lidc_0001.nii.gz") == "lidc_0001"
    assert stem("readme.txt") == "readme.txt"


@pytest.mark.parametrize(
    ("words", "modality"),
    [
        ("MRI", "MR"),
        ("CT", "CT"),
        ("T2 weighted", "MR"),
        (["x", "p_flair"], "MR"),
        ("contrast", ""),
        ("ct/mr", ""),
        ("", ""),
    ],
)
def test_modalities_by_name(words, modality):
    assert modality_of_name(words) == modality


@pytest.mark.parametrize(
    ("relative", "key"),
    [
        ("patient001/patient001_frame01.nii.gz", "patient001"),
        ("patient7/scan.nii.gz", "patient7"),
        ("images/TCGA_CS_4941_19960909_flair.nii.gz", "TCGA-CS-4941"),
        ("TCGA-cs-4941.nii", "TCGA-CS-4941"),
        ("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "sub-01"),
        ("imagesTr/hippocampus_001.nii.gz", "hippocampus_001"),
        ("lidc_0001.nii.gz", "lidc_0001"),
        ("lidc_0314.nii.gz", "lidc_0314"),
        ("case_00017.nii.gz", "case_00017"),
        ("inpatient12.nii.gz", "inpatient12"),
    ],
)
def test_patient_keys(relative, key):
    assert patient_key(relative) == key


def test_the_users_pattern_goes_first_and_its_group_is_the_key():
    assert patient_key("x/p12_a.nii", pattern=compiled_pattern(r"p(\d+)_")) == "12"
    assert patient_key("x/p12_a.nii", pattern=compiled_pattern(r"(?P<site>\w)/(?P<patient>p\d+)")) == "p12"
    assert patient_key("x/q12.nii", pattern=compiled_pattern(r"p\d+")) == "q12"


@pytest.mark.parametrize("pattern", ["(", "(a)(b)"])
def test_a_pattern_that_names_no_key_is_refused(pattern):
    with pytest.raises(ConfigError, match="patient_pattern"):
        compiled_pattern(pattern)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("imagesTr/a.nii.gz", "labelsTr/a.nii.gz"),
        ("x/imagesTs/a.nii.gz", "x/labelsTs/a.nii.gz"),
        ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"),
        ("images/p1/a.mha", "masks/p1/a_mask.nii.gz"),
        ("images/TCGA_flair.nii.gz", "masks/TCGA_flair.nii.gz"),
        ("p/patient001_frame01.nii.gz", "p/patient001_frame01_gt.nii.gz"),
        ("scan.nii.gz", "scan_seg.nrrd"),
        ("scan.nii.gz", "scan-label.nii"),
    ],
)
def test_labels_find_their_image(image, label):
    pairs = pair_labels([image, label])
    assert pairs.label_of == {image: label}
    assert pairs.labels == {label}
    assert pairs.orphans == ()


def test_every_channel_of_a_case_takes_its_label_and_numbers_are_not_channels_where_an_image_fits():
    pairs = pair_labels(["imagesTr/c_0000.nii", "imagesTr/c_0001.nii", "labelsTr/c.nii"])
    assert pairs.label_of == {"imagesTr/c_0000.nii": "labelsTr/c.nii", "imagesTr/c_0001.nii": "labelsTr/c.nii"}
    pairs = pair_labels(["images/s_0001.nii", "images/s_0002.nii", "labels/s_0001.nii", "labels/s_0002.nii"])
    assert pairs.label_of == {"images/s_0001.nii": "labels/s_0001.nii", "images/s_0002.nii": "labels/s_0002.nii"}


def test_labels_without_an_image_and_rival_labels_are_told():
    pairs = pair_labels(["a_seg.nii", "images/b.nii", "labels/b.nii", "masks/b.nii"])
    assert pairs.orphans == ("a_seg.nii",)
    assert pairs.label_of == {"images/b.nii": "labels/b.nii"}
    assert pairs.rivals == {"images/b.nii": ("masks/b.nii",)}


def test_an_image_that_merely_sounds_like_a_label_stays_one():
    assert pair_labels(["segment_1.nii", "gt350_scan.nii"]).labels == frozenset()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abc"), unique=True), st.randoms())
def test_pairing_does_not_depend_on_the_order_of_the_files(names, random):
    files = [f"{n}{end}.nii" for n in names for end in ("", "_seg", "_gt")]
    shuffled = list(files)
    random.shuffle(shuffled)
    assert pair_labels(files) == pair_labels(shuffled)
    assert pair_labels(files).label_of == {f"{n}.nii": f"{n}_gt.nii" for n in names}


def test_a_series_alone_in_its_folder_takes_the_label_of_the_folders_name():
    def label(name):
        return Source(path=Path("/d") / name, relative=name, flags=(NO_IMAGE,), error="no image")

    def series(folder, **more):
        return Source(path=Path("/d") / folder, relative=folder, paths=(Path("/d") / folder / "1.dcm",), **more)

    files = [label("p/case_1_seg.nii.gz"), label("p/case_2_seg.nii.gz"), label("p/case_3_seg.nii.gz")]
    every = [series("p/case_1"), series("p/case_2", series="a"), series("p/case_2", series="b"),
             series("p/case_3", error="a localiser")]  # fmt: skip
    left, labelled = label_series(files, every)
    assert [source.relative for source in left] == ["p/case_2_seg.nii.gz", "p/case_3_seg.nii.gz"]
    assert [source.label_path for source in labelled] == [Path("/d/p/case_1_seg.nii.gz"), None, None, None]
