"""LAS and LAZ, the surveyors' formats, through laspy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.extras import library
from medssl.refusing import is_panic
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.columns import named
from pointcloud.formats.las_header import LasHeader, check_header

__all__ = ["read"]

_CHUNK = 1_000_000  # points
_COLOURS = ("red", "green", "blue")


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read a LAS or LAZ file in chunks; its whole numbers are scaled in float64 before anything is rounded.

    The labels are an extra dimension that is called so (``label``, ``semantic``, ...), else the classification (2 is
    ground, 6 is building, ...) where any point has one. Extra dimensions are scaled as their record says; those that
    are not read are named. The unit is that of the file's coordinate reference system, which is not looked up: it stays
    "unknown".

    Raises:
        FormatError: The file is damaged, or has no points.
        MissingDependencyError: laspy, or lazrs for LAZ, is not there.
    """
    del item, samples, seed
    header = check_header(path)
    laspy: Any = library("laspy", purpose="to read LAS files")
    if header.compressed:
        library("lazrs", purpose="to read LAZ files")
    try:
        columns, several = _columns(path, laspy, header)
    except (FormatError, OSError, MemoryError):
        raise
    except BaseException as error:  # laspy and its decompressor have no common kind of error
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(path, f"laspy cannot read it ({why}): the file is damaged or truncated.") from error
    warnings: list[str] = []
    if not columns["classification"].any():  # class 0 of every point: "created, never classified"
        del columns["classification"]
    top = max((int(columns[name].max()) for name in _COLOURS if name in columns), default=0)
    if "red" in columns and top == 0:
        for name in _COLOURS:
            del columns[name]
        warnings.append("The colours are 0 at every point, so they are not read.")
    elif 0 < top <= 255:
        warnings.append(f"The colours reach {top} at most and are taken for bytes; the format has 16 bits.")
    if several:
        warnings.append(f"Extra dimensions of several values are not read: {', '.join(several)}.")
    outside = _outside(columns, header)
    if outside:
        warnings.append(
            f"{outside} points lie outside of the box that the header gives: one of them is damaged or wrong."
        )
    parts = named(columns, path)
    return make_cloud(path=path, **parts | {"warnings": (*parts["warnings"], *warnings)})


def _outside(columns: dict[str, npt.NDArray[np.generic]], header: LasHeader) -> int:
    """Return how many points lie outside of the header's box: LAZ has no checksum, and this is what may tell."""
    points = np.stack([columns[axis] for axis in "xyz"], axis=1).astype(np.float64)
    slack = 2 * np.abs(np.array(header.scales)) + 1e-12 * np.abs(points).max()
    low, high = np.array(header.low) - slack, np.array(header.high) + slack
    if not np.isfinite([low, high]).all() or ((low == -slack).all() and (high == slack).all()):
        return 0  # never filled in
    return int(((points < low) | (points > high)).any(axis=1).sum())


def _columns(path: Path, laspy: Any, header: LasHeader) -> tuple[dict[str, npt.NDArray[np.generic]], list[str]]:
    """Return columns by name, labels among the extra dimensions first, and the names of those of several values."""
    blocks: dict[str, list[npt.NDArray[np.generic]]] = {}
    several: list[str] = []
    backend = laspy.LazBackend.Lazrs  # its other backend takes memory for all chunks at once
    with np.errstate(all="ignore"), laspy.open(path, laz_backend=backend) as file:
        layout = file.header.point_format
        names = ["x", "y", "z", "intensity", *(name for name in _COLOURS if name in set(layout.dimension_names))]
        names += [name for name in layout.extra_dimension_names if name.lower() not in {*names, "classification"}]
        for chunk in file.chunk_iterator(_CHUNK):
            for name in [*names, "classification"]:
                blocks.setdefault(name, []).append(np.array(chunk[name]))
    columns = {name: np.concatenate(found) for name, found in blocks.items()}
    found = len(columns.get("x", ()))
    if found != header.points:
        raise FormatError(
            path, f"The header promises {header.points} points; {found} are there: the file is truncated."
        )
    for name in list(columns):
        if columns[name].ndim != 1:
            several.append(name)
            del columns[name]
    return columns, several
