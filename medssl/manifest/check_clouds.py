"""What `check` looks for in point clouds; each finding as (severity, kind, what, what to do)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["CLOUD_NOTES", "cloud_doubts", "clouds_together"]

Row = Mapping[str, Any]
Doubt = tuple[str, str, str, str]

_FEW_POINTS = 64
_MIXED_UNITS = 100.0  # times; metres among millimetres differ by 1000

# Beginnings of a reader's notes -> (beginning, kind, severity, what to do).
CLOUD_NOTES = (
    (
        "missing points",
        "missing-points",
        "warning",
        "Nothing, where the scanner marks missing returns so.",
    ),
    ("doubled points", "doubled-points", "info", "Nothing; thin the cloud where many are."),
    ("strays", "strays", "warning", "Look at the cloud; cut off what does not belong to it."),
    ("far from the origin", "far-from-the-origin", "info", "Nothing; places are kept relative to an offset."),
    ("no faces", "no-faces", "warning", "Nothing, where a cloud is meant; else export the mesh with its faces."),
    ("unsure columns", "unsure-columns", "warning", "Name the columns in a first line, and index again."),
    ("not read", "not-read", "info", "Nothing, where those columns do not matter."),
)


def cloud_doubts(row: Row) -> Iterator[Doubt]:
    """Yield what is odd about one readable cloud."""
    mesh = "faces" in (row["attributes"] or ())  # of which points are drawn, however few vertices it has
    if not mesh and row["points"] is not None and row["points"] < _FEW_POINTS:
        yield ("warning", "few-points", f"only {row['points']} points", "Leave it out; a shape needs more.")
    extent = row["extent"]
    if extent and min(extent) == 0:
        flat = " and ".join(axis for axis, side in zip("xyz", extent, strict=True) if side == 0)
        yield ("warning", "flat", f"all points have the same {flat}", "Look at it: is a column missing or repeated?")
    if row["content_hash"] is None:
        yield ("info", "points-not-compared", "no hash of the points was made", "medssl index ... depth=full")


def clouds_together(rows: Sequence[Row]) -> Iterator[Doubt]:
    """Yield what is odd about readable clouds as a whole."""
    if not rows:
        return
    units = Counter(row["length_unit"] for row in rows)
    if len(units) > 1:
        listed = ", ".join(f"{count} in {unit or 'unknown'}" for unit, count in sorted(units.items()))
        yield ("warning", "mixed-units", f"coordinates are in several units: {listed}",
               "Say the unit of files that do not: medssl index ... unit=mm")  # fmt: skip
    longest = np.array([max(row["extent"]) for row in rows if row["extent"]])
    small, large = (float(v) for v in np.percentile(longest, [2, 98])) if len(longest) else (1.0, 1.0)
    if small > 0 and large > _MIXED_UNITS * small:
        yield ("warning", "sizes-differ", f"the longest sides reach from {small:.3g} to {large:.3g}",
               "Are some files in m and others in mm? Put them into one unit.")  # fmt: skip
    classes: dict[str, Counter[str]] = {}
    for row in rows:
        for target, name in json.loads(row["targets"] or "{}").items():
            classes.setdefault(f"{target}\0{name}", Counter())[row["split"] or "none"] += 1
    tested = any(splits["test"] for splits in classes.values())
    for key, splits in sorted(classes.items()):
        target, _, name = key.partition("\0")
        if splits["test"] and not splits["train"]:
            yield ("warning", "class-never-trained", f"no cloud of the {target} '{name}' is in the split 'train'",
                   "More clouds of it, or another seed of the split: medssl index ... seed=1")  # fmt: skip
        if tested and splits["train"] and not splits["test"]:
            yield ("info", "class-never-tested", f"no cloud of the {target} '{name}' is in the split 'test'",
                   "More clouds of it, or a larger share: medssl index ... test=0.3")  # fmt: skip
