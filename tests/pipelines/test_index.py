"""``medssl index`` from outside: what it writes, what it says, and that it is safe to run again."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import medssl
from medssl.errors import ConfigError, DataError, ManifestError
from medssl.formats.nifti import write_nifti
from medssl.manifest.schema import read_manifest
from pipelines import console
from pipelines.cli import app


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for n in range(5):
        values = np.random.default_rng(n).integers(0, 300, (8, 9, 10)).astype(np.int16)
        write_nifti(folder / f"patient{n:03d}.nii.gz", values, np.eye(4))
    (folder / "text.nii.gz").write_text("<html>")
    return folder


def test_it_writes_a_manifest_and_says_what_and_what_next(scans, tmp_path, capsys):
    manifest = medssl.index(scans, out=tmp_path / "m.parquet", modality="MR").manifest
    assert read_manifest(tmp_path / "m.parquet").frame.equals(manifest.frame)
    said = capsys.readouterr()
    assert "5 scans of 5 patients" in said.out
    assert f"wrote {tmp_path / 'm.parquet'}" in said.out
    assert f"next: medssl check {tmp_path / 'm.parquet'}" in said.out
    assert "text.nii.gz" in said.err


def test_running_again_reads_what_is_new(scans, tmp_path, capsys):
    out = tmp_path / "m.csv"
    first = medssl.index(scans, out=out).manifest
    capsys.readouterr()
    write_nifti(scans / "patient009.nii.gz", np.ones((8, 9, 10), np.int16), np.eye(4))
    second = medssl.index(scans, out=out).manifest
    assert "2 scans were read, 5 had not changed" in capsys.readouterr().out  # the new one, and the broken one again
    assert len(second) == len(first) + 1
    medssl.index(scans, out=out, overrides=["fresh=true"])
    assert "had not changed" not in capsys.readouterr().out


def test_another_folder_into_the_same_file_starts_anew(scans, tmp_path):
    out = tmp_path / "m.parquet"
    medssl.index(scans, out=out)
    other = tmp_path / "other"
    other.mkdir()
    write_nifti(other / "x.nii.gz", np.ones((8, 9, 10), np.int16), np.eye(4))
    assert medssl.index(other, out=out).manifest.frame["id"].to_list() == ["x"]


def test_a_dry_run_reads_and_writes_nothing(scans, tmp_path, capsys):
    assert len(medssl.index(scans, out=tmp_path / "m.parquet", dry_run=True).manifest) == 0
    assert "6 files to read" in capsys.readouterr().out
    assert not (tmp_path / "m.parquet").exists()


def test_json_has_the_counts(scans, tmp_path, capsys):
    with console.speaking(console.Manner(as_json=True)):
        medssl.index(scans, out=tmp_path / "m.parquet")
    said = json.loads(capsys.readouterr().out)
    assert (said["scans"], said["unreadable"], said["read"], said["reused"]) == (5, 1, 6, 0)
    assert said["written"] == [str(tmp_path / "m.parquet")]


def test_what_is_no_manifest_is_never_written_over(scans, tmp_path):
    out = tmp_path / "mine.csv"
    out.write_text("name,score\na,1\n")
    with pytest.raises(ManifestError, match="needs the column"):
        medssl.index(scans, out=out, fresh=True)
    assert out.read_text() == "name,score\na,1\n"


def test_mistakes_are_named(scans, tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        medssl.index(tmp_path / "none", out=tmp_path / "m.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no scan was found"):
        medssl.index(tmp_path / "empty", out=tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match="modalty"):
        medssl.index(scans, out=tmp_path / "m.parquet", overrides=["modalty=MR"])
    with pytest.raises(ManifestError, match="a .parquet or a .csv".replace(".", r"\.")):
        medssl.index(scans, out=tmp_path / "m.json")
    assert not (tmp_path / "m.parquet").exists()


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("name", ["m", "m.json", "folder.parquet"])
def test_a_wrong_name_for_the_manifest_is_refused_before_a_scan_is_read(scans, tmp_path, monkeypatch, name, dry_run):
    (tmp_path / "folder.parquet").mkdir()
    monkeypatch.setattr("medssl.manifest.build.build_manifest", lambda *_, **__: pytest.fail("scans were read"))
    with pytest.raises(ManifestError, match=f"{name}: a manifest is a"):
        medssl.index(scans, out=tmp_path / name, dry_run=dry_run)


@pytest.mark.parametrize("given", ["option", "path", "setting"])
def test_a_table_of_targets_is_named_by_an_option_a_path_or_a_setting(scans, tmp_path, given):
    table, out = tmp_path / "a table.csv", tmp_path / "m.parquet"
    table.write_text("scan,grade\n" + "".join(f"patient{n:03d},{'high' if n % 2 else 'low'}\n" for n in range(5)))
    if given == "option":
        done = CliRunner().invoke(app, ["index", str(scans), "--out", str(out), "--targets", str(table)])
        assert done.exit_code == 0, done.output
    elif given == "path":
        medssl.index(scans, out=out, targets=table)
    else:
        medssl.index(scans, out=out, overrides=[f"targets={table}"])
    assert set(read_manifest(out).targets()["grade"]) == {"high", "low"}
