"""A manifest with what was said of each scan: copies first, then a strategy among those that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from medssl.manifest.columns import COLUMNS
from medssl.manifest.schema import Manifest
from medssl.reduction.leaders import Choice
from medssl.reduction.marks import Mark

__all__ = ["Counts", "counts_of", "marked", "with_choice"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a reduction came to.

    Attributes:
        scans: Readable scans.
        kept: Scans that are kept.
        levels: Level -> scans that were left out for it; "not chosen" is the strategy's.
        unreadable: Scans that cannot be read.
        groups: Groups of two or more scans that are copies of each other.
    """

    scans: int
    kept: int
    levels: dict[str, int]
    unreadable: int
    groups: int


def with_choice(marks: Mapping[str, Mark], ids: Sequence[str], choice: Choice, strategy: str) -> dict[str, Mark]:
    """Return marks where scans that a strategy does not choose are left out.

    Args:
        marks: From `marks.mark_copies`.
        ids: The scans that the strategy chose from; all of them are kept so far.
        choice: What it chose.
        strategy: Its name.
    """
    result = dict(marks)
    stands: dict[str, str] = {}
    for place, name in enumerate(ids):
        who = int(choice.representative[place])
        if who == place:
            continue
        distance = float(choice.distance[place])
        near = f"{ids[who]} is {distance:.3g} away" if who >= 0 else ""
        stands[name] = ids[who] if who >= 0 else name
        result[name] = replace(
            marks[name],
            keep=False,
            reason=f"not chosen by {strategy}{': ' if near else ''}{near}",
            level="not chosen",
            representative=stands[name],
            distance=distance if who >= 0 else 0.0,
        )
    # Who stood for copies and is left out itself hands them on to the scan that now stands for it.
    for name, mark in marks.items():
        if not mark.keep and mark.representative in stands and mark.level != "unreadable":
            result[name] = replace(
                mark,
                reason=f"{mark.reason}, which {strategy} does not choose",
                representative=stands[mark.representative],
            )
    return result


def marked(manifest: Manifest, marks: Mapping[str, Mark], moved: Mapping[str, str], prints: str) -> Manifest:
    """Return the manifest with the marks in its columns, rows as they were.

    Scans without a mark keep what an earlier reduction said of them; those that the manifest itself lists as unreadable
    are left out.

    Args:
        manifest: What was reduced.
        marks: id -> mark.
        moved: id -> split for scans that change it.
        prints: The folder of fingerprints, kept in the manifest's settings.
    """
    rows = []
    for row in manifest.rows():
        mark = marks.get(row["id"])
        if row["error"] is not None:
            row |= {"keep": False, "level": "unreadable", "reason": "unreadable", "representative": row["id"]}
        elif mark is not None:
            row |= {
                "keep": mark.keep,
                "group": mark.group,
                "level": mark.level or None,
                "reason": mark.reason,
                "distance": mark.distance,
                "score": mark.score,
                "representative": mark.representative,
                "split": moved.get(row["id"], row["split"]),
            }
        rows.append(row)
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    return replace(manifest, frame=frame, settings={**manifest.settings, "prints": prints})


def counts_of(rows: Sequence[Mapping[str, Any]], marks: Mapping[str, Mark]) -> Counts:
    """Return what the marks of these rows come to."""
    levels: dict[str, int] = {}
    groups: set[str] = set()
    for mark in marks.values():
        if mark.keep:
            continue
        levels[mark.level] = levels.get(mark.level, 0) + 1
        if mark.level.startswith("same"):
            groups.add(mark.representative)
    return Counts(
        scans=len(rows),
        kept=sum(mark.keep for mark in marks.values()),
        levels=dict(sorted(levels.items())),
        unreadable=levels.get("unreadable", 0),
        groups=len(groups),
    )
