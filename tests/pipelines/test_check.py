"""``medssl check`` from outside: a page, its JSON, and whether there are errors."""

import json
import re

import numpy as np
import pytest

import medssl
from medssl.errors import ConfigError, ManifestError
from medssl.formats.nifti import write_nifti


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
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["manifest-check.html", "manifest-check.json"]


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
