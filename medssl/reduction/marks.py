"""From pairs that were looked at to what a manifest says of each scan: kept or not, why, and who stands for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medssl.reduction.duplicates import Found, Match
from medssl.reduction.groups import lead
from medssl.reduction.neighbours import Pairs
from medssl.reduction.verify import Level
from medssl.reduction.worth import Worth

__all__ = ["Mark", "Related", "mark_copies", "one_side", "sides"]

Related = Literal["keep", "one"]
Row = Mapping[str, Any]
_STRONGEST = ("test", "val", "train", "")  # whose scans stay where they are when copies lie in several splits


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is said of one scan.

    Attributes:
        keep: Whether it is trained on.
        reason: Why, in words.
        level: What it is to the scan that stands for it; "" where it stands for itself.
        representative: Id of the scan that stands for it.
        distance: To that scan: 1 - score for copies, else as the strategy measures.
        score: Correlation of the detail with that scan; None where nobody looked.
        group: Equal for scans that must lie on one side of a split.
    """

    keep: bool
    reason: str
    level: str = ""
    representative: str
    distance: float = 0.0
    score: float | None = None
    group: str = ""


def mark_copies(rows: Sequence[Row], found: Found, worth: Worth, *, related: Related = "keep") -> dict[str, Mark]:
    """Return what is said of each readable scan by its copies alone.

    Args:
        rows: The manifest's readable rows.
        found: What `duplicates.find_copies` came to.
        worth: What each scan is worth among its copies, by which ``found`` chose.
        related: "keep" keeps every kernel, phase and echo of one acquisition; "one" keeps the one worth most.
    """
    ids = [row["id"] for row in rows]
    looked = {(one.first, one.second): one for one in found.matches}
    group = sides(rows, found.matches)
    stands = dict(found.groups.removed)
    levels = {name: _between(name, leader, looked).verdict.level.value for name, leader in stands.items()}
    scores = {name: _score(name, leader, looked) for name, leader in stands.items()}
    reasons = {name: f"{levels[name]} as {leader}, {worth.why(leader, name)}" for name, leader in stands.items()}
    if related == "one":
        kept = found.groups.kept
        place = {name: number for number, name in enumerate(kept)}
        pairs = [
            m for m in found.matches if m.verdict.level is Level.RELATED and m.first in place and m.second in place
        ]
        led = lead(
            kept,
            Pairs(
                np.array([place[m.first] for m in pairs], dtype=np.int64),
                np.array([place[m.second] for m in pairs], dtype=np.int64),
                np.array([1.0 - m.verdict.agreement.score for m in pairs], dtype=np.float64),
            ),
            worth=[worth.values[name] for name in kept],
        )
        for name, leader in led.removed.items():
            scores[name] = _score(name, leader, looked)
            stands[name], levels[name], reasons[name] = (
                leader,
                Level.RELATED.value,
                f"related to {leader}, {worth.why(leader, name)}",
            )
        for name, leader in found.groups.removed.items():
            if leader in led.removed:  # what stood for it is left out itself
                reasons[name] = f"{levels[name]} as {leader}, which is related to {led.removed[leader]}"
                stands[name], levels[name] = led.removed[leader], Level.RELATED.value
                scores[name] = min(scores[name], scores[leader])
    count: dict[str, int] = {}
    for leader in stands.values():
        count[leader] = count.get(leader, 0) + 1
    marks = {}
    for name in ids:
        side = group[name]
        if name in found.failures:
            reason = f"could not be read: {found.failures[name]}"
            marks[name] = Mark(keep=False, reason=reason, level="unreadable", representative=name, group=side)
        elif name in stands:
            marks[name] = Mark(
                keep=False,
                reason=reasons[name],
                level=levels[name],
                representative=stands[name],
                distance=1.0 - scores[name],
                score=scores[name],
                group=side,
            )
        else:
            reason = f"stands for {count[name]} more" if name in count else "no copy of any other"
            marks[name] = Mark(keep=True, reason=reason, representative=name, group=side)
    return marks


def sides(rows: Sequence[Row], matches: Sequence[Match]) -> dict[str, str]:
    """Return id -> a name that is equal for scans of one patient, copies and related ones: chains of them too.

    A split that goes through such a group leaks, whoever the file names say the patients are.
    """
    parent = {row["id"]: row["id"] for row in rows}

    def top(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    owner: dict[str, str] = {}
    joined = [(row["id"], owner.setdefault(row["patient"], row["id"])) for row in rows]
    joined += [
        (one.first, one.second)
        for one in matches
        if one.verdict.level not in (Level.DIFFERENT, Level.SAME_PATIENT) and {one.first, one.second} <= parent.keys()
    ]
    for one, two in joined:
        low, high = sorted((top(one), top(two)))
        parent[high] = low
    patients: dict[str, str] = {}
    for row in rows:
        name = top(row["id"])
        patients[name] = min(patients.get(name, row["patient"]), row["patient"])
    return {row["id"]: patients[top(row["id"])] for row in rows}


def one_side(rows: Sequence[Row], marks: Mapping[str, Mark]) -> dict[str, str]:
    """Return id -> split for scans that are to change it, so that no group of scans lies in two.

    Where one scan of a group is a test scan, all become that; else validation goes before training.
    """
    found: dict[str, set[str]] = {}
    for row in rows:
        if row["split"]:
            found.setdefault(marks[row["id"]].group, set()).add(row["split"])
    moved = {}
    for row in rows:
        splits = found.get(marks[row["id"]].group, set())
        if len(splits) > 1:
            wanted = min(splits, key=_STRONGEST.index)
            if row["split"] and row["split"] != wanted:
                moved[row["id"]] = wanted
    return moved


def _between(one: str, two: str, looked: Mapping[tuple[str, str], Match]) -> Match:
    return looked[min(one, two), max(one, two)]


def _score(one: str, two: str, looked: Mapping[tuple[str, str], Match]) -> float:
    return _between(one, two, looked).verdict.agreement.score
