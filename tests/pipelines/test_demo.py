"""``medssl demo``: which data it takes, what it says of them, and that it ends with a comparison and a report."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.chains.auto_chain import AutoResult
from medssl.chains.demo import demo
from medssl.errors import ConfigError
from medssl.formats.nifti import write_nifti
from medssl.manifest.schema import read_manifest
from pipelines.cli import app

QUICK = ["subjects=8", "unlabelled=2", "dicom=2", "size=24", "pretrain_steps=4", "finetune_steps=2", "cases=0",
         "clouds=0"]  # fmt: skip


@pytest.fixture
def decathlon(tmp_path):
    """Return a folder that holds a small data set in the decathlon's layout."""
    home = tmp_path / "sets" / "hippocampus"
    listed = []
    for n in range(9):
        values = np.random.default_rng(n).normal(300, 60, (16, 20, 16)).astype(np.float32)
        labels = np.zeros(values.shape, np.uint8)
        labels[4:10, 5:12, 4:9] = 1
        values[labels == 1] += 400
        for kind, array in (("imagesTr", values), ("labelsTr", labels)):
            write_nifti(home / kind / f"hippocampus_{n:03d}.nii.gz", array, np.eye(4))
        name = f"hippocampus_{n:03d}.nii.gz"
        listed.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    described = {"name": "H", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "anterior"},
                 "numTraining": 9, "numTest": 0, "training": listed, "test": []}  # fmt: skip
    (home / "dataset.json").write_text(json.dumps(described))
    return home.parent


@pytest.fixture(autouse=True)
def no_real_data(monkeypatch):
    monkeypatch.delenv("MEDSSL_DATA", raising=False)


def stages_stop(monkeypatch):
    """Let the demo prepare its scans, and stop where the chain would begin; return what it would be given."""
    given = {}

    def record(scans, **options):
        given.update(options, scans=scans)
        return AutoResult(folder=options["out"], decisions=())

    monkeypatch.setattr("medssl.chains.demo.auto", record)
    return given


def test_made_up_patients_are_used_and_called_so(tmp_path, monkeypatch, capsys):
    given = stages_stop(monkeypatch)
    demo(out=tmp_path / "d", overrides=QUICK)
    said = capsys.readouterr().out
    assert "You named no real data" in said
    assert "8 torsos as MR" in said
    assert given["labels"] == 2
    assert given["method"] == "voco"
    assert len(list((tmp_path / "d/scans/dicom").glob("*/*.dcm"))) == 2 * 24
    manifest = CliRunner().invoke(
        app, ["index", str(given["scans"]), "--out", str(tmp_path / "m.parquet"), "workers=1"]
    )
    assert manifest.exit_code == 0
    rows = list(read_manifest(tmp_path / "m.parquet").rows())
    assert len(rows) == 8
    assert sum(row["label_path"] is not None for row in rows) == 6
    assert not [row["error"] for row in rows if row["error"]]
    assert sum(row["format"].lower() == "dicom" and row["label_path"] is not None for row in rows) == 2


def test_a_second_call_leaves_the_scans_as_they_are(tmp_path, monkeypatch):
    stages_stop(monkeypatch)
    demo(out=tmp_path / "d", overrides=QUICK)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d/scans").rglob("*")}
    demo(out=tmp_path / "d", overrides=QUICK)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("by", ["option", "environment", "the set itself"])
def test_real_data_are_used_where_they_are_named(tmp_path, decathlon, monkeypatch, capsys, by):
    given = stages_stop(monkeypatch)
    if by == "environment":
        monkeypatch.setenv("MEDSSL_DATA", str(decathlon))
    named = {"option": decathlon, "environment": None, "the set itself": decathlon / "hippocampus"}[by]
    demo(out=tmp_path / "d", data=named, overrides=["real_scans=7", "cases=0", "clouds=0"])
    assert "The demo uses real data: 7 scans" in capsys.readouterr().out
    images = sorted((given["scans"] / "imagesTr").iterdir())
    assert len(images) == 7
    assert images[0].read_bytes() == (decathlon / "hippocampus/imagesTr" / images[0].name).read_bytes()
    described = json.loads((given["scans"] / "dataset.json").read_text())
    assert described["labels"]["1"] == "anterior"


def test_a_folder_without_the_set_is_refused_by_option_and_told_of_by_environment(tmp_path, monkeypatch, capsys):
    stages_stop(monkeypatch)
    with pytest.raises(ConfigError, match="medssl auto"):
        demo(out=tmp_path / "d", data=tmp_path, overrides=QUICK)
    monkeypatch.setenv("MEDSSL_DATA", str(tmp_path))
    demo(out=tmp_path / "d", overrides=QUICK)
    assert "synthetic patients are used" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    found = demo(out=tmp_path / "d", overrides=QUICK, dry_run=True)
    assert (found.chain, found.written, found.ok) == (None, (), True)
    assert found.next[:2] == ("demo", "--out")
    assert not (tmp_path / "d").exists()
    assert "8 synthetic patients" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_demo_says_what_it_did_and_what_works_next(tmp_path):
    points = ["clouds=6", "cloud_steps=2", "cases=8", "case_steps=2"]
    outcome = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "d"), *QUICK, *points])
    assert outcome.exit_code == 0, outcome.output
    said = outcome.output
    for stage in ("index", "check", "cache", "pretrain", "pretrained", "scratch", "evaluate", "report"):
        assert f"== {stage}: " in said
    assert re.search(
        r"Dice: pretrained 0\.\d+ .*scratch 0\.\d+ [\s\S]*pretraining changed Dice of 9 structures by", said
    )
    assert f"wrote {tmp_path / 'd/report.html'}" in said
    page = (tmp_path / "d/report.html").read_text(encoding="utf-8")
    assert "scratch" in page
    assert "== channels: 8 synthetic heads in t1, t1ce, t2, flair" in said
    assert "all-four" in (tmp_path / "d/channels/report.html").read_text(encoding="utf-8")
    assert "120 synthetic shapes of 20 classes" in said
    assert "right after pretraining" in said
    assert f"wrote {tmp_path / 'd/points/report.html'}" in said
    assert "Frozen encoders" in (tmp_path / "d/points/report.html").read_text(encoding="utf-8")
    last = said.strip().splitlines()[-1]
    assert last.startswith("next: medssl ")
    following = CliRunner().invoke(app, shlex.split(last.removeprefix("next: medssl ")))
    assert following.exit_code == 0, following.output
