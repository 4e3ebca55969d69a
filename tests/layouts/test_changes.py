"""What changed since the last index, whatever size and time of change say."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import SimpleITK as sitk

import medssl
from medssl.manifest import freshness
from medssl.manifest.schema import manifest_of_rows, read_manifest, write_manifest
from medssl.store.read import Store
from tests.layouts.tree import by_name, index, label, voxels, write


def swapped(path: Path, values: np.ndarray) -> None:
    """Put other voxels into a file as ``cp -p`` would: its size and time of change stay."""
    before = path.stat()
    write(other := path.parent.parent / f"other-{path.name}", values)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def tree(folder: Path) -> None:
    for seed in range(3):
        write(folder / f"p{seed}.nii", voxels(seed))
        write(folder / f"p{seed}_seg.nii", label(seed))


def test_other_content_of_the_same_size_and_time_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path / "scans")
    before = by_name(index(tmp_path / "scans", "modality=MR"))
    swapped(tmp_path / "scans" / "p1.nii", voxels(9))
    swapped(tmp_path / "scans" / "p2_seg.nii", label(7))
    capsys.readouterr()
    after = by_name(index(tmp_path / "scans", "modality=MR"))
    said = "".join(capsys.readouterr())
    assert "2 scans were read, 1 had not changed" in said
    assert "p1.nii: the scan holds other bytes, though its size and time of change are the same" in said
    assert "p2_seg.nii: the label holds other bytes" in said
    assert after["p0.nii"] == before["p0.nii"]
    assert after["p1.nii"]["p50"] == pytest.approx(float(np.median(voxels(9))))
    assert after["p2.nii"]["label_voxels"] == np.bincount(label(7).ravel()).tolist()


@pytest.mark.usefixtures("in_this_process")
def test_a_touched_file_is_hashed_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "scans")
    before = by_name(index(tmp_path / "scans", "modality=MR"))
    (tmp_path / "scans" / "p0.nii").chmod(0o600)
    os.utime(tmp_path / "scans" / "p1.nii", ns=(1, 10**18))
    monkeypatch.setattr("medssl.manifest.describe.read", lambda *_, **__: pytest.fail("it was read"))
    after = by_name(index(tmp_path / "scans", "modality=MR"))
    assert after["p1.nii"]["mtime_ns"] == 10**18
    assert {name: row["content_hash"] for name, row in after.items()} == {
        name: row["content_hash"] for name, row in before.items()
    }
    hashes: list[object] = []
    monkeypatch.setattr(freshness, "file_hash", lambda paths: hashes.append(list(paths)))
    assert by_name(index(tmp_path / "scans", "modality=MR")) == after
    assert not hashes


def test_an_index_of_an_earlier_release_is_trusted_aloud_and_verified_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path / "scans")
    manifest = index(tmp_path / "scans", "modality=MR")
    late = ("ctime_ns", "inode", "label_ctime_ns", "label_inode")
    old = manifest.frame.with_columns(pl.lit(None, dtype=manifest.frame[name].dtype).alias(name) for name in late)
    write_manifest(manifest.with_frame(old), tmp_path / "found.parquet")
    swapped(tmp_path / "scans" / "p1.nii", voxels(9))
    capsys.readouterr()
    trusted = by_name(index(tmp_path / "scans", "modality=MR"))
    assert "3 of them were kept by size and time alone" in "".join(capsys.readouterr())
    assert trusted["p1.nii"]["p50"] == pytest.approx(float(np.median(voxels(1))))
    verified = by_name(index(tmp_path / "scans", "modality=MR", "verify=true"))
    assert "p1.nii: the scan holds other bytes" in "".join(capsys.readouterr())
    assert verified["p1.nii"]["p50"] == pytest.approx(float(np.median(voxels(9))))
    assert all(row["inode"] is not None for row in verified.values())


def test_a_store_reads_again_what_was_swapped(tmp_path: Path) -> None:
    tree(tmp_path / "scans")
    index(tmp_path / "scans", "modality=MR")
    medssl.cache(tmp_path / "found.parquet", out=tmp_path / "store", overrides=["workers=1"])
    swapped(tmp_path / "scans" / "p1.nii", voxels(9))
    assert "touched" in [f.kind for f in medssl.check(tmp_path / "found.parquet", out=tmp_path).findings]
    medssl.cache(tmp_path / "found.parquet", out=tmp_path / "store", overrides=["workers=1"])
    store = Store.open(tmp_path / "store")
    (number,) = [n for n, entry in enumerate(store.entries) if entry.id == "p1"]
    entry = store.entries[number]
    found = store.values(number).astype(np.float64) * entry.slope + entry.intercept
    inside = np.abs(voxels(9) - 300.0) < 150.0
    np.testing.assert_allclose(found[inside], voxels(9)[inside], atol=0.1)


def test_a_moved_tree_is_read_anew(tmp_path: Path) -> None:
    tree(tmp_path / "scans")
    index(tmp_path / "scans", "modality=MR")
    (tmp_path / "scans").rename(tmp_path / "moved")
    swapped(tmp_path / "moved" / "p1.nii", voxels(9))
    rows = by_name(index(tmp_path / "moved", "modality=MR"))
    assert rows["p1.nii"]["p50"] == pytest.approx(float(np.median(voxels(9))))
    assert len(read_manifest(tmp_path / "found.parquet")) == 3


def test_a_header_without_its_data_in_an_earlier_index_is_read_anew(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(voxels(0)), str(tmp_path / "scans.mhd"))
    (tmp_path / "scans").mkdir()
    for name in ("scans.mhd", "scans.raw"):
        (tmp_path / name).rename(tmp_path / "scans" / name)
    manifest = index(tmp_path / "scans", "modality=MR")
    (row,) = manifest.rows()
    header = (tmp_path / "scans" / "scans.mhd").stat()
    old = row | {"paths": [row["path"]], "size_bytes": header.st_size, "mtime_ns": header.st_mtime_ns, "file_hash": "x"}
    old |= {"ctime_ns": None, "inode": None, "p50": -1.0}
    write_manifest(manifest_of_rows([old], root=manifest.root, settings=manifest.settings), tmp_path / "found.parquet")
    (again,) = index(tmp_path / "scans", "modality=MR").rows()
    assert len(again["paths"]) == 2
    assert again["p50"] == row["p50"]
