import json

import numpy as np
import pytest

from medssl.errors import ConfigError, ManifestError
from medssl.formats.nifti import write_nifti
from medssl.formats.privacy import hashed
from medssl.manifest.importers import info_cfg_targets
from medssl.manifest.schema import read_manifest
from medssl.manifest.targets import add_targets, targets_of
from medssl.store.read import Store
from medssl.workflows.cache import cache
from medssl.workflows.index import index


def rows(*patients):
    return [
        {"id": f"scan-{n}", "path": f"/data/scan-{n}.nii.gz", "patient": patient, "error": None, "targets": None}
        for n, patient in enumerate(patients)
    ]


def table(folder, text):
    path = folder / "data.csv"
    path.write_text(text)
    return path


def test_targets_are_matched_by_patient_in_any_spelling(tmp_path):
    scans = rows("TCGA-CS-4941", "TCGA-CS-4941", hashed("4711"), "case_7", "case_9")
    path = table(
        tmp_path, "Patient,grade,age\nTCGA_CS_4941_20010101,2,51.5\n4711,3,60.25\nCASE_7,2,44.1\nnobody,3,1.5\n"
    )
    report = add_targets(scans, path)
    assert [targets_of(row) for row in scans] == [{"grade": "2"}, {"grade": "2"}, {"grade": "3"}, {"grade": "2"}, {}]
    assert (report.key, report.by, report.matched) == ("Patient", "patient", 4)
    assert report.taken == {"grade": {"2": 2, "3": 1}}
    assert report.bare == ("scan-4",)
    assert report.strangers == (5,)
    assert "age" in report.left_out
    assert "nobody" not in " ".join(report.lines() + report.doubts())


def test_targets_of_single_scans_go_by_id_or_file(tmp_path):
    scans = rows("a", "a", "b")
    add_targets(scans, table(tmp_path, "file;phase\nscan-0.nii.gz;ED\nscan-1;ES\nscan-2;ED\n"))
    assert [targets_of(row).get("phase") for row in scans] == ["ED", "ES", "ED"]


def test_what_names_a_person_never_gets_in(tmp_path):
    scans = rows("p1", "p2", "p3", "p4")
    text = (
        "id,PatientName,birth_date,seen,ward,sex,remarks\n"
        "p1,Doe,1960-01-01,20200101,A,f,x\np2,Roe,1961-01-01,20200102,A,m,x\n"
        "p3,Doe,1960-01-01,20200101,A,f,y\np4,Roe,1961-01-01,20200102,A,m,y\n"
    )
    path = table(tmp_path, text)
    report = add_targets(scans, path)
    assert set(report.taken) == {"sex"}
    said = json.dumps([row["targets"] for row in scans]) + " ".join(report.lines() + report.doubts())
    assert not any(word in said for word in ("Doe", "Roe", "1960", "2020"))
    with pytest.raises(ConfigError, match="may name or date a person"):
        add_targets(scans, path, columns={"who": "PatientName"})


def test_two_answers_for_one_patient_are_none(tmp_path):
    scans = rows("p1", "p2", "p3")
    report = add_targets(scans, table(tmp_path, "id,grade\np1,2\np1,3\np2,2\np3,3\n"))
    assert report.conflicts == {"grade": 1}
    assert targets_of(scans[0]) == {}
    assert "p1" not in " ".join(report.doubts())


def test_a_table_that_says_nothing_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="no column names a scan or a patient"):
        add_targets(rows("a"), table(tmp_path, "who,grade\nx,1\ny,2\n"))
    with pytest.raises(ManifestError, match="no column holds classes"):
        add_targets(rows("a", "b"), table(tmp_path, "who,grade\na,1\nb,1\n"))
    with pytest.raises(ManifestError, match="first line of column names"):
        add_targets(rows("a"), table(tmp_path, "who\na\n"))
    with pytest.raises(ConfigError, match="Did you mean 'grade'"):
        add_targets(rows("a", "b"), table(tmp_path, "who,grade\na,1\nb,2\n"), columns={"grade": "grad"})


def test_info_cfg_of_acdc(tmp_path):
    path = tmp_path / "Info.cfg"
    path.write_text("ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nWeight: 95.0\n")
    assert info_cfg_targets(path) == {"diagnosis": "DCM"}
    path.write_text("Height: 184.0\n")
    assert info_cfg_targets(path) == {}


def test_from_folder_to_store(tmp_path):
    """A cohort as ACDC lays it out, and a table beside it; the store's entries carry both, and follow the manifest."""
    rng = np.random.default_rng(0)
    for number in range(1, 7):
        folder = tmp_path / "scans" / f"patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text(f"Group: {'DCM' if number % 2 else 'NOR'}\nWeight: 9{number}\n")
        values = rng.integers(0, 900, (6, 8, 8)).astype(np.int16)
        write_nifti(folder / f"patient{number:03d}_frame01.nii.gz", values, np.eye(4))
    lines = "\n".join(f"patient{n:03d},{n % 3}" for n in range(1, 7))
    path = table(tmp_path, f"patient,grade\n{lines}\n")
    out, store = tmp_path / "m.parquet", tmp_path / "store"
    index(tmp_path / "scans", out=out, targets=str(path), modality="MR")
    first = read_manifest(out)
    assert first.targets() == {"diagnosis": {"DCM": 3, "NOR": 3}, "grade": {"0": 2, "1": 2, "2": 2}}
    cache(out, out=store)
    entry = Store.open(store).entries[0]
    assert entry.targets == (("diagnosis", "DCM"), ("grade", "1"))
    assert entry.target("diagnosis") == "DCM"
    assert entry.target("other") is None
    # without the table, what it said stays; with another, the store follows and no scan is stored again
    index(tmp_path / "scans", out=out, modality="MR")
    assert read_manifest(out).targets() == first.targets()
    path.write_text(f"patient,grade\n{lines.replace(',1', ',2')}\n")
    index(tmp_path / "scans", out=out, targets=str(path), modality="MR")
    files = [e.file for e in Store.open(store).entries]
    cache(out, out=store)
    again = Store.open(store)
    assert again.entries[0].target("grade") == "2"
    assert [e.file for e in again.entries] == files
