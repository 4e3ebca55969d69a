"""Vectors of scans and clouds: what ``embed`` wrote, read back, and drawn as a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.reporting.blocks import Block, Charts
from medssl.reporting.charts import scatter_chart
from medssl.reporting.prose import counted

__all__ = ["Embeddings", "embedding_map", "read_embeddings"]

_MOST_GROUPS = 12  # classes that a map can still distinguish by colour


@dataclass(frozen=True)
class Embeddings:
    """Vectors row by row.

    Attributes:
        vectors: (N, dim).
        ids: Of the scans or clouds.
        modalities: Of each; "" of clouds.
        groups: What each is coloured by.
        grouped_by: What that is: a target, the modality or the split.
        run: The run whose encoder they are of; "" where the file does not say it.
    """

    vectors: npt.NDArray[np.float64]
    ids: list[str]
    modalities: list[str]
    groups: list[str]
    grouped_by: str
    run: str = ""


def read_embeddings(path: Path) -> Embeddings:
    """Read what ``embed`` wrote; grouped by class, else by modality, else by split.

    Raises:
        DataError: It is no such file.
    """
    columns: dict[str, list[Any]]
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                columns = {name: arrays[name].tolist() for name in arrays.files if name != "vectors"}
                vectors = np.asarray(arrays["vectors"], dtype=np.float64)
        else:
            import polars

            frame = polars.read_parquet(path)
            columns = {name: frame[name].to_list() for name in frame.columns if name != "vector"}
            vectors = np.array(frame["vector"].to_list(), dtype=np.float64)
        ids = [str(i) for i in columns["id"]]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: no embeddings as `medssl embed` writes them ({error}).") from error
    empty = [""] * len(ids)
    targets = [name for name in columns if name == "class" or name.startswith("target_")]
    chosen = "split"
    for name in (*targets, "modality"):
        if 1 < len({value for value in columns.get(name, empty) if value}) <= _MOST_GROUPS:
            chosen = name
            break
    by = chosen.removeprefix("target_")
    groups = [str(value or f"no {by}") for value in columns.get(chosen, empty)]
    runs = {str(run) for run in columns.get("run", ())}
    return Embeddings(
        vectors,
        ids,
        [str(m) for m in columns.get("modality", empty)],
        groups,
        by,
        runs.pop() if len(runs) == 1 else "",
    )


def embedding_map(name: str, path: Path) -> list[Block]:
    """Return the first two principal components of a file of vectors as a chart; nothing of fewer than three."""
    found = read_embeddings(path)
    vectors = found.vectors
    known = np.isfinite(vectors).all(axis=1) if vectors.ndim == 2 else np.zeros(0, bool)
    if known.sum() < 3:
        return []
    kept = vectors[known]
    centred = kept - kept.mean(axis=0)
    left, strength, _ = np.linalg.svd(centred, full_matrices=False)
    shares = strength**2 / max(float((strength**2).sum()), 1e-30)
    places = left[:, :2] * strength[:2]
    if places.shape[1] < 2:
        return []
    marked = [
        (float(x), float(y), found.groups[i], found.ids[i])
        for (x, y), i in zip(places, np.flatnonzero(known).tolist(), strict=True)
    ]
    title = f"Scans by their embedding, {name}"
    svg = scatter_chart(
        marked, what=title, x_name=f"first component ({shares[0]:.0%})", y_name=f"second ({shares[1]:.0%})"
    )
    of = f"{counted(len(marked), 'vector')} of {vectors.shape[1]} numbers"
    whose = f", of the encoder of {found.run}" if found.run else ""
    note = f"Principal components of {of}{whose}; the two shown hold {shares[0] + shares[1]:.0%} of the variance. "
    return [Charts([(title, svg, f"{note}Colours are the {found.grouped_by}.")])]
