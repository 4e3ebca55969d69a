"""What stages of pretraining hand on: groups of scans by their vectors, and the vectors of all stages joined.

References:
    Zhang et al., "Multistage contrastive learning" (MCL), ECCV 2024, arXiv:2402.11816, MajorDavidZhang/MCL cab98c1;
    Chakraborty et al., "G-SimCLR", ICDMW 2020, arXiv:2009.12007.

As in MCL's code vectors of length 1 are clustered, all of them at each stage, and a group is named by its clusters in
all stages so far; vectors are joined as they are and then made of length 1. Differs: k-means by cosine in place of
k-means in mini-batches; MCL's code reads the last stage's clusters at every stage, its paper's text, which holds here,
each stage's own. G-SimCLR clusters the vectors of a denoising autoencoder; here they are of any run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medssl.errors import DataError
from medssl.exporting.features import FeatureTable
from medssl.reduction.selection import spherical_k_means
from medssl.spreadsheet import csv_text
from medssl.writing import atomic_write

__all__ = ["grouped", "joined", "write_groups"]


def grouped(
    table: FeatureTable, clusters: int, *, former: Mapping[str, str] | None = None, said: str = ""
) -> list[str]:
    """Return a group for each row: its cluster by cosine, behind the group that a former stage put it into.

    Args:
        table: Vectors of scans.
        clusters: How many; at most as many as rows.
        former: Id -> group of the stage before; None at the first stage.
        said: The file that these groups are of.

    Raises:
        DataError: The former stage says nothing of a scan.
    """
    lacking = [name for name in table.ids if former is not None and name not in former]
    if lacking:
        raise DataError(
            f"{said}: names no group of {len(lacking)} of the {len(table)} embedded scans, such as {lacking[0]!r}. "
            "Give the groups of the stage before, of these scans."
        )
    member = spherical_k_means(table.vectors, clusters)[0].tolist()
    return [f"{former[name]}.{own}" if former else str(own) for name, own in zip(table.ids, member, strict=True)]


def write_groups(table: FeatureTable, groups: Sequence[str], path: Path) -> None:
    """Write a table of groups, as ``data.groups`` of ``pretrain`` takes it."""
    with atomic_write(path) as aside:
        aside.write_text(csv_text(("scan", "group"), list(zip(table.ids, groups, strict=True))), encoding="utf-8")


def joined(tables: Sequence[FeatureTable]) -> FeatureTable:
    """Return the vectors of the same scans by several runs as one of length 1 each; a lone table as it is.

    Raises:
        DataError: A scan has a vector of one run alone.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    for other in tables[1:]:
        if other.ids != first.ids:
            apart = sorted(set(first.ids) ^ set(other.ids)) or [*first.ids[:1]]
            raise DataError(
                f"{len(apart)} scans, such as {apart[0]!r}, have no vector of every run that is to be joined. Mend "
                "them, or leave them out (splits)."
            )
    long = np.concatenate([table.vectors for table in tables], axis=1).astype(np.float64)
    length = np.linalg.norm(long, axis=1, keepdims=True)
    return replace(first, vectors=(long / np.maximum(length, 1e-12)).astype(np.float32))
