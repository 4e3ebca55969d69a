"""Synthetic shapes as files: a folder a class, a NumPy array a cloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.writing import atomic_write
from pointcloud.shapes import CLASSES, shape

__all__ = ["CLASSES", "write_shapes"]


def write_shapes(folder: Path, *, each: int, seed: int, points: int) -> None:
    """Write shapes as ``CLASS/CLASS-000.npy``, (points, 3), those that are not there.

    Args:
        folder: Where to.
        each: How many of each class.
        seed: Names the population.
        points: Of each cloud.
    """
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            path = folder / name / f"{name}-{number:03d}.npy"
            if not path.exists():
                made = shape(name, number, seed=seed, points=points).points
                with atomic_write(path) as aside, aside.open("wb") as file:
                    np.save(file, made, allow_pickle=False)
