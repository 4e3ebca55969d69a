"""A folder with everything that goes wrong in real folders, through the real verbs: each is named, the rest goes on."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medssl.manifest.schema import read_manifest
from medssl.phantoms import write_bad_folder
from medssl.store.read import Store
from medssl.store.verify import verify
from pipelines.cli import app

# Kind of trouble -> a word of the reason that a person would understand.
UNREADABLE = {
    "truncated_gzip": "cut short|truncated|ended",
    "text": "text",
    "zero_length": "empty",
    "empty_dicom": "empty",
}


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Take the folder through index, check and cache, as a person would."""
    home = tmp_path_factory.mktemp("bad")
    kinds = write_bad_folder(home / "Scans of Jörg № 1")
    runner, manifest = CliRunner(), home / "my manifest.parquet"
    steps = {
        "index": ["index", str(home / "Scans of Jörg № 1"), "--out", str(manifest), "workers=1"],
        "check": ["check", str(manifest), "--out", str(home / "check.html"), "privacy=paths"],
        "cache": ["cache", str(manifest), "--out", str(home / "store"), "workers=1", "privacy=paths"],
    }
    outcomes = {verb: runner.invoke(app, words) for verb, words in steps.items()}
    yield home, kinds, outcomes
    kinds["no_permission"].chmod(0o600)  # so that the folder can be cleared away


def rows_at(home: Path, path: Path) -> list[dict]:
    """Return the manifest's rows of a file, or of what lies in a folder."""
    rows = list(read_manifest(home / "my manifest.parquet").rows())
    return [row for row in rows if Path(row["path"]) == path or str(path) in row["paths"]]


def findings_at(home: Path, path: Path) -> list[dict]:
    findings = json.loads((home / "check.json").read_text(encoding="utf-8"))["findings"]
    return [finding for finding in findings if Path(finding["path"]) == path]


def test_every_verb_ends_as_promised(walked):
    _, _, outcomes = walked
    assert {verb: outcome.exit_code for verb, outcome in outcomes.items()} == {"index": 0, "check": 1, "cache": 0}
    assert not [verb for verb, outcome in outcomes.items() if "Traceback" in outcome.output]


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_file_is_named_with_its_reason(walked, kind):
    home, kinds, outcomes = walked
    (row,) = rows_at(home, kinds[kind])
    assert re.search(UNREADABLE[kind], row["error"], re.IGNORECASE), row["error"]
    assert str(kinds[kind]) in outcomes["index"].output
    (finding,) = findings_at(home, kinds[kind])
    assert finding["severity"] == "error"
    assert finding["todo"]
    assert kinds[kind].name in (home / "check.html").read_text(encoding="utf-8")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_named(walked):
    home, kinds, outcomes = walked
    (row,) = rows_at(home, kinds["no_permission"])
    assert "Permission denied" in row["error"]
    assert str(kinds["no_permission"]) in outcomes["index"].output
    assert [finding["severity"] for finding in findings_at(home, kinds["no_permission"])] == ["error"]


def test_a_file_that_may_not_be_opened_is_a_row_with_the_reason(tmp_path, monkeypatch, in_this_process):
    """As above, for root too: opening that one file is refused, as the system refuses it to others."""
    kinds = write_bad_folder(tmp_path / "scans")
    refused, real = kinds["no_permission"], Path.open

    def opened(self, *args, **kwargs):
        if self == refused:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    outcome = CliRunner().invoke(
        app, ["index", str(tmp_path / "scans"), "--out", str(tmp_path / "my manifest.parquet"), "workers=1"]
    )
    refused.chmod(0o600)
    assert outcome.exit_code == 0, outcome.output
    (row,) = rows_at(tmp_path, refused)
    assert "Permission denied" in row["error"]
    assert f"{refused}: {row['error']}" in outcome.output


@pytest.mark.parametrize(
    ("kind", "word"),
    [("nan", "NaN"), ("constant", "every voxel"), ("four_dimensional", "2 volumes"), ("two_slices", "only 2 slices")],
)
def test_index_names_what_can_be_read_but_looks_wrong(walked, kind, word):
    _, kinds, outcomes = walked
    assert re.search(f"{re.escape(str(kinds[kind]))}: .*{word}", outcomes["index"].output)


def test_broken_voxels_are_errors_of_their_scan(walked):
    home, kinds, _ = walked
    for kind, word in (("nan", "NaN or infinite"), ("constant", "every voxel has the value")):
        assert any(word in f["what"] and f["severity"] == "error" for f in findings_at(home, kinds[kind])), kind


def test_a_series_of_two_slices_is_named(walked):
    home, kinds, _ = walked
    (row,) = rows_at(home, kinds["two_slices"])
    assert row["error"] or row["shape"][0] == 2
    assert findings_at(home, kinds["two_slices"])


def test_a_4d_image_is_named_and_its_first_volume_taken(walked):
    home, kinds, _ = walked
    (row,) = rows_at(home, kinds["four_dimensional"])
    assert row["frames"] == 2
    assert row["error"] is None
    assert findings_at(home, kinds["four_dimensional"])
    entry = next(e for e in Store.open(home / "store").entries if e.source_path == str(kinds["four_dimensional"]))
    assert entry.shape == (24, 20, 22)


def test_mixed_series_come_apart_and_the_localiser_is_set_aside(walked):
    home, kinds, _ = walked
    rows = [row for row in rows_at(home, kinds["mixed_series"]) if row["error"] is None]
    assert len(rows) == 2
    assert {tuple(row["shape"]) for row in rows} == {(24, 20, 22)}
    everything = read_manifest(home / "my manifest.parquet").rows()
    aside = [row for row in everything if "set-aside" in row["flags"]]
    assert len(aside) == 1
    assert "scout" in "".join(aside[0]["paths"]) + aside[0]["path"]


def test_copies_are_found(walked):
    home, kinds, _ = walked
    found = [f for kind in ("good", "duplicate") for f in findings_at(home, kinds[kind])]
    assert any("same" in f["what"] or "cop" in f["what"] or "duplicate" in f["kind"] for f in found), found


def test_the_rest_is_stored_and_whole(walked):
    home, kinds, _ = walked
    store = Store.open(home / "store")
    assert verify(store) == []
    stored = {Path(entry.source_path) for entry in store.entries}
    assert {kinds["good"], kinds["accented"], kinds["mixed_series"], kinds["four_dimensional"]} <= stored
    assert not stored & {kinds[kind] for kind in UNREADABLE}
    values = store.values([entry.source_path for entry in store.entries].index(str(kinds["accented"])))
    assert values.std() > 100  # a CT with air and bone


def test_no_name_of_a_patient_is_kept(walked):
    home, _, _ = walked
    for row in read_manifest(home / "my manifest.parquet").rows():
        assert "PatientName" not in (row["fields"] or "")
