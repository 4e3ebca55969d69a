"""Vectors of scans that somebody else made: a file of ``medssl embed``, or the user's own array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError

__all__ = ["read_vectors"]


def read_vectors(path: str | Path, ids: Sequence[str], listed: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return a vector for each id, (n, d).

    Args:
        path: ``.parquet`` or ``.npz`` with ``id`` and ``vector`` (``vectors`` in ``.npz``), as ``medssl embed`` writes
            them, or ``.npy`` (m, d) with a row for each of ``listed``.
        ids: Whose vectors are wanted.
        listed: Every id of the manifest, in its order.

    Raises:
        ConfigError: The file cannot be read, or an id has no vector in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there are no such embeddings. Make them with: medssl embed RUN --data STORE")
    try:
        names, vectors = _READERS[path.suffix](path, listed)
    except KeyError as error:
        raise ConfigError(f"{path}: embeddings are a .parquet, .npz or .npy file ({error} is not there).") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the embeddings cannot be read ({str(error).splitlines()[0]}).") from error
    if vectors.ndim != 2 or len(vectors) != len(names) or not np.isfinite(vectors).all():
        raise ConfigError(
            f"{path}: embeddings are a table with a row of finite numbers for each of {len(names)} scans. "
            f"Found shape {vectors.shape}."
        )
    place = {name: number for number, name in enumerate(names)}
    missing = [name for name in ids if name not in place]
    if missing:
        raise ConfigError(f"{path}: holds no vector of '{missing[0]}' ({len(missing)} scans are missing in all).")
    return np.asarray(vectors, dtype=np.float32)[[place[name] for name in ids]]


def _parquet(path: Path, listed: Sequence[str]) -> tuple[Sequence[str], npt.NDArray[Any]]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise ValueError(str(error)) from error
    if not {"id", "vector"} <= set(frame.columns):
        raise KeyError("the columns id and vector")
    return frame["id"].to_list(), np.array(frame["vector"].to_list(), dtype=np.float32)


def _npz(path: Path, listed: Sequence[str]) -> tuple[Sequence[str], npt.NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return [str(name) for name in arrays["id"]], np.asarray(arrays["vectors"])


def _npy(path: Path, listed: Sequence[str]) -> tuple[Sequence[str], npt.NDArray[Any]]:
    return listed, np.load(path, allow_pickle=False)


_READERS = {".parquet": _parquet, ".npz": _npz, ".npy": _npy}
