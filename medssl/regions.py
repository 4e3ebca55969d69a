"""Regions: structures that overlap, each a union of label values, such as a whole tumour and its core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Region", "regions_from", "regions_json"]


@dataclass(frozen=True)
class Region:
    """A structure that is a union of label values.

    Attributes:
        name: Its name.
        values: The label values that belong to it, rising.
        written: The value that a predicted label map has where this is the last region that holds a voxel
            (``regions_class_order`` of nnU-Net).
    """

    name: str
    values: tuple[int, ...]
    written: int


def regions_json(regions: Iterable[Region]) -> list[dict[str, Any]]:
    """Return regions as JSON holds them, in the order in which they are written."""
    return [{"name": r.name, "values": list(r.values), "written": r.written} for r in regions]


def regions_from(said: Iterable[Mapping[str, Any]]) -> tuple[Region, ...]:
    """Return regions from what `regions_json` made of them."""
    return tuple(Region(str(r["name"]), tuple(int(v) for v in r["values"]), int(r["written"])) for r in said)
