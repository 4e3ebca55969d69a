"""One chunked array on disk (``.b2nd``): how it is cut, compressed, written aside and checked.

LZ4HC at level 5 with byte shuffle, chunks of 64^3 and blocks of 32^3 voxels were chosen by measurement
(``benchmarks/store_reads.py``): random crops are read at the rate of a raw memory map from a third of its size.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from medssl.errors import CacheError
from medssl.writing import atomic_write

__all__ = ["CHUNK", "PART", "grid_of", "open_array", "write_array"]

CHUNK = 64
BLOCK = 32
PART = ".part"  # ending of a file that is being written; what a killed process left is told by it


def grid_of(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (chunks, blocks) for an array of ``shape``.

    A scan that fits one chunk is one block: it is nearly always read whole.

    Example:
        >>> grid_of((35, 50, 36))
        ((35, 50, 36), (35, 50, 36))
        >>> grid_of((18, 512, 512))
        ((18, 64, 64), (18, 32, 32))
    """
    chunks = tuple(min(CHUNK, n) for n in shape)
    if chunks == tuple(shape):
        return chunks, chunks
    return chunks, tuple(min(BLOCK, n) for n in chunks)


def write_array(path: Path, values: npt.NDArray[np.generic]) -> None:
    """Write an array as a chunked, compressed file.

    Args:
        path: Target, ending in ``.b2nd``; replaced if it exists.
        values: Array with axes (z, y, x), of an integer type.
    """
    chunks, blocks = grid_of(values.shape)
    compression = blosc2.CParams(
        codec=blosc2.Codec.LZ4HC,
        clevel=5,
        filters=[blosc2.Filter.SHUFFLE],
        filters_meta=[0],
        nthreads=1,
        typesize=values.dtype.itemsize,
    )

    with atomic_write(path, suffix=PART) as aside:
        blosc2.asarray(
            np.ascontiguousarray(values),
            chunks=chunks,
            blocks=blocks,
            cparams=compression,
            dparams=blosc2.DParams(nthreads=1),  # the header counts both kinds of threads: equal bytes anywhere
            urlpath=str(aside),
            mode="w",
            contiguous=True,
        )


def open_array(path: Path) -> Any:
    """Return the array in ``path``, read-only and by parts; memory-mapped where the system handles that well.

    Raises:
        CacheError: The file is missing or damaged.
    """
    # A memory-mapped file cannot be replaced on Windows, so a store in use could not be written again.
    mapped = {} if sys.platform == "win32" else {"mmap_mode": "r"}
    try:
        # "safe": a file may hold a recipe for values in place of values, and opening such a file would run it.
        array = blosc2.open(str(path), mode="r", deserialize="safe", dparams=blosc2.DParams(nthreads=1), **mapped)
        if not isinstance(array, blosc2.NDArray) or array.ndim != 3 or array.dtype.kind not in "iu":
            raise ValueError(f"it holds a {type(array).__name__}, and not whole numbers with axes (z, y, x)")
        return array
    except Exception as error:
        found = "the file is missing" if not path.exists() else f"the file cannot be opened ({error})"
        raise CacheError(f"{path}: {found}. Run `medssl cache` again; it rewrites only what is missing.") from error
