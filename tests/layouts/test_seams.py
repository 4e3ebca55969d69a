"""What lies between the rooms: facts that one verb writes and another one reads."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medssl
from medssl.errors import DataError
from medssl.manifest.schema import read_manifest
from tests.layouts.tree import index, label, voxels, write


def test_copies_of_scans_of_several_files_are_looked_for(tmp_path: Path) -> None:
    """The hash that the index keeps of a header and its data is the one that reduce compares."""
    values = np.transpose(voxels(1, (16, 20, 18)))
    for n in (1, 2):
        (tmp_path / "d" / f"p{n}").mkdir(parents=True)
        nib.save(nib.Nifti1Pair(values + n, np.diag([1.0, 1.5, 3.0, 1.0])), tmp_path / "d" / f"p{n}" / "scan.hdr")
    manifest = index(tmp_path / "d", "modality=MR")
    assert [len(row["paths"]) for row in manifest.rows()] == [2, 2]
    found = medssl.reduce(tmp_path / "found.parquet", out=tmp_path / "kept.parquet", overrides=["planted=0"])
    assert found.manifest is not None
    assert len(found.manifest) == 2


def test_test_images_without_labels_take_no_share_from_the_labelled(tmp_path: Path) -> None:
    for n in range(10):
        write(tmp_path / "d" / "imagesTr" / f"case_{n:03}_0000.nii.gz", voxels(n))
        write(tmp_path / "d" / "labelsTr" / f"case_{n:03}.nii.gz", label(n))
    for n in range(10, 16):
        write(tmp_path / "d" / "imagesTs" / f"case_{n:03}_0000.nii.gz", voxels(n))
    rows = list(index(tmp_path / "d", "modality=MR").rows())
    assert {row["split"] for row in rows if "imagesTs" in row["path"]} == {"test"}
    drawn = [row["split"] for row in rows if row["label_path"]]
    assert (drawn.count("test"), drawn.count("val"), drawn.count("train")) == (2, 1, 7)


@pytest.mark.parametrize("size", [1e-7, 5000.0])
def test_a_voxel_size_that_cannot_be_true_is_not_stored(tmp_path: Path, size: float) -> None:
    write(tmp_path / "d" / "good.nii.gz", voxels(1))
    write(tmp_path / "d" / "odd.nii.gz", voxels(2), (size, 1.0, 1.0))
    index(tmp_path / "d", "modality=MR")
    store = medssl.cache(tmp_path / "found.parquet", out=tmp_path / "store").store
    assert [entry.id for entry in store.entries] == ["good"]
    assert store.failed["odd"].startswith("bad-geometry")
    assert "allowed is 0.001 to 1000" in store.failed["odd"]


def test_after_errors_check_names_the_list_that_was_indexed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "d" / "a.nii.gz", voxels(1))
    listed = tmp_path / "list.csv"
    listed.write_text("path,patient\nd/a.nii.gz,p1\nd/gone.nii.gz,p2\n")
    medssl.index(listed, out=tmp_path / "m.parquet")
    capsys.readouterr()
    medssl.check(tmp_path / "m.parquet", out=tmp_path / "check.html")
    assert f"next: medssl index {listed} --out {tmp_path / 'm.parquet'}" in capsys.readouterr().out
    assert json.loads(json.dumps(read_manifest(tmp_path / "m.parquet").settings["listed"])) == str(listed)


def test_a_number_that_begins_like_its_folder_keeps_the_folder_in_its_id(tmp_path: Path) -> None:
    for folder in ("00", "01"):
        write(tmp_path / "d" / folder / "000000.nii.gz", voxels(int(folder)))
    write(tmp_path / "d" / "p1" / "p1_t1.nii.gz", voxels(7))
    assert sorted(row["id"] for row in index(tmp_path / "d", "modality=MR").rows()) == [
        "00-000000",
        "01-000000",
        "p1_t1",
    ]


def test_nothing_to_store_says_why(tmp_path: Path) -> None:
    write(tmp_path / "d" / "odd.nii.gz", voxels(2), (5000.0, 1.0, 1.0))
    index(tmp_path / "d", "modality=MR")
    with pytest.raises(DataError, match="none of the 1 scans could be stored"):
        medssl.cache(tmp_path / "found.parquet", out=tmp_path / "store")


def test_a_ct_without_bone_that_was_moved_up_is_not_taken_for_hu(tmp_path: Path) -> None:
    """Soft tissue in air, from 0: neither its median, which is air, nor its greatest value gives it away."""
    for n, offset in enumerate((0, 0, 1024)):
        values = np.full((12, 20, 20), -1000.0) + np.random.default_rng(n).integers(0, 12, (12, 20, 20))
        values[3:9, 6:14, 6:14] = np.random.default_rng(n).integers(-80, 90, (6, 8, 8))
        write(tmp_path / "d" / f"p{n}" / "ct.nii.gz", (values + offset).astype(np.int16))
    manifest = index(tmp_path / "d", "modality=CT")
    assert [row["units"] for row in manifest.rows()] == ["HU", "HU", "arbitrary"]
    with pytest.raises(DataError, match=r"several scales: 2 in HU .* 1 on the scale 'offset above zero' \(p2/ct"):
        medssl.cache(tmp_path / "found.parquet", out=tmp_path / "store")
