"""What a store refuses unless it is told to accept it, and what becomes of it then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

__all__ = ["ACCEPTED", "Accepted", "by_kind", "how_to_accept", "kind_of"]

Accepted = Literal[
    "nonfinite",
    "constant",
    "label-shape-differs",
    "label-affine-differs",
    "label-negative",
    "label-stray",
    "label-shared",
]
# Kind, as `medssl check` calls it -> what the store does with what it accepts.
ACCEPTED: dict[str, str] = {
    "nonfinite": "stores air, or the smallest value, in place of voxels that are no numbers",
    "constant": "stores scans of one value",
    "label-shape-differs": "resamples labels of another grid to the nearest voxel",
    "label-affine-differs": "resamples labels that lie elsewhere to the nearest voxel",
    "label-negative": "takes negative values of labels for 'not known'",
    "label-stray": "takes stray values of labels for 'not known'",
    "label-shared": "uses a label for every patient that names it",
}


def how_to_accept(kind: str) -> str:
    """Return what a kind of refusal needs to be accepted, as a sentence; "" where it cannot be."""
    return f"accept=[{kind}] {ACCEPTED[kind]}." if kind in ACCEPTED else ""


def by_kind(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the scans by the kind of fault that their reason starts with, the most frequent kind first."""
    found: dict[str, list[str]] = {}
    for scan, reason in reasons.items():
        found.setdefault(kind_of(reason), []).append(scan)
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def kind_of(reason: str) -> str:
    """Return the kind of fault that a reason starts with."""
    return reason.partition(": ")[0]
