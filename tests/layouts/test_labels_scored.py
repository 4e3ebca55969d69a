"""Labels that are no maps, from the tree to scores and figures: contours, segments, pictures, films, ignored values."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest

import medssl
from medssl.manifest.check import check_manifest
from medssl.manifest.schema import read_manifest
from medssl.reporting.cases import Case, draw_case
from medssl.reporting.reading import gather
from medssl.store.read import Store
from tests.layouts.dicom_tree import series
from tests.layouts.dicom_tree import voxels as numbers
from tests.layouts.test_dicom_labels import SHAPE, outlines, truth, write_rtstruct, write_seg
from tests.layouts.tree import index, label, voxels, write


def predict(store: Store, folder: Path, values_zyx: np.ndarray) -> str:
    """Write a map (z, y, x) on the grid of the one scan of a store as its prediction, with nibabel; return its id."""
    (entry,) = store.entries
    folder.mkdir()
    image = nib.Nifti1Image(np.transpose(values_zyx).astype(np.uint8), np.array(entry.source_affine))
    nib.save(image, folder / f"{entry.id}.nii.gz")
    return entry.id


def scored(root: Path, values_zyx: np.ndarray) -> None:
    """Hold that the true values as a prediction have Dice 1 and a figure, by the store and by the manifest."""
    medssl.cache(root / "found.parquet", out=root / "store", overrides=["workers=1"])
    case = predict(Store.open(root / "store"), root / "p", values_zyx)
    for name in ("store", "found.parquet"):
        out = root / f"s-{Path(name).stem}"
        medssl.evaluate(root / "p", data=root / name, out=out)
        table = pl.read_parquet(out / "scores.parquet")
        dice = table.filter(pl.col("metric") == "dice")["value"].to_list()
        assert len(dice) == len(np.unique(values_zyx)) - 1
        assert set(dice) == {1.0}
        planes, why = draw_case(
            Case(case, "only", 1.0), folder=root / "p", run="p", compared=None, material=gather([root / name])
        )
        assert (why, len(planes)) == ("", 3)


@pytest.mark.parametrize("form", ["rtstruct", "seg"])
def test_contours_and_segments_are_scored_and_drawn(tmp_path: Path, form: str) -> None:
    masks = truth()
    sources = series(tmp_path / "d" / "ct", numbers(0, SHAPE))
    if form == "seg":
        write_seg(tmp_path / "d" / "seg.dcm", sources, masks.astype(np.uint8), ["a", "b"])
    else:
        regions = {name: outlines(mask, sources) for name, mask in zip("ab", masks, strict=True)}
        write_rtstruct(tmp_path / "d" / "rt.dcm", sources, regions)
    index(tmp_path / "d")
    scored(tmp_path, masks[0] + 2 * masks[1])


def test_the_frame_of_a_film_is_the_truth(tmp_path: Path) -> None:
    films = {"images": np.stack([voxels(n) for n in range(3)]), "labels": np.stack([label(n) for n in range(3)])}
    for name, film in films.items():
        (tmp_path / "d" / name).mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.transpose(film), np.diag([1.0, 1.5, 3.0, 1.0])), tmp_path / "d" / name / "c.nii.gz")
    index(tmp_path / "d")
    scored(tmp_path, films["labels"][0])


def test_structures_that_only_other_patients_than_those_to_train_on_show_are_told_by_check(tmp_path: Path) -> None:
    rows = ["path,label,split"]
    for number, split in enumerate(("train", "train", "val", "test")):
        values = label(number)
        if split == "test":
            values[6:, 6:, 6:] = 3
        write(tmp_path / "d" / f"c{number}.nii.gz", voxels(number))
        write(tmp_path / "d" / f"c{number}_seg.nii.gz", values)
        rows.append(f"c{number}.nii.gz,c{number}_seg.nii.gz,{split}")
    (tmp_path / "d" / "list.csv").write_text("\n".join(rows) + "\n")
    medssl.index(tmp_path / "d" / "list.csv", out=tmp_path / "m.parquet")

    found = [
        f for f in check_manifest(read_manifest(tmp_path / "m.parquet")).findings if f.kind == "class-not-in-training"
    ]
    (finding,) = found
    assert "structure 3 is marked only in test, such as c3" in finding.what
