"""What is doubtful in labels only beside the labels of other scans: stray values, and a label of several patients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["STRAY_RULE", "case_of", "counts_of", "shared_labels", "stray_values", "unusable_labels"]

Row = Mapping[str, Any]
_REFUSED = {
    "label-unreadable",
    "label-shape-differs",
    "label-affine-differs",
    "label-non-integer",
    "label-grey-levels",
    "label-frames",
    "label-is-image",
}
_FEW = 0.2  # share of the labelled scans
_MANY_LABELS, _FEW_VOXELS = 5, 100
STRAY_RULE = (
    "a value is stray where dataset.json names classes, not this one, and fewer than 1 in 5 labelled scans (or one "
    "alone) hold it; without names, where one scan of 5 or more holds it, in fewer than 100 voxels"
)


def counts_of(rows: Iterable[Row]) -> dict[str, dict[int, int]]:
    """Return, by id, how many voxels each value has in every labelled scan whose label was read."""
    found = {}
    for row in rows:
        values = row["label_values"] if row["kind"] == "volume" else None
        if values:
            found[row["id"]] = dict(zip(values, row["label_voxels"] or [1] * len(values), strict=True))
    return found


def case_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return scan -> its case, of those that are channels of one: their label map is one, and counts once."""
    return {row["id"]: row["case"] for row in rows if row.get("case")}


def stray_values(
    labels: Mapping[str, Mapping[int, int]], classes: Mapping[int, str], cases: Mapping[str, str] | None = None
) -> dict[int, tuple[str, ...]]:
    """Return values that are slips of the hand rather than structures, with the scans that hold them.

    The rule is `STRAY_RULE`.

    Args:
        labels: Scan -> value -> voxels, of every labelled scan.
        classes: Value -> name, as the data set says.
        cases: Scan -> its case, see `case_of`.
    """
    cases = cases or {}
    every = len({cases.get(scan, scan) for scan in labels})
    named = any(value > 0 for value in classes)
    holders: defaultdict[int, list[str]] = defaultdict(list)
    for scan, counts in labels.items():
        for value, count in counts.items():
            if value > 0 and value not in classes and count:
                holders[value].append(scan)
    found = {}
    for value, scans in sorted(holders.items()):
        holding = len({cases.get(scan, scan) for scan in scans})
        alone = holding == 1
        if named:
            stray = every > 1 and (alone or holding < _FEW * every)
        else:
            stray = alone and every >= _MANY_LABELS and labels[scans[0]][value] < _FEW_VOXELS
        if stray:
            found[value] = tuple(scans)
    return found


def shared_labels(rows: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """Return label files that scans of several patients name, with those patients."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["label_path"] and row["kind"] == "volume":
            owners[row["label_path"]].add(row["patient"] or row["id"])
    return {path: tuple(sorted(patients)) for path, patients in owners.items() if len(patients) > 1}


def unusable_labels(rows: Sequence[Row], classes: Mapping[int, str], accept: Collection[str]) -> dict[str, str]:
    """Return the scans whose label a store will refuse, as far as the manifest tells, with the kind of fault.

    Args:
        rows: Every readable scan.
        classes: Value -> name, as the data set says.
        accept: Kinds that the store is told to accept.
    """
    kinds: dict[str, str] = {}
    for row in rows:
        found = [flag for flag in row["flags"] if flag in _REFUSED]
        if row["label_values"] and min(row["label_values"]) < 0:
            found.append("label-negative")
        found = [kind for kind in found if kind not in accept]
        if row["label_path"] and found:
            kinds[row["id"]] = found[0]
    if "label-stray" not in accept:
        strays = stray_values(counts_of(rows), classes, case_of(rows))
        kinds |= {scan: "label-stray" for scans in strays.values() for scan in scans}
    if "label-shared" not in accept:
        shared = shared_labels(rows)
        kinds |= {row["id"]: "label-shared" for row in rows if row["label_path"] in shared}
    return kinds
