"""A killed index goes on where it stopped, and shards make the manifest that one process makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import medssl
from medssl.formats.nifti import write_nifti
from medssl.manifest.build import build_manifest
from medssl.manifest.index_journal import IndexJournal
from medssl.manifest.schema import read_manifest
from medssl.phantoms import write_cohort

RECIPE = {"depth": "full"}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    write_cohort(tmp_path / "scans", subjects=7, shape=(12, 16, 16))
    (tmp_path / "scans" / "imagesTr" / "broken.nii.gz").write_bytes(b"\x1f\x8b no scan")
    return tmp_path / "scans"


def stopped_after(count: int):
    def progress(done: int, total: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return progress


def test_a_killed_index_reads_no_scan_twice(scans, tmp_path):
    """After 20 of 26 scans nothing had been kept."""
    out = tmp_path / "m.parquet"
    whole, _ = build_manifest(scans, workers=1)
    with pytest.raises(KeyboardInterrupt):
        build_manifest(scans, workers=1, journal=IndexJournal(out, recipe=RECIPE), progress=stopped_after(5))
    again, counts = build_manifest(scans, workers=1, journal=IndexJournal(out, recipe=RECIPE))
    assert (counts.read, counts.reused) == (3, 5)
    assert list(again.rows()) == list(whole.rows())


def test_a_line_that_was_not_finished_costs_that_scan_alone(scans, tmp_path):
    out = tmp_path / "m.parquet"
    with pytest.raises(KeyboardInterrupt):
        build_manifest(scans, workers=1, journal=IndexJournal(out, recipe=RECIPE), progress=stopped_after(5))
    (file,) = tmp_path.glob(".m.parquet.read-*")
    assert file.stat().st_mode & 0o077 == 0  # it holds paths
    file.write_bytes(file.read_bytes()[:-40])
    assert build_manifest(scans, workers=1, journal=IndexJournal(out, recipe=RECIPE))[1].reused == 4


@pytest.mark.parametrize("how", ["touched", "other recipe", "fresh"])
def test_what_changed_since_is_read_again(scans, tmp_path, how):
    out = tmp_path / "m.parquet"
    build_manifest(scans, workers=1, journal=IndexJournal(out, recipe=RECIPE))
    if how == "touched":
        changed = sorted((scans / "imagesTr").glob("case*.nii.gz"))[2]
        again = changed.read_bytes()
        changed.unlink()
        changed.write_bytes(again)
        os.utime(changed, ns=(1, 1))
    recipe = {"depth": "header"} if how == "other recipe" else RECIPE
    journal = IndexJournal(out, recipe=recipe, fresh=how == "fresh")
    read = build_manifest(scans, workers=1, journal=journal)[1].read
    assert read == (1 if how == "touched" else 8)


def test_shards_make_the_manifest_of_one_process(scans, tmp_path):
    options = {"workers": 1, "privacy": "names"}
    one = medssl.index(scans, out=tmp_path / "one.parquet", **options)
    for part in ("2/3", "1/3"):
        waiting = medssl.index(scans, out=tmp_path / "parts.parquet", shard=part, **options)
        assert not waiting.written
        assert not len(waiting.manifest)
    last = medssl.index(scans, out=tmp_path / "parts.parquet", shard="3/3", **options)
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert len(last.manifest) == len(one.manifest) == 8
    assert not list(tmp_path.glob(".parts*"))
    rows = {row["id"]: row["error"] for row in read_manifest(tmp_path / "parts.parquet").rows()}
    assert sum(error is not None for error in rows.values()) == 1


def test_a_scan_that_went_is_no_reason_to_wait(scans, tmp_path):
    out = tmp_path / "m.parquet"
    table = tmp_path / "list.csv"
    names = sorted((scans / "imagesTr").glob("case*.nii.gz"))[:3]
    table.write_text("path\n" + "\n".join(map(str, [*names, tmp_path / "gone.nii.gz"])) + "\n")
    for part in range(2):
        journal = IndexJournal(out, (part, 2), recipe=RECIPE)
        manifest, counts = build_manifest(table, workers=1, journal=journal)
    assert (len(manifest), counts.waiting) == (4, 0)


def test_labels_found_by_their_voxels_are_kept_too(tmp_path):
    """A label beside its scan makes another source of it, which is read under its own key."""
    import numpy as np

    affine = np.diag([2.0, 2, 3, 1])
    generator = np.random.default_rng(0)
    for number in range(3):
        values = generator.integers(-900, 900, (8, 9, 10)).astype(np.int16)
        write_nifti(tmp_path / "scans" / f"p{number}" / "ct.nii.gz", values, affine)
        write_nifti(tmp_path / "scans" / f"p{number}" / "organs.nii.gz", (values > 0).astype(np.uint8), affine)
    journal = IndexJournal(tmp_path / "m.parquet", recipe=RECIPE)
    plain, _ = build_manifest(tmp_path / "scans", workers=1)
    kept, _ = build_manifest(tmp_path / "scans", workers=1, journal=journal)
    again, counts = build_manifest(
        tmp_path / "scans", workers=1, journal=IndexJournal(tmp_path / "m.parquet", recipe=RECIPE)
    )
    assert counts.read == 0
    assert list(plain.rows()) == list(kept.rows()) == list(again.rows())
