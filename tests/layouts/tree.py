"""Small trees of scans and labels on disk, written with the field's own libraries and not with medssl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import medssl
from medssl.manifest.schema import Manifest, read_manifest

SPACING_ZYX = (3.0, 1.5, 1.0)


def voxels(seed: int, shape: tuple[int, int, int] = (8, 12, 10)) -> np.ndarray:
    """Return values (z, y, x) that no other seed has, without noise of a label map."""
    return np.random.default_rng(seed).normal(300.0, 90.0, shape).astype(np.float32)


def label(seed: int, shape: tuple[int, int, int] = (8, 12, 10)) -> np.ndarray:
    """Return a label map (z, y, x) with a box of 1 and one of 2, at places that the seed decides."""
    values = np.zeros(shape, np.uint8)
    z, y, x = 1 + seed % 3, 2 + seed % 4, 2 + seed % 5
    values[z : z + 3, y : y + 4, x : x + 3] = 1
    values[z + 3, y : y + 2, x : x + 2] = 2
    return values


def write(path: Path, values: np.ndarray, spacing_zyx: tuple[float, float, float] = SPACING_ZYX) -> Path:
    """Write an array (z, y, x) as NIfTI with nibabel, RAS+ and at the origin."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.transpose(values), np.diag([*spacing_zyx[::-1], 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def index(folder: Path, *settings: str, out: str = "found.parquet") -> Manifest:
    """Index a folder as a user would, with settings such as ``"modality=MR"``, and read what was written."""
    place = folder.parent / out
    medssl.index(folder, out=place, overrides=list(settings))
    return read_manifest(place)


def by_name(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return rows by path as seen from the root."""
    root = Path(manifest.root)
    return {Path(row["path"]).relative_to(root).as_posix(): row for row in manifest.rows()}
