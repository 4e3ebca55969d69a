"""Which of several copies is the best one to keep, by named merits in a fixed order, so that a reason can name them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medssl.reduction.fingerprint import Fingerprint

__all__ = ["MERITS", "Merit", "Worth", "keep_priority"]

Facts = Mapping[str, Any]
_EIGHT_BITS = 256
_STEPS = 8  # to the doubling: voxels whose sizes differ by less than 9 % count as equally large
_WINDOWS = 2  # to the doubling: what is cut off a scan changes its extremes as well, a little


@dataclass(frozen=True)
class Merit:
    """Something by which one copy is better than another.

    Attributes:
        noun: What it is, as in "kept for its labels".
        poorer: What is said of one that has less of it, as in "which has no labels".
        value: Facts of a scan -> how much of it there is; the larger the better.
        shown: Facts of a scan -> the amount in words; "" where there is none to tell.
    """

    noun: str
    poorer: str
    value: Callable[[Facts], float]
    shown: Callable[[Facts], str] = lambda facts: ""


def _steps(value: float, steps: int = _STEPS) -> float:
    return float(round(steps * math.log2(value))) if value > 0 else -math.inf


def _window(facts: Facts) -> float:
    """Return the width of the intensities; only HU can be compared with each other's."""
    return _steps(facts["width"], _WINDOWS) if facts["units"] == "HU" and facts["width"] else 0.0


MERITS: tuple[Merit, ...] = (
    Merit("its labels", "has no labels", lambda facts: float(facts["labelled"])),
    Merit("being a test scan", "is no test scan", lambda facts: float(facts["held_out"])),
    Merit(
        "its known units",
        "is in no known unit",
        lambda facts: float(facts["units"] not in ("", "arbitrary", "unknown")),
        lambda facts: str(facts["units"]),
    ),
    Merit(
        "its known modality",
        "has no known modality",
        lambda facts: float(facts["modality"] not in ("", "unknown")),
        lambda facts: str(facts["modality"]),
    ),
    Merit(
        "more distinct values",
        "has fewer distinct values",
        # More than 8 bits are as good as any: what was interpolated has more numbers, and no more to tell.
        lambda facts: math.ceil(math.log2(min(max(facts["levels"], 1), 2 * _EIGHT_BITS))),
        lambda facts: f"{min(facts['levels'], _EIGHT_BITS)}{' or more' if facts['levels'] > _EIGHT_BITS else ''}",
    ),
    Merit("its wider window", "has a narrower window", _window, lambda facts: f"{facts['width']:.0f} HU"),
    Merit(
        "its finer grid",
        "has a coarser grid",
        lambda facts: -_steps(facts["voxel_mm3"]) if facts["voxel_mm3"] else -math.inf,
        lambda facts: f"{facts['voxel_mm3']:.3g} mm3 a voxel",
    ),
    Merit(
        "more slices that show something",
        "has fewer slices that show something",
        lambda facts: facts["slices"],
        lambda facts: f"{facts['slices']:.0f}",
    ),
    Merit(
        "its colours, normals or intensities",
        "knows less of its points",
        lambda facts: facts["attributes"],
        lambda facts: f"{facts['attributes']:.0f} numbers a point beside its place",
    ),
    Merit(
        "showing more",
        "shows less",
        lambda facts: facts["size"],
        lambda facts: f"{facts['size']:.0f} {facts['of']}",
    ),
    Merit(
        "being less clipped or blanked",
        "is clipped or blanked more",
        lambda facts: -round(facts["clipped"], 2),
        lambda facts: f"{facts['clipped']:.0%} of it at its lowest or highest value",
    ),
)


@dataclass(frozen=True)
class Worth:
    """How good each scan is among its copies.

    Attributes:
        values: id -> a number, larger for the better; equal where only ids differ.
        facts: id -> what the merits look at.
    """

    values: Mapping[str, float]
    facts: Mapping[str, Facts]

    def why(self, kept: str, other: str) -> str:
        """Return in words what decided for one copy and against another, and in what the kept one is poorer."""
        one, two = self.facts[kept], self.facts[other]
        better = [merit for merit in MERITS if merit.value(one) > merit.value(two)]
        poorer = [merit for merit in MERITS if merit.value(one) < merit.value(two)]
        if better and self.values[kept] > self.values[other]:
            said = f"kept for {better[0].noun}{_amounts(better[0], one, two)}"
        elif self.values[kept] == self.values[other]:
            return "the first by name"
        else:  # another copy, which it was not compared with, stands between
            said = "kept, for it is no copy of a better one"
        lacks = " and ".join(f"{merit.poorer}{_amounts(merit, one, two)}" for merit in poorer)
        return f"{said}, though it {lacks}" if lacks else said


def _amounts(merit: Merit, one: Facts, two: Facts) -> str:
    first, second = merit.shown(one), merit.shown(two)
    if not first or first == second:
        return ""
    return f" ({first}, not {second})"


def keep_priority(
    rows: Sequence[Mapping[str, Any]], prints: Iterable[Fingerprint] = (), *, test_first: bool = False
) -> Worth:
    """Return what scans are worth among their copies.

    A labelled scan goes before others, then one in known units and of a known modality, more than 8 bits before fewer,
    a wider window in HU, smaller voxels, more slices, more voxels, and the one less clipped or blanked. The first by
    name is kept where all of that is equal.

    Args:
        rows: Rows of a manifest.
        prints: Fingerprints of the volumes among them; a scan without one is judged by its row alone.
        test_first: A test scan goes before all that are none, whatever they are like, labels aside: where splits are
            left as they are, a copy is taken out of training and not out of the test.
    """
    by_id = {one.id: one for one in prints}
    facts = {row["id"]: _facts(row, by_id.get(row["id"]), test_first) for row in rows}
    keys = {name: tuple(merit.value(of) for merit in MERITS) for name, of in facts.items()}
    steps = {key: float(place) for place, key in enumerate(sorted(set(keys.values())))}
    return Worth({name: steps[key] for name, key in keys.items()}, facts)


def _facts(row: Mapping[str, Any], one: Fingerprint | None, test_first: bool) -> dict[str, Any]:
    known = one.statistics if one else {}
    cloud = row.get("kind") == "cloud"
    shape, spacing = (one.shape, one.spacing_mm) if one else (row.get("shape"), row.get("spacing_mm"))
    whole = float(math.prod(shape)) if shape else 0.0
    return {
        "labelled": bool(row.get("label_path")),
        "held_out": test_first and row.get("split") == "test",
        "units": (row.get("length_unit") if cloud else row.get("units")) or "",
        # A mesh knows more than its points; of clouds, nobody asks for a modality.
        "modality": "cloud" if cloud else row.get("modality") or "",
        "levels": int(known.get("levels", 1)),
        "width": float(known["p995"] - known["p005"]) if known else 0.0,
        "voxel_mm3": float(math.prod(spacing)) if spacing else 0.0,
        "slices": known.get("slices", float(shape[0]) if shape and not cloud else 0.0),
        "attributes": float(len(row.get("attributes") or ()) if cloud else 0),
        "size": float(row.get("points") or 0) if cloud else known.get("held", whole),
        "of": "points" if cloud else "voxels",
        "clipped": float(known.get("clipped", 0.0)),
    }
