"""LAS and LAZ, the surveyors' formats, through laspy."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.files import library, size_of, start_of

__all__ = ["read"]

_CHUNK = 1_000_000  # points


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read a LAS or LAZ file in chunks; its whole numbers are scaled in float64 before anything is rounded.

    The labels are the classification (2 is ground, 6 is building, ...), where any point has one. The unit is that of
    the file's coordinate reference system, which is not looked up: it stays "unknown".

    Raises:
        FormatError: The file is damaged, or has no points.
        MissingDependencyError: laspy, or lazrs for LAZ, is not there.
    """
    del item, samples, seed
    _check_header(path)
    laspy: Any = library("laspy", install="laspy[lazrs]", purpose="to read LAS files")
    if path.suffix.lower() == ".laz":
        library("lazrs", install="laspy[lazrs]", purpose="to read LAZ files")
    parts: dict[str, list[Any]] = {}
    try:
        with laspy.open(path) as file:
            promised = int(file.header.point_count)
            names = set(file.header.point_format.dimension_names)
            for chunk in file.chunk_iterator(_CHUNK):
                parts.setdefault("points", []).append(np.stack([chunk.x, chunk.y, chunk.z], axis=1))
                parts.setdefault("intensity", []).append(np.asarray(chunk.intensity))
                parts.setdefault("labels", []).append(np.asarray(chunk.classification).astype(np.int64))
                if "red" in names:
                    colours = np.stack([np.asarray(chunk[name]) for name in ("red", "green", "blue")], axis=1)
                    parts.setdefault("colours", []).append(colours)
    except FormatError:
        raise
    except Exception as error:  # laspy and its decompressor have no common kind of error
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(path, f"laspy cannot read it ({why}): the file is damaged or truncated.") from error
    found = sum(len(block) for block in parts.get("points", []))
    if promised == 0:
        raise FormatError(path, "The header promises 0 points.")
    if found != promised:
        raise FormatError(path, f"The header promises {promised} points; {found} are there: the file is truncated.")
    joined: dict[str, Any] = {name: np.concatenate(blocks) for name, blocks in parts.items()}
    if not joined["labels"].any():  # class 0 of every point: "created, never classified"
        del joined["labels"]
    return make_cloud(path=path, **joined)


def _check_header(path: Path) -> None:
    """Hold the header's numbers against the file's size: laspy would look for billions of records."""
    start, size = start_of(path, 247), size_of(path)
    if start[:4] != b"LASF":
        raise FormatError(path, "The file does not begin with 'LASF': it is no LAS file.")
    if len(start) < 227:
        raise FormatError(path, f"The file has {size} bytes, less than the header of a LAS file: truncated.")
    header, points_at, records = struct.unpack_from("<HII", start, 94)
    if not header <= points_at <= size or records * 54 > points_at - header:
        raise FormatError(
            path,
            f"The header promises {records} records before byte {points_at} of {size}: damaged or truncated.",
        )
    if header >= 375 and len(start) == 247:  # LAS 1.4 has further records after the points
        after, later = struct.unpack_from("<QI", start, 235)
        if later and (after > size or later * 60 > size - after):
            raise FormatError(path, f"The header promises {later} records after byte {after} of {size}: damaged.")
