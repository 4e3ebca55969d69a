"""What `check` looks for in point clouds, and draws of them; see `medssl.manifest.own_checks`."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.manifest.unlabelled import classes_of_points, unlabelled_numbers

__all__ = ["CHECKS", "CloudChecks"]

Row = Mapping[str, Any]
Doubt = tuple[str, str, str, str]

_COUNTER = re.compile(r"[-_. ]*\d+$")
_FEW_POINTS = 64
_CLASSES = 40  # bars that a chart holds
_MIXED_UNITS = 100.0  # times; metres among millimetres differ by 1000

# Beginnings of a reader's notes -> (beginning, kind, severity, what to do).
_NOTES = (
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
    ("strays of pieces", "strays-of-pieces", "warning", "Nothing, where few; else compare the room with its pieces."),
    ("no classes", "labels-are-instances", "warning", "Give the points classes, 0 to 1023, where they have any."),
    ("not read", "not-read", "info", "Nothing, where those columns do not matter."),
)


class CloudChecks:
    """Clouds."""

    notes = _NOTES
    pictured = "Clouds from the front and a little above."

    def of_one(self, row: Row) -> Iterator[Doubt]:
        """Yield what is odd about one readable cloud."""
        yield from _alone(row)

    def together(self, rows: Sequence[Row]) -> Iterator[Doubt]:
        """Yield what is odd about readable clouds as a whole."""
        yield from _together(rows)

    def charts(self, rows: Sequence[Row]) -> list[tuple[str, npt.NDArray[np.generic] | list[tuple[str, int]]]]:
        """Return points, longest sides, and how many clouds there are of each class."""
        named = [json.loads(row["targets"] or "{}") for row in rows]
        counts = {
            target: Counter(said[target] for said in named if target in said)
            for target in sorted({target for said in named for target in said})
        }
        return [
            ("Points of a cloud", np.array([row["points"] for row in rows])),
            ("Longest side of a cloud", np.array([max(row["extent"]) for row in rows])),
            *((f"Clouds of each {target}", found.most_common(_CLASSES)) for target, found in counts.items()),
        ]


CHECKS = CloudChecks()


def _alone(row: Row) -> Iterator[Doubt]:
    mesh = "faces" in (row["attributes"] or ())  # of which points are drawn, however few vertices it has
    if not mesh and row["points"] is not None and row["points"] < _FEW_POINTS:
        yield ("warning", "few-points", f"only {row['points']} points", "Leave it out; a shape needs more.")
    extent = row["extent"]
    if extent and min(extent) == 0:
        flat = " and ".join(axis for axis, side in zip("xyz", extent, strict=True) if side == 0)
        yield ("warning", "flat", f"all points have the same {flat}", "Look at it: is a column missing or repeated?")
    if row["content_hash"] is None:
        yield ("info", "points-not-compared", "no hash of the points was made", "medssl index ... depth=full")


def _together(rows: Sequence[Row]) -> Iterator[Doubt]:
    if not rows:
        return
    units = Counter(row["length_unit"] for row in rows)
    if len(units) > 1:
        listed = ", ".join(f"{count} in {unit or 'unknown'}" for unit, count in sorted(units.items()))
        yield (
            "warning",
            "mixed-units",
            f"coordinates are in several units: {listed}",
            "Say the unit of files that do not: medssl index ... unit=mm",
        )
    longest = np.array([max(row["extent"]) for row in rows if row["extent"]])
    small, large = (float(v) for v in np.percentile(longest, [2, 98])) if len(longest) else (1.0, 1.0)
    if small > 0 and large > _MIXED_UNITS * small:
        yield (
            "warning",
            "sizes-differ",
            f"the longest sides reach from {small:.3g} to {large:.3g}",
            "Are some files in m and others in mm? Put them into one unit.",
        )
    yield from _torn(rows)
    yield from _parts_never_trained(rows)
    classes: dict[str, Counter[str]] = {}
    for row in rows:
        for target, name in json.loads(row["targets"] or "{}").items():
            classes.setdefault(f"{target}\0{name}", Counter())[row["split"] or "none"] += 1
    tested = any(splits["test"] for splits in classes.values())
    for key, splits in sorted(classes.items()):
        target, _, name = key.partition("\0")
        if splits["test"] and not splits["train"]:
            yield (
                "warning",
                "class-never-trained",
                f"no cloud of the {target} '{name}' is in the split 'train'",
                "More clouds of it, or another seed of the split: medssl index ... seed=1",
            )
        if tested and splits["train"] and not splits["test"]:
            yield (
                "info",
                "class-never-tested",
                f"no cloud of the {target} '{name}' is in the split 'test'",
                "More clouds of it, or a larger share: medssl index ... test=0.3",
            )


def _torn(rows: Sequence[Row]) -> Iterator[Doubt]:
    """Yield folders, and stems of names, that lie in several splits and are no classes."""
    free = [row for row in rows if not json.loads(row["targets"] or "{}") and row["split"]]
    names = {row["id"]: PurePosixPath(str(row["path"]).replace("\\", "/")) for row in free}
    owners = Counter(row["patient"] for row in free)
    alone = [row for row in free if owners[row["patient"]] == 1]  # what is known to belong together stays together
    for what, key_of in (
        ("folder", lambda path: path.parent.name),
        ("stem", lambda path: _COUNTER.sub("", path.name.partition(".")[0])),
    ):
        groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in alone:
            path = names[row["id"]]
            groups[f"{path.parent}\0{key_of(path)}"][row["split"]] += 1
        torn = {key: splits for key, splits in groups.items() if key.partition("\0")[2] and len(splits) > 1}
        if len({key.partition("\0")[2] for key in groups}) < 2 or not torn:
            continue  # one folder, or one stem, is the data set
        key, splits = min(torn.items())
        listed = ", ".join(f"{name} {splits[name]}" for name in ("train", "val", "test") if splits[name])
        yield (
            "warning",
            f"{what}-in-several-splits",
            f"clouds of {len(torn)} {what}s lie in several splits, such as "
            f"those of '{key.partition(chr(0))[2]}' ({listed})",
            f"If a {what} is one scene: medssl index ... patient_pattern=REGEX",
        )


def _parts_never_trained(rows: Sequence[Row]) -> Iterator[Doubt]:
    """Yield classes of points that only objects outside of the training split have."""
    unlabelled = unlabelled_numbers(rows)
    where: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for value in classes_of_points(row, unlabelled):
            where[value][row["split"] or "train"] += 1
    if not any(splits["train"] for splits in where.values()):
        return
    lost = sorted(value for value, splits in where.items() if not splits["train"])
    if lost:
        shown = ", ".join(map(str, lost[:6])) + (", ..." if len(lost) > 6 else "")
        count = max(sum(where[value].values()) for value in lost)
        yield (
            "warning",
            "part-never-trained",
            f"{len(lost)} classes of points ({shown}) are in no cloud of the split "
            f"'train', only in {count} others; their points count for nothing",
            "More clouds of them, or another seed of the split: medssl index ... seed=1",
        )
