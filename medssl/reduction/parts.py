"""Parts of scans that are kept: slices or blocks, as a table that training reads.

One row a part, in Parquet, sorted by scan and place, in canonical orientation (axes z, y, x, growing upwards, to the
front and to the right), which is that of the store:

    id               the scan, or the case where it is a channel of one: its first channel was looked at
    axis             "z", "y" or "x" for slices; "" for blocks
    index            which slice, from 0; for blocks, a running number
    start, stop      first and one-past-last voxel of the part, (z, y, x)
    shape            voxels of the scan, (z, y, x): a store at another voxel size holds slice i at (i + 0.5) / shape
    keep             whether it is trained on
    representative   "id/index" of the part that stands for it; its own where it is kept; null where none is said to
    distance         to that part, as the strategy measures it; 0 where it is kept, null where nothing is said
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.reduction.leaders import Choice
from medssl.writing import atomic_write

if TYPE_CHECKING:
    import polars as pl

__all__ = ["AXES", "Part", "kept_slices", "parts_frame", "read_parts", "write_parts"]

AXES = ("z", "y", "x")
_META_KEY = "medssl_parts"
_VERSION = "1"
Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A slice or a block of a scan, in voxels of its canonical orientation.

    Attributes:
        id: The scan, or its case.
        axis: "z", "y" or "x" of a slice; "" of a block.
        index: Which slice, from 0; for blocks, a running number.
        start: First voxel (z, y, x).
        stop: One past the last.
        shape: Of the scan.
    """

    id: str
    axis: str
    index: int
    start: Triple
    stop: Triple
    shape: Triple

    @property
    def name(self) -> str:
        """A name that no other part of the data set has; it sorts by scan and place."""
        return f"{self.id}/{self.index:06d}"


def parts_frame(parts: Sequence[Part], choice: Choice) -> pl.DataFrame:
    """Return the table of parts with what was chosen of them, sorted by scan and index."""
    import polars as pl

    who = choice.representative
    frame = pl.DataFrame(
        {
            "id": [one.id for one in parts],
            "axis": [one.axis for one in parts],
            "index": [one.index for one in parts],
            "start": [list(one.start) for one in parts],
            "stop": [list(one.stop) for one in parts],
            "shape": [list(one.shape) for one in parts],
            "keep": [int(who[place]) == place for place in range(len(parts))],
            "representative": [f"{parts[w].id}/{parts[w].index}" if w >= 0 else None for w in who.tolist()],
            "distance": [None if np.isnan(d) else float(d) for d in choice.distance],
        },
        schema={
            "id": pl.String,
            "axis": pl.String,
            "index": pl.Int64,
            "start": pl.List(pl.Int64),
            "stop": pl.List(pl.Int64),
            "shape": pl.List(pl.Int64),
            "keep": pl.Boolean,
            "representative": pl.String,
            "distance": pl.Float64,
        },
    )
    return frame.sort("id", "axis", "index")


def write_parts(frame: pl.DataFrame, path: str | Path, about: Mapping[str, Any]) -> None:
    """Write a table of parts.

    Args:
        frame: From `parts_frame`.
        path: A .parquet file.
        about: How it was chosen; kept in the file.
    """
    meta = json.dumps({"version": _VERSION, **about}, sort_keys=True)
    with atomic_write(Path(path)) as aside:
        frame.write_parquet(aside, metadata={_META_KEY: meta})


def read_parts(path: str | Path) -> pl.DataFrame:
    """Read a table of parts.

    Raises:
        DataError: It is missing, damaged, or no such table.
    """
    import polars as pl

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such table. Make one with: medssl reduce MANIFEST --unit slice --by hash")
    try:
        meta = pl.read_parquet_metadata(path).get(_META_KEY)
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}). Make it again.") from error
    if meta is None or json.loads(meta).get("version") != _VERSION:
        raise DataError(f"{path}: holds no slices or blocks of this version. Make it with: medssl reduce --unit slice")
    return frame


def kept_slices(path: str | Path, axis: str = "z") -> dict[str, tuple[npt.NDArray[np.int64], int]]:
    """Return id -> (indices of the slices that are kept, slices in all), in canonical orientation.

    Args:
        path: A table of slices.
        axis: Along which.

    Raises:
        DataError: The table cannot be read, or holds no slices along that axis.
    """
    import polars as pl

    frame = read_parts(path).filter(pl.col("axis") == axis)
    if not frame.height:
        raise DataError(f"{path}: holds no slices along {axis}.")
    number = AXES.index(axis)
    found: dict[str, tuple[npt.NDArray[np.int64], int]] = {}
    for (name,), rows in frame.group_by("id", maintain_order=True):
        kept = rows.filter(pl.col("keep"))["index"].to_numpy().astype(np.int64)
        found[str(name)] = (kept, int(rows["shape"][0][number]))
    return found
