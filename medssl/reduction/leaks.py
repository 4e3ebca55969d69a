"""What a split lets through: patients and images that lie on both of its sides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medssl.reduction.duplicates import Found
from medssl.reduction.verify import Level

__all__ = ["Leak", "leaks_of"]

_ORDER = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A pair of scans on two sides of a split.

    Attributes:
        first: Id of the scan on the side that comes first (train, val, test).
        second: Id of the other.
        splits: Their splits.
        level: What they are to each other.
        score: Correlation of their detail; None where nobody looked, as for scans of one patient that look unlike.
        patients: Their patients.
    """

    first: str
    second: str
    splits: tuple[str, str]
    level: str
    score: float | None
    patients: tuple[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def leaks_of(rows: Sequence[Mapping[str, Any]], found: Found) -> list[Leak]:
    """Return every pair across splits of one patient or of one image: copies first, by level, then by names.

    Args:
        rows: Readable rows of a manifest. Scans without a split are on no side.
        found: The pairs that were looked at.
    """
    by_id = {row["id"]: row for row in rows if row["split"]}
    pairs: dict[tuple[str, str], tuple[str, float | None]] = {}
    for one in found.matches:
        if one.verdict.level is Level.DIFFERENT or not {one.first, one.second} <= by_id.keys():
            continue
        pairs[one.first, one.second] = (one.verdict.level.value, one.verdict.agreement.score)
    # Of many equal scans only some pairs are among the matches, and all of them leak.
    for equal in _clusters(found, by_id.keys()):
        for low, high in itertools.combinations(sorted(equal), 2):
            pairs.setdefault((low, high), (Level.SAME_ARRAY.value, 1.0))
    patients: dict[str, list[str]] = {}
    for name, row in by_id.items():
        patients.setdefault(row["patient"], []).append(name)
    for names in patients.values():
        if len({by_id[name]["split"] for name in names}) > 1:
            for low, high in itertools.combinations(sorted(names), 2):
                pairs.setdefault((low, high), (Level.SAME_PATIENT.value, None))
    leaks = [
        _leak(by_id[low], by_id[high], level, score)
        for (low, high), (level, score) in pairs.items()
        if by_id[low]["split"] != by_id[high]["split"]
    ]
    levels = [level.value for level in Level]
    return sorted(leaks, key=lambda leak: (levels.index(leak.level), leak.first, leak.second))


def _leak(one: Mapping[str, Any], two: Mapping[str, Any], level: str, score: float | None) -> Leak:
    if _ORDER.index(one["split"]) > _ORDER.index(two["split"]):
        one, two = two, one
    return Leak(
        first=one["id"],
        second=two["id"],
        splits=(one["split"], two["split"]),
        level=level,
        score=score,
        patients=(one["patient"], two["patient"]),
    )


def _clusters(found: Found, present: Any) -> list[set[str]]:
    """Return the members of each group of equal files or arrays."""
    parent: dict[str, str] = {}

    def top(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for one in found.matches:
        if one.verdict.level in (Level.SAME_FILE, Level.SAME_ARRAY):
            low, high = sorted((top(one.first), top(one.second)))
            parent[high] = low
    clusters: dict[str, set[str]] = {}
    for name in parent:
        if name in present:
            clusters.setdefault(top(name), set()).add(name)
    return [names for names in clusters.values() if len(names) > 1]
