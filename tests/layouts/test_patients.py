"""Whose scans are whose in the trees that people have, which split they lie in, and what is said of it."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

import medssl
from medssl.errors import ConfigError
from medssl.manifest.schema import read_manifest, write_manifest
from tests.layouts.tree import by_name, index, label, voxels, write

CONTRASTS = ("t1", "t1ce", "t2", "flair")


def put(root, *names):
    """Write an image of its own for each name."""
    for seed, name in enumerate(names):
        path = root / name
        if name.endswith((".mha", ".mhd", ".nrrd")):
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(voxels(seed)), path)
        else:
            write(path, voxels(seed))
    return root


def told(manifest):
    """Return name -> (patient, visit, contrast, rule)."""
    return {
        name: (row["patient"], row["study"], row["channel"], row["patient_rule"])
        for name, row in by_name(manifest).items()
    }


def sides(manifest):
    """Return patient -> splits."""
    found = {}
    for row in manifest.rows():
        found.setdefault(row["patient"], set()).add(row["split"])
    return found


@pytest.mark.parametrize("flat", [False, True])
def test_brats(tmp_path, flat, capsys):
    root = tmp_path / "d"
    for n in range(12):
        case = f"BraTS2021_{n:05d}"
        for k, contrast in enumerate(CONTRASTS):
            write(root / ("" if flat else case) / f"{case}_{contrast}.nii.gz", voxels(10 * n + k))
        write(root / ("" if flat else case) / f"{case}_seg.nii.gz", label(n))
    manifest = index(root)
    assert len(manifest) == 48
    rows = by_name(manifest)
    assert len({row["patient"] for row in rows.values()}) == 12
    assert all(len(splits) == 1 for splits in sides(manifest).values())
    for name, row in rows.items():
        case, _, contrast = name.rpartition("/")[2].removesuffix(".nii.gz").rpartition("_")
        assert (row["patient"], row["channel"]) == (case, contrast)
        assert row["label_path"] == str(root / ("" if flat else case) / f"{case}_seg.nii.gz")
        assert row["patient_rule"] == ("stem" if flat else "folder")
    said = capsys.readouterr().out
    where = "the name without contrast, visit and part" if flat else "the folder"
    assert f"patient from {where}: BraTS2021_00000_flair.nii.gz -> patient BraTS2021_00000; 48 scans of 12" in said
    assert "a guess" in said


@pytest.mark.parametrize("flat", [False, True])
def test_brats_with_visits(tmp_path, flat):
    names = [f"BraTS-GLI-0000{n}-00{v}" for n in (3, 5) for v in (0, 1)]
    put(tmp_path / "d", *(f"{'' if flat else name + '/'}{name}-{c}.nii.gz" for name in names for c in ("t1n", "t2f")))
    found = {name.rpartition("/")[2]: said[:3] for name, said in told(index(tmp_path / "d")).items()}
    assert found["BraTS-GLI-00003-000-t1n.nii.gz"] == ("BraTS-GLI-00003", "000", "t1n")
    assert found["BraTS-GLI-00003-001-t2f.nii.gz"] == ("BraTS-GLI-00003", "001", "t2f")
    assert {said[0] for said in found.values()} == {"BraTS-GLI-00003", "BraTS-GLI-00005"}


@pytest.mark.parametrize("description", [None, "v1", "v2"])
def test_nnunet_channels(tmp_path, description):
    root = tmp_path / "d"
    put(root, *(f"imagesTr/case_{n:02d}_000{c}.nii.gz" for n in (1, 2) for c in (0, 1)))
    for n in (1, 2):
        write(root / f"labelsTr/case_{n:02d}.nii.gz", label(n))
    if description == "v1":
        listed = [{"image": f"./imagesTr/case_0{n}.nii.gz", "label": f"./labelsTr/case_0{n}.nii.gz"} for n in (1, 2)]
        said = {"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "a"}, "training": listed}
    else:
        said = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0}, "file_ending": ".nii.gz"}
    if description:
        (root / "dataset.json").write_text(json.dumps(said))
    manifest = index(root)
    found = told(manifest)
    names = ("T2", "ADC") if description else ("0000", "0001")
    rule = "dataset.json" if description else "stem"
    assert found["imagesTr/case_01_0000.nii.gz"] == ("case_01", None, names[0], rule)
    assert found["imagesTr/case_02_0001.nii.gz"] == ("case_02", None, names[1], rule)
    assert {row["label_path"] for row in by_name(manifest).values()} == {
        str(root / f"labelsTr/case_0{n}.nii.gz") for n in (1, 2)
    }
    assert not any("not there" in note for note in manifest.notes)


def test_two_unlabelled_cases_of_nnunet_with_four_channels_each(tmp_path):
    put(tmp_path / "d", *(f"imagesTs/case_{n:02d}_000{c}.nii.gz" for n in (1, 2) for c in range(4)))
    found = told(index(tmp_path / "d"))
    assert {said[0] for said in found.values()} == {"case_01", "case_02"}
    assert {said[2] for said in found.values()} == {"0000", "0001", "0002", "0003"}


def test_one_case_of_two_channels_is_one_patient(tmp_path):
    put(tmp_path / "d", "imagesTr/case_0000.nii.gz", "imagesTr/case_0001.nii.gz")
    write(tmp_path / "d/labelsTr/case.nii.gz", label(0))
    assert {said[:1] + said[2:3] for said in told(index(tmp_path / "d")).values()} == {
        ("case", "0000"), ("case", "0001"),
    }  # fmt: skip


def test_numbers_that_are_no_channels_are_patients(tmp_path):
    put(tmp_path / "d", *(f"lidc_000{n}.nii.gz" for n in range(4)))
    assert {said[0] for said in told(index(tmp_path / "d")).values()} == {f"lidc_000{n}" for n in range(4)}


@pytest.mark.parametrize(
    ("files", "patients"),
    [
        (("t2", "adc", "dwi"), ("001", "002", "010")),
        (("ct",), ("s0001", "s0002", "s0003")),
        (("T1",), ("OAS1", "OAS2", "OAS3")),
        (("imaging",), ("case_00001", "case_00002")),
        (("some_map", "other_map"), ("4711", "4712", "4713")),
    ],
)
def test_folders_of_contrasts_are_the_patients(tmp_path, files, patients):
    put(tmp_path / "d", *(f"{patient}/{file}.nii.gz" for patient in patients for file in files))
    found = told(index(tmp_path / "d"))
    for name, said in found.items():
        assert said[0] == name.partition("/")[0]
        assert said[3] == "folder"
        file = name.rpartition("/")[2].removesuffix(".nii.gz")
        assert said[2] == ("" if file == "imaging" else file.lower())


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ("p1_ses1 p1_ses-2 p1_visit2 p1_baseline p1_followup p1_tp1 p1_20190101 p1_2019-02-01 p1_m06 p2", 2),
        ("p3_pre_t1 p3_post_t1 p4_pre_t1 p4_post_t1", 2),
        ("a12_L a12_R a12_LH a12_right b13_left", 2),
        ("a12_run-1 a12_r2 a12_scan2 a12_cropped a12_slice07 a12_phase3 b13_frame01", 2),
        ("Patient1 patient001_t2 PATIENT01_flair patient2", 2),
        ("CHUM-001__CT CHUM-001__PT CHUM-002__CT CHUM-002__PT", 2),
        ("T1/IXI002-Guys-0828-T1 T2/IXI002-Guys-0828-T2 T1/IXI003-Guys-0829-T1", 2),
        ("OAS30001_MR_d0129 OAS30001_MR_d0757 OAS30002_MR_d0001", 2),
        ("10000/10000_1000000_adc 10000/10000_1000000_t2w 10000/10000_1000001_t2w 10001/10001_1000002_adc", 2),
        ("set_1/case_01/case_01_IMG_CT set_1/case_01/case_01_IMG_MR_T1 set_1/case_02/case_02_IMG_CT", 2),
        ("x/A/GE3T/100/pre/FLAIR x/A/GE3T/100/orig/T1 x/A/GE3T/101/pre/FLAIR x/B/100/pre/FLAIR x/B/101/pre/T1", 4),
        ("siteA/001/t1 siteB/001/t1 siteA/002/t1 siteB/002/t1", 4),
        ("Guys/001 Guys/002 HH/001 HH/002", 4),
        ("M01/t1 M01/t2 M02/t1 M03/t1", 3),
        ("B0/t1 B0/dwi_b1000 B1/t1", 2),
        ("V1_t1 V1_t2 V2_t1 R1 R2", 4),
        ("P01/v1/t1 P01/v2/t1 P02/v1/t1 P02/v2/t1", 2),
        ("A01/qx A01/rz A02/sy A03/tw A03/uv", 3),
        ("p1/scan1 p1/scan2 p2/scan1 p2/scan2", 2),
        ("P01/1/t1 P01/2/t1 P02/1/t1", 2),
        ("dsA/sub-01/anat/sub-01_T1w dsB/sub-01/anat/sub-01_T1w dsB/sub-02/ses-1/anat/sub-02_ses-1_T1w", 3),
        ("dsA/sub-01/anat/sub-01_T1w dsB/sub-01/anat/sub-01_T1w", 2),
        ("study_20190101 study_20190102 study_20190103 study_20190104 study_20190105", 5),
        ("t1_100 t2_100 t1_101 t2_101", 2),
        ("001/001_SA_ED 001/001_LA_ES 002/002_SA_ED 002/002_LA_ES", 2),
        ("Patient01/Preprocessed_Data/FLAIR_preprocessed Patient01/Raw_Data/FLAIR Patient02/Raw_Data/FLAIR", 2),
        (
            "x/ADNI_002_S_0295_MR_MPRAGE_br_raw_20060418193713091_1_S1_I1 x/ADNI_002_S_0295_MR_B1_20070418193713091_I2",
            1,
        ),
    ],
)
def test_patients_of_names(tmp_path, names, groups):
    put(tmp_path / "d", *(f"{name}.nii.gz" for name in names.split()))
    manifest = index(tmp_path / "d")
    found = told(manifest)
    assert len({said[0] for said in found.values()}) == groups, found
    assert all(len(splits) == 1 for splits in sides(manifest).values())


def test_same_numbers_of_two_sites_are_said_and_so_are_spellings(tmp_path):
    put(tmp_path / "d", *(f"site{s}/00{n}/t1.nii.gz" for s in "AB" for n in (1, 2)), "Patient1.nii", "patient01_t2.nii")
    manifest = index(tmp_path / "d")
    assert any("siteA/001, siteB/001" in note for note in manifest.notes)
    assert any("Patient1, patient01" in note for note in manifest.notes)


def test_what_a_person_says_goes_first(tmp_path, capsys):
    put(tmp_path / "d", "x1_t1.nii.gz", "x1_t2.nii.gz", "x2_t1.nii.gz", "other.nii.gz")
    found = told(index(tmp_path / "d", "patient_pattern=(x\\d_t\\d)"))
    assert found["x1_t1.nii.gz"] == ("x1_t1", None, "t1", "given")
    assert found["other.nii.gz"][3] == "name"
    said = capsys.readouterr().out
    assert "patient as you said: x1_t1.nii.gz" in said
    assert "patient from the whole name: other.nii.gz" in said
    (tmp_path / "d/list.csv").write_text("path,patient,channel\nx1_t1.nii.gz,anna,t1 gd\nx1_t2.nii.gz,,\n")
    listed = told(index(tmp_path / "d/list.csv", out="csv.parquet"))
    assert listed["x1_t1.nii.gz"] == ("anna", None, "t1 gd", "given")
    assert listed["x1_t2.nii.gz"] == ("x1", None, "t2", "stem")


def test_a_table_names_patients(tmp_path):
    put(tmp_path / "d", *(f"{name}_{k}.nii.gz" for name in ("foo_a", "foo_b", "bar_c", "bar_d") for k in ("xx", "yy")))
    (tmp_path / "t.csv").write_text("who,grade\nfoo_a,I\nfoo_b,II\nbar_c,I\nbar_d,II\n")
    manifest = index(tmp_path / "d", f"targets={tmp_path / 't.csv'}")
    found = told(manifest)
    assert {said[0] for said in found.values()} == {"foo_a", "foo_b", "bar_c", "bar_d"}
    assert {said[3] for said in found.values()} == {"table"}
    assert manifest.targets() == {"grade": {"I": 2, "II": 2}}


def test_dates_of_visits_are_not_kept(tmp_path):
    put(tmp_path / "d", "p1_20190102_t1.nii.gz", "p1_20190102_t2.nii.gz", "p1_20200102_t1.nii.gz")
    studies = {name: said[1] for name, said in told(index(tmp_path / "d")).items()}
    assert len(set(studies.values())) == 2
    assert all(study.startswith("date-") and "2019" not in study for study in studies.values())


def test_splits_of_folders_are_kept_or_said_not_to_be(tmp_path):
    root = put(tmp_path / "d", *(f"train/a{n}.nii.gz" for n in range(8)), "test/b1.nii.gz", "test/b2.nii.gz")
    manifest = index(root, "val=0.2")
    splits = {name: row["split"] for name, row in by_name(manifest).items()}
    assert {splits["test/b1.nii.gz"], splits["test/b2.nii.gz"]} == {"test"}
    assert sorted(splits[f"train/a{n}.nii.gz"] for n in range(8)) == ["train"] * 6 + ["val"] * 2
    assert any("split of the folders is kept (train 8, test 2)" in note for note in manifest.notes)
    anew = index(root, "keep_split=false", "val=0", "test=0", out="b.parquet")
    assert {row["split"] for row in anew.rows()} == {"train"}
    assert any("is not kept" in note for note in anew.notes)


def test_all_three_folders_leave_nothing_to_draw(tmp_path):
    root = put(tmp_path / "d", *(f"{s}/{s}_{n}.nii.gz" for s in ("train", "val", "test") for n in range(4)))
    assert all(name.startswith(row["split"]) for name, row in by_name(index(root)).items())


def test_images_for_testing_of_nnunet_without_a_description(tmp_path):
    root = put(tmp_path / "d", *(f"images{k}/case_{k}{n:02d}_0000.nii.gz" for k in ("Tr", "Ts") for n in range(3)))
    for n in range(3):
        write(root / f"labelsTr/case_Tr{n:02d}.nii.gz", label(n))
    rows = by_name(index(root))
    assert {row["split"] for name, row in rows.items() if name.startswith("imagesTs")} == {"test"}


def test_numbers_of_folders_for_splits_begin_anew(tmp_path):
    root = put(tmp_path / "d", *(f"{s}/00{n}.nii.gz" for s in ("train", "test") for n in (1, 2, 3)))
    manifest = index(root, "val=0")
    assert all(name.startswith(row["split"]) for name, row in by_name(manifest).items())
    assert len(sides(manifest)) == 6


def test_folds_are_said_not_to_be_a_split(tmp_path):
    root = put(tmp_path / "d", *(f"fold{n}/x{n}{k}.nii.gz" for n in range(3) for k in range(2)))
    assert any("are folds" in note for note in index(root).notes)


def _classes(root, count=20):
    put(root, *(f"p{n:02d}.nii.gz" for n in range(count)))
    table = root.parent / "t.csv"
    table.write_text("who,grade\n" + "".join(f"p{n:02d},{'high' if n % 4 == 0 else 'low'}\n" for n in range(count)))
    return f"targets={table}"


def test_classes_of_the_only_target_are_spread_over_the_splits(tmp_path, capsys):
    targets = _classes(tmp_path / "d")
    for seed in range(4):
        manifest = index(tmp_path / "d", targets, f"seed={seed}", "test=0.2", "val=0.2", out=f"{seed}.parquet")
        high = [row["split"] for row in manifest.rows() if "high" in row["targets"]]
        assert sorted(high) == ["test", "train", "train", "train", "val"]
    assert "the classes of grade spread evenly" in capsys.readouterr().out
    loose = {
        tuple(sorted(row["split"] for row in index(tmp_path / "d", targets, "stratify=none", f"seed={seed}", "val=0.2",
                                                   out=f"n{seed}.parquet").rows() if "high" in row["targets"]))
        for seed in range(4)
    }  # fmt: skip
    assert loose != {("test", "train", "train", "train", "val")}
    with pytest.raises(ConfigError, match="no target 'grad'"):
        index(tmp_path / "d", targets, "stratify=grad", out="x.parquet")


def test_a_split_that_was_drawn_stays_and_it_is_said_that_classes_are_not_spread(tmp_path, capsys):
    targets = _classes(tmp_path / "d")
    before = {row["id"]: row["split"] for row in index(tmp_path / "d").rows()}
    capsys.readouterr()
    assert {row["id"]: row["split"] for row in index(tmp_path / "d", targets).rows()} == before
    said = capsys.readouterr()
    assert "were not spread" in said.err + said.out


def test_check_says_which_classes_a_split_lacks(tmp_path):
    targets = _classes(tmp_path / "d")
    manifest = index(tmp_path / "d", targets, "val=0.05", "test=0.2")
    found = [f for f in medssl.check(manifest, out=tmp_path / "c.html", pictures=0).findings
             if f.kind == "class-missing-in-split"]  # fmt: skip
    assert len(found) == 1
    assert "'val' has no scan of the grade" in found[0].what


def test_a_guess_is_a_warning_once_and_a_word_of_the_user_is_none(tmp_path):
    root = put(tmp_path / "d", *(f"x{n}_{c}.nii.gz" for n in range(3) for c in CONTRASTS))
    kinds = [f.kind for f in medssl.check(index(root), out=tmp_path / "c.html", pictures=0).findings]
    assert kinds.count("patient-guessed") == 1
    sure = index(root, "patient_pattern=(x\\d)", out="b.parquet")
    assert "patient-guessed" not in [f.kind for f in medssl.check(sure, out=tmp_path / "d.html", pictures=0).findings]


def test_a_folder_in_several_splits_and_a_shared_label_are_told(tmp_path):
    root = tmp_path / "d"
    for n in range(4):
        for k, contrast in enumerate(CONTRASTS):
            write(root / f"A{n}/A{n}_{contrast}.nii.gz", voxels(10 * n + k))
        write(root / f"A{n}/A{n}_seg.nii.gz", label(n))
    manifest = index(root, "patient_pattern=(A\\d_\\w+)", "val=0.2", "test=0.3")
    result = medssl.check(manifest, out=tmp_path / "c.html", pictures=0)
    kinds = {f.kind: f for f in result.findings}
    assert kinds["folder-in-several-splits"].severity == "warning"
    assert kinds["label-shared"].severity == "error"
    assert "4 label maps" in kinds["label-shared"].what
    assert not result.ok
    split = medssl.check_split(manifest, out=tmp_path / "s.html", index=tmp_path / "prints", jobs=1)
    assert not split.ok
    assert {"label-shared", "folder-in-several-splits"} <= {doubt[1] for doubt in split.doubts}


def test_reduce_keeps_contrasts_of_one_patient_that_agree(tmp_path):
    from scipy.ndimage import gaussian_filter

    root = tmp_path / "d"
    for n in range(2):
        body = gaussian_filter(np.random.default_rng(n).normal(size=(24, 32, 30)), 1.5) * 1000 + 500
        write(root / f"B{n}/B{n}_t1.nii.gz", body.astype(np.float32))
        write(root / f"B{n}/B{n}_t1ce.nii.gz", (1.3 * body + 7).astype(np.float32))
        write(root / f"B{n}/B{n}_t2.nii.gz", body.astype(np.float32))  # the voxels of T1: a copy
    manifest = index(root, "val=0", "test=0", "channels=none")  # a case goes or stays as a whole
    write_manifest(manifest, tmp_path / "m.parquet")
    medssl.reduce(tmp_path / "m.parquet", out=tmp_path / "k.parquet", jobs=1)
    kept = by_name(read_manifest(tmp_path / "k.parquet"))
    for n in range(2):
        assert kept[f"B{n}/B{n}_t1ce.nii.gz"]["keep"]
        assert [kept[f"B{n}/B{n}_{c}.nii.gz"]["keep"] for c in ("t1", "t2")].count(False) == 1
        assert len({kept[f"B{n}/B{n}_{c}.nii.gz"]["group"] for c in ("t1", "t1ce", "t2")}) == 1


def test_a_manifest_from_before_reads_and_torn_patients_are_drawn_anew(tmp_path):
    import polars as pl

    root = put(tmp_path / "d", *(f"x{n}_{c}.nii.gz" for n in range(10) for c in CONTRASTS))
    manifest = index(root)
    old = manifest.frame.with_columns(patient=pl.col("id"), split=pl.Series(["train", "val", "test", "train"] * 10))
    settings = {k: v for k, v in manifest.settings.items() if k != "patients"}
    from dataclasses import replace

    place = tmp_path / "old.parquet"
    write_manifest(replace(manifest, frame=old, settings=settings), place)
    pl.read_parquet(place).drop("channel", "patient_rule")
    kept = pl.read_parquet_metadata(place)["medssl"]
    pl.read_parquet(place).drop("channel", "patient_rule").write_parquet(place, metadata={"medssl": kept})
    before = read_manifest(place)
    assert set(before.frame["channel"]) == {""}
    medssl.index(root, out=place)
    after = read_manifest(place)
    assert all(len(splits) == 1 for splits in sides(after).values())
    assert {split for splits in sides(after).values() for split in splits} == {"train", "val", "test"}
    assert any("drawn anew" in note for note in after.notes)


def test_a_patient_keeps_its_split_when_a_second_site_changes_its_key(tmp_path):
    root = put(tmp_path / "d", *(f"siteA/00{n}/t1.nii.gz" for n in range(1, 9)))
    before = {name: row["split"] for name, row in by_name(index(root)).items()}
    for n in range(1, 9):
        write(root / f"siteB/00{n}/t1.nii.gz", voxels(100 + n))
    after = by_name(index(root))
    assert {name: after[name]["split"] for name in before} == before
    assert after["siteB/001/t1.nii.gz"]["patient"] == "siteB/001"
