"""Sweeps of car LiDARs as bare float32: KITTI's .bin (four columns) and nuScenes' .pcd.bin (five)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.files import contents
from pointcloud.formats.table import format_of

__all__ = ["read"]

_REACH_M = 1e4  # no car's LiDAR measures 10 km; bytes of another kind soon do


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read a sweep: x, y, z in m and the reflectance; nuScenes' ring is not kept.

    The files have no header, so what cannot be true is refused: a size that is no whole number of rows, and
    numbers that no LiDAR measures.

    Raises:
        FormatError: The bytes are no such sweep.
    """
    del item, samples, seed
    raw = contents(path)
    five = format_of(path) == "nuscenes"
    columns = 5 if five else 4
    if len(raw) % (4 * columns):
        hint = " It may be of nuScenes, whose files are called .pcd.bin." if not five and len(raw) % 20 == 0 else ""
        raise FormatError(path, f"{len(raw)} bytes are no whole number of rows of {columns} float32 values.{hint}")
    values = np.frombuffer(raw, "<f4").reshape(-1, columns).astype(np.float32)
    if not five and len(raw) % 20 == 0 and _has_rings(np.frombuffer(raw, "<f4").reshape(-1, 5)):
        raise FormatError(path, "Every fifth value is a small whole number, as in nuScenes. Call the file .pcd.bin.")
    finite = np.isfinite(values).all(axis=1)
    if finite.any() and np.abs(values[finite, :3]).max() > _REACH_M:
        far = float(np.abs(values[finite, :3]).max())
        raise FormatError(path, f"A coordinate is {far:.3g} m, which no LiDAR measures: these are no float32 rows.")
    return make_cloud(values[:, :3], intensity=values[:, 3], unit="m", path=path)


def _has_rings(values: npt.NDArray[np.float32]) -> bool:
    ring = values[:, 4]
    return bool(
        np.isfinite(ring).all() and (ring == np.floor(ring)).all() and ring.min() >= 0 and 1 <= ring.max() <= 255
    )
