"""``medssl check`` from outside: a page, its JSON, and whether there are errors."""

import json
import re
import shlex
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import medssl
import medssl.manifest.schema
from medssl.errors import ConfigError, ManifestError
from medssl.formats.nifti import write_nifti
from pipelines.cli import app


@pytest.fixture
def manifest(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for n in range(5):
        values = np.random.default_rng(n).integers(0, 300, (8, 9, 10)).astype(np.int16)
        write_nifti(folder / f"patient{n:03d}.nii.gz", values, np.eye(4))
    medssl.index(folder, out=tmp_path / "m.parquet", modality="MR")
    return tmp_path / "m.parquet"


def test_a_good_cohort_passes(manifest, tmp_path, capsys):
    result = medssl.check(manifest)
    assert result.ok
    said = json.loads((tmp_path / "m-check.json").read_text())
    assert said["ok"] is True
    assert said["counts"]["error"] == 0
    html = (tmp_path / "m-check.html").read_text()
    assert "No errors" in html
    assert html.count("data:image/png;base64,") == 5
    assert (
        f"next: medssl reduce {manifest} --out {tmp_path / f'{manifest.stem}-kept.parquet'}" in capsys.readouterr().out
    )


def test_pictures_and_charts_of_the_page_speak_and_nothing_is_fetched(manifest, tmp_path):
    medssl.check(manifest)
    html = (tmp_path / "m-check.html").read_text()
    assert html.count('<img alt="middle slice of patient') == html.count("<img") == 5
    assert html.count("<svg") == len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]+"', html)) > 0
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html


def test_errors_are_listed_and_written(manifest, tmp_path, capsys):
    (tmp_path / "scans" / "patient001.nii.gz").write_text("<html>")
    medssl.index(tmp_path / "scans", out=manifest)
    result = medssl.check(manifest, out=tmp_path / "deep" / "c.html", pictures=0)
    assert not result.ok
    assert [f.scan for f in result.findings if f.severity == "error"] == ["patient001"]
    said = json.loads((tmp_path / "deep" / "c.json").read_text())
    assert [f["kind"] for f in said["findings"] if f["severity"] == "error"] == ["unreadable"]
    assert "patient001" in (tmp_path / "deep" / "c.html").read_text()
    assert "unreadable" in capsys.readouterr().out


def test_a_manifest_in_memory_and_a_folder_as_out(manifest, tmp_path):
    from medssl.manifest.schema import read_manifest

    assert medssl.check(read_manifest(manifest), out=tmp_path / "there", overrides=["pictures=0"]).ok
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["m-check.html", "m-check.json"]


def test_manifests_of_one_folder_keep_pages_of_their_own(manifest, tmp_path):
    (tmp_path / "other.parquet").write_bytes(manifest.read_bytes())
    medssl.index(tmp_path / "scans", out=tmp_path / "m.csv", modality="MR")
    files = [manifest, tmp_path / "other.parquet", tmp_path / "m.csv"]
    for file in files:
        medssl.check(file, pictures=0)
    names = ("m-check", "other-check", "m.csv-check")
    for file, name in zip(files, names, strict=True):
        assert f"Check of {file.name}" in (tmp_path / f"{name}.html").read_text()
        assert (tmp_path / f"{name}.json").is_file()
    # and a report that is given all of them, and one of the same name from elsewhere, loses none
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "m-check.json").write_bytes((tmp_path / "m-check.json").read_bytes())
    page = medssl.report(*(tmp_path / f"{name}.json" for name in names), tmp_path / "there" / "m-check.json",
                         out=tmp_path / "r.html").path.read_text()  # fmt: skip
    for name in (*(f"{name}.json" for name in names), "there/m-check.json"):
        assert f"Check: {name}" in page


def test_a_dry_run_writes_nothing(manifest, tmp_path):
    assert medssl.check(manifest, dry_run=True).ok
    assert not list(tmp_path.glob("*check*"))


def test_mistakes_are_named(manifest, tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        medssl.check(tmp_path / "none.parquet")
    with pytest.raises(ConfigError, match="Did you mean 'pictures'"):
        medssl.check(manifest, overrides=["picture=3"])


def next_of(text):
    (line,) = [line.removeprefix("next: ") for line in text.splitlines() if line.startswith("next: ")]
    return line


def as_printed(command):
    words = shlex.split(command)
    assert words[0] == "medssl"
    told = CliRunner().invoke(app, words[1:])
    assert told.exit_code == 0, told.output
    return told.output


def scan(path, seed, patient_values=300):
    values = np.random.default_rng(seed).integers(0, patient_values, (8, 9, 10)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, values, np.eye(4))


def test_copies_and_leaks_are_mended_by_reduce_as_printed(tmp_path, capsys):
    folder = tmp_path / "my scans"
    for n in range(6):
        scan(folder / f"patient{n % 5:03d}" / f"visit{n // 5}.nii.gz", seed=n)
    scan(folder / "patient004" / "visit2.nii.gz", seed=1)  # a copy of another patient's
    file = tmp_path / "m.parquet"
    made = medssl.index(folder, out=file, modality="MR").manifest
    torn = pl.Series("split", ["train" if n % 2 else "test" for n in range(len(made))])
    medssl.manifest.schema.write_manifest(replace(made, frame=made.frame.with_columns(torn)), file)
    capsys.readouterr()
    result = medssl.check(file, overrides=["pictures=0"])
    assert "leak" in {f.kind for f in result.findings if f.severity == "error"}
    command = next_of(capsys.readouterr().out)
    assert command.startswith("medssl reduce ")
    as_printed(command)
    assert medssl.check(tmp_path / "m-kept.parquet", overrides=["pictures=0"]).ok
    assert next_of(capsys.readouterr().out) == f"medssl cache {tmp_path / 'm-kept.parquet'} --out stores/m-kept"


def test_a_file_is_mended_by_hand_and_indexed_again_with_what_was_given(manifest, tmp_path, capsys):
    file, pattern = tmp_path / "n.parquet", r"(patient\d+)"
    (tmp_path / "scans" / "patient001.nii.gz").write_text("<html>")
    medssl.index(tmp_path / "scans", out=file, modality="MR", patient_pattern=pattern, test=0.4, seed=3)
    capsys.readouterr()
    medssl.check(file, overrides=["pictures=0"])
    said = capsys.readouterr().out
    assert "fix first: unreadable in patient001. Fix or remove the file." in said
    assert f"or continue without them: medssl reduce {file} --out" in said
    before = medssl.manifest.schema.read_manifest(file)
    scan(tmp_path / "scans" / "patient001.nii.gz", seed=1)
    as_printed(next_of(said))
    after = medssl.manifest.schema.read_manifest(file)
    assert {row["modality"] for row in after.rows()} == {"MR"}
    assert {row["patient_rule"] for row in after.rows()} == {row["patient_rule"] for row in before.rows()}
    assert after.settings["split"] == {"val": 0.1, "test": 0.4, "seed": 3}
    assert after.settings["given"] == before.settings["given"]
    assert medssl.check(file, overrides=["pictures=0"]).ok


def test_a_structure_that_training_lacks_draws_the_split_anew(tmp_path, capsys):
    (tmp_path / "in" / "imagesTr").mkdir(parents=True)
    (tmp_path / "in" / "labelsTr").mkdir()
    file = tmp_path / "m.parquet"
    for n in range(8):
        values = np.random.default_rng(n).integers(0, 300, (8, 9, 10)).astype(np.int16)
        labels = np.zeros_like(values)
        labels[2:5, 2:6, 2:6] = 1
        write_nifti(tmp_path / "in" / "imagesTr" / f"p{n}_0000.nii.gz", values, np.eye(4))
        write_nifti(tmp_path / "in" / "labelsTr" / f"p{n}.nii.gz", labels, np.eye(4))
    names = {"labels": {"background": 0, "left": 1, "right": 2}, "channel_names": {"0": "T2"}}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps(names))
    splits = {row["id"]: row["split"] for row in medssl.index(tmp_path / "in", out=file, modality="MR").manifest.rows()}
    tested = [one.partition("_0000")[0] for one, split in splits.items() if split == "test"]
    assert len(tested) == 2
    labels = np.zeros((8, 9, 10), dtype=np.int16)
    labels[2:5, 2:6, 2:6], labels[6:8, 6:9, 6:9] = 1, 2
    for number in tested:
        write_nifti(tmp_path / "in" / "labelsTr" / f"{number}.nii.gz", labels, np.eye(4))
    medssl.index(tmp_path / "in", out=file, modality="MR")
    capsys.readouterr()
    result = medssl.check(file, overrides=["pictures=0"])
    assert [f.kind for f in result.findings if f.severity != "info"] == ["class-not-in-training"]
    command = next_of(capsys.readouterr().out)
    assert command == f"medssl index {tmp_path / 'in'} --out {file} modality=MR seed=1 fresh=true"
    as_printed(command)
    assert medssl.manifest.schema.read_manifest(file).settings["split"]["seed"] == 1


def test_clouds_that_are_copies_are_reduced(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for n in range(4):
        points = np.random.default_rng(n % 3).normal(size=(100, 3))  # the last is a copy of the first
        np.savetxt(tmp_path / "in" / f"shape{n}.xyz", points)
    file = tmp_path / "m.parquet"
    medssl.index(tmp_path / "in", out=file, unit="mm")
    capsys.readouterr()
    result = medssl.check(file, overrides=["pictures=0"])
    assert "duplicate" in {f.kind for f in result.findings}
    command = next_of(capsys.readouterr().out)
    assert command.split()[:2] == ["medssl", "reduce"]
    as_printed(command)
    assert "duplicate" not in {f.kind for f in medssl.check(tmp_path / "m-kept.parquet").findings}
