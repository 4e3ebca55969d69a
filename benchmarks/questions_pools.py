"""Pools of docs/questions.md (d) and (g): two data sets together; scans among slabs and repeated exports of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl

SLABS = 4  # each of two fifths of a scan, a fifth apart


def together(manifests: Sequence[Path]) -> pl.DataFrame:
    """Return the training rows of several manifests, without what else they hold."""
    return pl.concat(
        [pl.read_parquet(file).filter(pl.col("split") == "train") for file in manifests], how="diagonal_relaxed"
    )


def copies_of(path: Path, folder: Path) -> list[Path]:
    """Write overlapping slabs of a scan and two further exports of it; return their files."""
    image = nib.load(path)
    values, name = np.asarray(image.dataobj, dtype=np.float32), path.name.split(".")[0]
    along = int(np.argmin(values.shape))  # across slices, of which there are fewest
    depth, found = values.shape[along], []
    for slab in range(SLABS):
        first, last = round(depth * slab / 5), round(depth * (slab + 2) / 5)
        cut = [slice(None)] * 3
        cut[along] = slice(first, last)
        part = image.slicer[tuple(cut)]
        nib.save(nib.Nifti1Image(values[tuple(cut)], part.affine), folder / f"{name}-slab{slab}.nii.gz")
        found.append(folder / f"{name}-slab{slab}.nii.gz")
    turned = nib.as_closest_canonical(nib.Nifti1Image(values[::-1], image.affine @ _flipped(values.shape[0])))
    for ending, export in (
        ("scaled", nib.Nifti1Image(values * 2.5 + 10, image.affine)),
        ("turned", turned),
    ):
        nib.save(export, folder / f"{name}-{ending}.nii.gz")
        found.append(folder / f"{name}-{ending}.nii.gz")
    return found


def _flipped(length: int) -> np.ndarray:
    """Return the affine of voxels counted from the other end of the first axis."""
    turn = np.diag([-1.0, 1, 1, 1])
    turn[0, 3] = length - 1
    return turn


def mixed(manifest: Path, folder: Path, share: int = 3) -> Path:
    """Write a table of files for ``index``: a manifest's, and of every third training patient copies beside; its path.

    Copies are of the training split and of their scan's patient, without labels.
    """
    rows = pl.read_parquet(manifest).sort("id")
    folder.mkdir(parents=True, exist_ok=True)
    files = rows.select("path", pl.col("label_path").alias("label"), "patient", "split", "modality")
    chosen = rows.filter(pl.col("split") == "train")
    added = [
        {"path": str(copy), "label": None, "patient": row["patient"], "split": "train", "modality": "MR"}
        for row in chosen.gather_every(share).iter_rows(named=True)
        for copy in copies_of(Path(row["path"]), folder)
    ]
    table = folder.parent / "mixed.csv"
    pl.concat([files, pl.DataFrame(added, schema=files.schema)]).write_csv(table)
    return table
