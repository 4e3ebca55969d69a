"""Whole folders to manifests: layouts, rows for what is broken, and running again."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from medssl.errors import ConfigError, ManifestError
from medssl.formats.dicom_write import write_series
from medssl.formats.nifti import write_nifti
from medssl.manifest.build import Counts, build_manifest
from medssl.manifest.schema import read_manifest, write_manifest
from medssl.phantoms.broken_files import write_bad_folder

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def image(path: Path, seed: int, shape=(6, 7, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, np.random.default_rng(seed).integers(0, 500, shape).astype(np.int16), AFFINE)
    return path


def label(path: Path, shape=(6, 7, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(shape, np.uint8)
    values[2:4, 2:4, 2:4] = 1
    write_nifti(path, values, AFFINE)
    return path


def build(folder: Path, **more):
    return build_manifest(folder, workers=1, **more)


def rows_of(manifest) -> dict[str, dict]:
    return {row["id"]: row for row in manifest.rows()}


def msd(folder: Path, count: int = 4) -> Path:
    training = []
    for n in range(count):
        image(folder / "imagesTr" / f"spleen_{n}.nii.gz", n)
        label(folder / "labelsTr" / f"spleen_{n}.nii.gz")
        training.append({"image": f"./imagesTr/spleen_{n}.nii.gz", "label": f"./labelsTr/spleen_{n}.nii.gz"})
    image(folder / "imagesTs" / "spleen_9.nii.gz", 9)
    said = {"name": "Spleen", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"},
            "training": training, "test": ["./imagesTs/spleen_9.nii.gz"]}  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(said))
    return folder


def test_msd(tmp_path):
    manifest, counts = build(msd(tmp_path))
    assert counts == Counts(read=5, reused=0, gone=0)
    assert manifest.classes == {0: "background", 1: "spleen"}
    rows = rows_of(manifest)
    assert sorted(rows) == ["imagesTs-spleen_9", "spleen_0", "spleen_1", "spleen_2", "spleen_3"]
    assert rows["spleen_0"]["label_path"] == str(tmp_path / "labelsTr" / "spleen_0.nii.gz")
    assert rows["spleen_0"]["label_values"] == [0, 1]
    assert {row["modality"] for row in rows.values()} == {"CT"}
    assert rows["spleen_0"]["units"] == "HU"
    assert rows["imagesTs-spleen_9"]["split"] == "test"
    assert rows["imagesTs-spleen_9"]["label_path"] is None


def test_a_dataset_json_that_names_missing_files_or_is_damaged_ends_nothing(tmp_path):
    msd(tmp_path)
    (tmp_path / "imagesTr" / "spleen_1.nii.gz").unlink()
    manifest, _ = build(tmp_path)
    assert "names 1 files that are not there" in manifest.notes[0]
    assert [r["id"] for r in manifest.rows() if "label-without-image" in r["flags"]] == ["labelsTr-spleen_1"]
    (tmp_path / "dataset.json").write_text("{")
    manifest, _ = build(tmp_path)
    assert "cannot be read as JSON" in manifest.notes[0]
    assert manifest.summary()["labelled"] == 3


def test_nnunet(tmp_path):
    for seed, case in enumerate(("a_001", "a_002")):
        image(tmp_path / "imagesTr" / f"{case}_0000.nii.gz", seed)
        image(tmp_path / "imagesTr" / f"{case}_0001.nii.gz", seed + 10)
        label(tmp_path / "labelsTr" / f"{case}.nii.gz")
    said = {"channel_names": {"0": "T2", "1": "CT"}, "labels": {"background": 0, "PZ": 1, "both": [1, 2]},
            "file_ending": ".nii.gz", "numTraining": 2}  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    manifest, _ = build(tmp_path)
    rows = rows_of(manifest)
    assert {(r["patient"], r["modality"]) for r in rows.values()} == {
        ("a_001", "MR"), ("a_001", "CT"), ("a_002", "MR"), ("a_002", "CT"),
    }  # fmt: skip
    assert all(r["label_path"] for r in rows.values())
    assert manifest.classes == {0: "background", 1: "PZ", 2: "structure 2"}
    assert manifest.regions == ()
    assert any("no regions_class_order" in note for note in manifest.notes)


def test_bids(tmp_path):
    (tmp_path / "dataset_description.json").write_text("{}")
    anat = tmp_path / "sub-01" / "ses-a" / "anat"
    image(anat / "sub-01_ses-a_T1w.nii.gz", 1)
    image(anat / "sub-01_ses-a_run-2_T2w.nii.gz", 2)
    image(tmp_path / "sub-02" / "ct" / "sub-02_ct.nii.gz", 3)
    derived = tmp_path / "derivatives" / "x" / "sub-01" / "ses-a" / "anat"
    label(derived / "sub-01_ses-a_desc-hand_dseg.nii.gz")
    image(derived / "sub-01_ses-a_space-MNI_T1w.nii.gz", 4)
    manifest, _ = build(tmp_path)
    rows = rows_of(manifest)
    assert {(r["patient"], r["study"], r["modality"], bool(r["label_path"])) for r in rows.values()} == {
        ("sub-01", "ses-a", "MR", True), ("sub-01", "ses-a", "MR", False), ("sub-02", None, "CT", False),
    }  # fmt: skip
    labelled = next(r for r in rows.values() if r["label_path"])
    assert "T1w" in labelled["path"]
    assert len({rows[name]["split"] for name in rows if rows[name]["patient"] == "sub-01"}) == 1
    assert "set aside" in manifest.notes[0]


def test_csv_list(tmp_path):
    image(tmp_path / "deep" / "ü 1.nii.gz", 1)
    image(tmp_path / "two.nii.gz", 2)
    label(tmp_path / "two_l.nii.gz")
    (tmp_path / "list.csv").write_text(
        "Image;Mask;Patient_ID;Split;Modality;Age\ndeep/ü 1.nii.gz;;p1;validation;mri;3\n"
        "two.nii.gz;two_l.nii.gz;p2;;CT;4\ngone.nii.gz;;p3;;;5\n", encoding="utf-8",
    )  # fmt: skip
    manifest, _ = build(tmp_path / "list.csv")
    by_patient = {row["patient"]: row for row in manifest.rows()}
    assert (by_patient["p1"]["split"], by_patient["p1"]["modality"]) == ("val", "MR")
    assert by_patient["p2"]["label_values"] == [0, 1]
    assert "not there" in by_patient["p3"]["error"]
    assert "Age" in manifest.notes[0]
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ManifestError, match="no column of paths"):
        build(tmp_path / "bad.csv")
    (tmp_path / "bad.csv").write_text("path,split\ntwo.nii.gz,tset\n")
    with pytest.raises(ManifestError, match="unknown split 'tset'"):
        build(tmp_path / "bad.csv")


def test_a_folder_of_trouble_is_reported_by_name_and_the_rest_goes_through(tmp_path):
    kinds = write_bad_folder(tmp_path / "my scans")
    manifest, _ = build(tmp_path / "my scans")
    by_path = {row["path"]: row for row in manifest.rows()}
    for kind in ("truncated_gzip", "text", "zero_length", "empty_dicom"):
        assert by_path[str(kinds[kind])]["error"], kind
    for kind in ("good", "accented", "duplicate", "four_dimensional", "nan", "constant", "two_slices"):
        assert by_path[str(kinds[kind])]["error"] is None, kind
    assert "nonfinite" in by_path[str(kinds["nan"])]["flags"]
    assert "constant" in by_path[str(kinds["constant"])]["flags"]
    assert by_path[str(kinds["four_dimensional"])]["frames"] == 2
    assert by_path[str(kinds["two_slices"])]["shape"][0] == 2
    mixed = [r for r in manifest.rows() if Path(r["path"]) == kinds["mixed_series"] and r["error"] is None]
    assert len({r["series"] for r in mixed}) == 2
    assert [r["flags"] for r in manifest.rows() if "set-aside" in r["flags"]] == [["set-aside"]]
    assert by_path[str(kinds["good"])]["content_hash"] == by_path[str(kinds["duplicate"])]["content_hash"]
    assert by_path[str(kinds["good"])]["split"] == by_path[str(kinds["duplicate"])]["split"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_row(tmp_path):
    image(tmp_path / "ok.nii.gz", 1)
    image(tmp_path / "shut.nii.gz", 2).chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    errors = {Path(r["path"]).name: r["error"] for r in build(tmp_path)[0].rows()}
    assert errors["ok.nii.gz"] is None
    assert "Permission" in errors["shut.nii.gz"]
    assert "cannot be listed" in errors["closed"]


def test_running_again_reads_only_what_is_new_or_changed(tmp_path):
    folder = msd(tmp_path / "d")
    first, _ = build(folder)
    write_manifest(first, tmp_path / "m.csv")
    again, counts = build(folder, previous=read_manifest(tmp_path / "m.csv"))
    assert counts == Counts(read=0, reused=5, gone=0)
    assert again.frame.equals(first.frame)
    image(folder / "imagesTr" / "spleen_1.nii.gz", 50, shape=(9, 9, 9))
    label(folder / "labelsTr" / "spleen_2.nii.gz", shape=(5, 5, 5))
    image(folder / "imagesTr" / "spleen_7.nii.gz", 7)
    (folder / "imagesTs" / "spleen_9.nii.gz").unlink()
    third, counts = build(folder, previous=again)
    assert counts == Counts(read=3, reused=2, gone=1)
    rows = rows_of(third)
    assert rows["spleen_1"]["shape"] == [9, 9, 9]
    assert "label-shape-differs" in rows["spleen_2"]["flags"]
    before = {r["patient"]: r["split"] for r in again.rows()}
    assert all(r["split"] == before[r["patient"]] for r in third.rows() if r["patient"] in before)


def test_unreadable_scans_are_tried_again(tmp_path):
    image(tmp_path / "a.nii.gz", 1)
    (tmp_path / "b.nii.gz").write_text("oops")
    first, _ = build(tmp_path)
    second, counts = build(tmp_path, previous=first)
    assert counts == Counts(read=1, reused=1, gone=0)
    assert second.frame.equals(first.frame)


def test_settings_that_need_no_reading_take_effect_on_kept_rows(tmp_path):
    image(tmp_path / "x" / "p1_a.nii.gz", 1)
    image(tmp_path / "x" / "p1_b.nii.gz", 2)
    first, _ = build(tmp_path)
    assert {r["modality"] for r in first.rows()} == {"unknown"}
    second, counts = build(tmp_path, previous=first, modality="MR", patient_pattern=r"(p\d+)_", val=0.0, test=0.0)
    assert counts.read == 0
    assert {(r["modality"], r["patient"], r["split"]) for r in second.rows()} == {("MR", "p1", "train")}
    assert not any("modality-unknown" in r["flags"] for r in second.rows())
    third, _ = build(tmp_path, previous=second)
    assert third.frame.drop("split").equals(first.frame.drop("split"))


def test_a_header_run_is_quick_and_a_full_run_after_it_reads_the_voxels(tmp_path):
    folder = msd(tmp_path)
    quick, _ = build(folder, depth="header")
    assert all(r["content_hash"] is None and r["shape"] == [6, 7, 8] for r in quick.rows())
    full, counts = build(folder, previous=quick)
    assert counts.read == 5
    assert full.frame.equals(build(folder)[0].frame)
    assert build(folder, previous=full, depth="header")[1].reused == 5


@pytest.mark.slow
def test_processes_give_what_one_process_gives(tmp_path):
    write_bad_folder(tmp_path)
    said = []
    many, _ = build_manifest(tmp_path, workers=2, progress=lambda done, total: said.append((done, total)))
    one, _ = build(tmp_path)
    assert many.frame.equals(one.frame)
    assert said[-1][0] == said[-1][1] == len(one)


def test_patients_of_dicom_are_hashes_and_no_name_is_kept(tmp_path):
    values = np.random.default_rng(0).integers(-900, 900, (4, 8, 8)).astype(np.int16)
    for n in range(2):
        write_series(tmp_path / f"v{n}", values + n, AFFINE, modality="CT", patient_id="4711-secret", name=f"s{n}")
    manifest, _ = build(tmp_path)
    rows = list(manifest.rows())
    assert len({r["patient"] for r in rows}) == 1
    assert all(r["id"].startswith("dicom-") and r["units"] == "HU" and r["modality"] == "CT" for r in rows)
    assert "secret" not in manifest.frame.write_json()


def test_dicom_branches_are_grouped_again_only_where_they_changed(tmp_path, monkeypatch, in_this_process):
    values = np.random.default_rng(0).integers(-900, 900, (6, 8, 8)).astype(np.int16)
    for n in range(3):
        write_series(tmp_path / f"p{n}" / "ct", values + n, AFFINE, modality="CT", patient_id=f"p{n}", name=f"s{n}")
    first, _ = build(tmp_path)
    from medssl.manifest import series

    grouped = []
    real = series.group_branch
    monkeypatch.setattr(series, "group_branch", lambda paths, root: (grouped.append(paths[0]), real(paths, root))[1])
    second, counts = build(tmp_path, previous=first)
    assert grouped == []
    assert counts == Counts(read=0, reused=3, gone=0)
    assert second.frame.equals(first.frame)
    sorted((tmp_path / "p1" / "ct").iterdir())[-1].unlink()
    third, counts = build(tmp_path, previous=second)
    assert [path.relative_to(tmp_path).parts[0] for path in grouped] == ["p1"]
    assert counts == Counts(read=1, reused=2, gone=1)
    assert sorted(r["shape"][0] for r in third.rows()) == [5, 6, 6]


def test_a_series_that_lies_in_two_branches_is_one_scan(tmp_path):
    values = np.random.default_rng(0).integers(-900, 900, (6, 8, 8)).astype(np.int16)
    write_series(tmp_path / "whole", values, AFFINE, modality="CT", patient_id="p", name="s")
    files = sorted((tmp_path / "whole").iterdir())
    for n, name in enumerate(("disc1", "disc2")):
        (tmp_path / name).mkdir()
        for file in files[n::2]:
            shutil.move(file, tmp_path / name / file.name)
    (tmp_path / "whole").rmdir()
    first, _ = build(tmp_path)
    assert [r["shape"] for r in first.rows()] == [[6, 8, 8]]
    second, counts = build(tmp_path, previous=first)
    assert counts == Counts(read=0, reused=1, gone=0)
    assert second.frame.equals(first.frame)


def test_ids_are_unique_whatever_the_names(tmp_path):
    for n, name in enumerate(("a b", "a-b", "A-b", "x/a", "imagesTr/a", "images/a")):
        image(tmp_path / f"{name}.nii.gz", n)
    ids = [r["id"] for r in build(tmp_path)[0].rows()]
    assert len({i.lower() for i in ids}) == 6
    assert all(set(i) <= set("abcdefghijklmnopqrstuvwxyzAB0123456789-_.T") for i in ids)


def test_links_in_a_circle_end(tmp_path):
    image(tmp_path / "a" / "x.nii.gz", 1)
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(build(tmp_path)[0]) == 1


def test_runs_and_stores_are_no_scans(tmp_path):
    image(tmp_path / "scans" / "a.nii.gz", 1)
    for name, files in {"runs/seg": ("run.yaml", "environment.json"), "stores/ct": ("store.json",)}.items():
        image(tmp_path / name / "predictions" / "a.nii.gz", 2)
        for file in files:
            (tmp_path / name / file).write_text("{}")
    image(tmp_path / "scans" / "masks" / "a.nii.gz", 2)
    (tmp_path / "scans" / "masks" / "journal.jsonl").write_text('{"version": 1, "made_with": "abc"}\n')
    manifest, _ = build(tmp_path)
    assert [Path(row["path"]) for row in manifest.rows()] == [tmp_path / "scans/a.nii.gz"]
    assert manifest.notes == ("Passed over, since medssl wrote them: runs/seg, scans/masks, stores/ct (3 in all).",)
    assert len(build(tmp_path / "scans" / "masks")[0]) == 1  # meant, as it is named
    with pytest.raises(ManifestError, match="medssl wrote this"):
        build(tmp_path / "runs" / "seg")
    assert len(build(tmp_path / "runs" / "seg" / "predictions")[0]) == 1  # meant, as it is named


def test_one_file_is_a_folder_of_one(tmp_path):
    assert [r["id"] for r in build(image(tmp_path / "x.nii.gz", 1))[0].rows()] == ["x"]


def test_wrong_questions_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        build(tmp_path / "none")
    image(tmp_path / "x.nii.gz", 1)
    with pytest.raises(ConfigError, match="regular expression"):
        build(tmp_path, patient_pattern="(")


def _real(name: str) -> Path:
    root = os.environ.get("MEDSSL_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"MEDSSL_DATA names no folder with {name}")
    return Path(root) / name


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scans", "patients", "labelled", "modality"),
    [("hippocampus", 200, 200, 200, "MR"), ("acdc", 180, 90, 180, "unknown"), ("lgg_flair", 90, 90, 90, "MR"),
     ("ct", 14, 14, 0, "CT"), ("ct_dicom", 1, 1, 0, "CT")],
)  # fmt: skip
def test_real_cohorts(name, scans, patients, labelled, modality):
    manifest, _ = build(_real(name))
    summary = manifest.summary()
    assert (summary["scans"], summary["patients"], summary["labelled"]) == (scans, patients, labelled)
    assert summary["unreadable"] == 0
    assert summary["modalities"] == {modality: scans}
    for patient in {r["patient"] for r in manifest.rows()}:
        assert len({r["split"] for r in manifest.rows() if r["patient"] == patient}) == 1
    if name == "acdc":
        spacings = np.array([r["spacing_mm"] for r in manifest.rows()])
        assert spacings[:, 0].min() >= 5
        assert spacings[:, 2].max() < 2
        assert {tuple(r["label_values"]) for r in manifest.rows()} <= {(0, 1, 2, 3), (0, 2, 3), (0, 1, 3)}
    if name == "hippocampus":
        assert manifest.classes == {0: "background", 1: "Anterior", 2: "Posterior"}
