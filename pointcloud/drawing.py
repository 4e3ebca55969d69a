"""Clouds of files as pictures, for pages that do not know how clouds are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.cloud_picture import cloud_picture
from medssl.pool import isolated
from pointcloud.formats.reading import read

__all__ = ["draw_cloud"]


def draw_cloud(path: Path, item: int) -> npt.NDArray[np.uint8]:
    """Return a picture of one cloud of a file, uint8 (192, 192, 3).

    Args:
        path: The file.
        item: Which of its clouds.
    """
    return isolated(_drawn, path, item)


def _drawn(path: Path, item: int) -> npt.NDArray[np.uint8]:
    return cloud_picture(read(path, item=item).points)
