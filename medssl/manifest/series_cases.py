"""Which DICOM series of one study may be channels of one case, and which stay apart.

A series says its contrast (`formats.dicom_contrast`), its patient, its study and its frame of reference. What
lies in another frame of reference has no place in common with the others; thick slices in another plane, and what does
not cover the same region, share too little to be laid on one grid.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medssl import geometry
from medssl.formats.dicom_contrast import TOLD_BY_FACTS, TOLD_BY_PART, TOLD_BY_TIMES, TOLD_BY_WORDS
from medssl.manifest.rules.channels import ordered_channels

__all__ = ["GAP_MM", "SeriesGroups", "contrast_told", "guess_lines", "is_series", "series_groups"]

GAP_MM = 20.0  # how far the first channel may reach beyond another one, see medssl cache channel_gap_mm
_THICK = 2.0  # spacing between slices over that inside of them, from which a plane is a plane
_SAME_PLANE = 0.94  # cosine of 20 degrees
_PLANES = ("sag", "cor", "tra")  # by the axis of the world that lies across them: x, y, z
_SHOWN = 4
_WORDS = {
    TOLD_BY_WORDS: "by words of their descriptions",
    TOLD_BY_TIMES: "by their echo, repetition and inversion times",
}
Row = dict[str, Any]


@dataclass
class SeriesGroups:
    """Series by study and frame of reference.

    Attributes:
        of: Key of a case -> channel in lower case -> its rows.
        notes: Which series stay apart, and why.
    """

    of: dict[tuple[str, str, str], dict[str, list[Row]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_series(row: Mapping[str, Any]) -> bool:
    """Tell whether a row is a DICOM series that says its study."""
    return row.get("format") == "dicom" and bool(row.get("series")) and not row.get("error")


def contrast_told(row: Mapping[str, Any]) -> str:
    """Return what told the contrast of a series, as `formats.dicom_contrast` calls it; "" of other scans."""
    return str(json.loads(row.get("fields") or "{}").get("contrast_rule", ""))


def series_groups(rows: Sequence[Row], *, said: Collection[str] = (), gap_mm: float = GAP_MM) -> SeriesGroups:
    """Sort the series of a manifest to cases, and change ``channel`` where planes or phases tell series apart.

    Args:
        rows: Rows that `is_series`, with a channel each.
        said: Channels that somebody names, in lower case: time points are channels only where they are.
        gap_mm: How far, in mm, the first channel may reach beyond another one.
    """
    studies: defaultdict[tuple[str, str], defaultdict[str, list[Row]]]
    studies = defaultdict(lambda: defaultdict(list))
    for row in rows:
        frame = str(json.loads(row["fields"]).get("frame_of_reference", ""))
        studies[row["patient"], row["study"] or ""][frame].append(row)
    found = SeriesGroups()
    elsewhere: list[Row] = []
    uncovered: list[tuple[Row, float]] = []
    turned: list[Row] = []
    aside: set[int] = set()
    for (patient, study), frames in sorted(studies.items()):
        for own in frames.values():
            _plain_phases(own)
            others = [row for row in _other_planes(own) if row["channel"].casefold() not in said]
            turned += others
            aside |= {id(row) for row in others}
        full = {frame: own for frame, own in frames.items() if len({row["channel"] for row in own}) > 1}
        if len(frames) > 1:
            elsewhere += [row for frame, own in frames.items() if frame not in full for row in own]
        for frame, own in frames.items() if len(frames) == 1 else full.items():
            channels: dict[str, list[Row]] = {}
            for row in sorted(own, key=lambda row: str(row["path"])):
                timed = contrast_told(row) == TOLD_BY_PART and row["channel"].casefold() not in said
                if id(row) not in aside and not timed:
                    channels.setdefault(row["channel"].casefold(), []).append(row)
            uncovered += _uncovered(channels, gap_mm, said)
            if channels:
                found.of[patient, study, frame if len(full) > 1 else ""] = channels
    found.notes += _said(elsewhere, "lie in a frame of reference of their own and stay apart from their study's others")
    found.notes += _said(turned, "are thick slices in another plane than their study's others and stay apart")
    if uncovered:
        row, most = uncovered[0]
        words = (
            f"do not cover the first channel of their study ({most:.0f} mm are lacking of the first of them, more than "
            f"channel_gap_mm={gap_mm:g}) and stay apart"
        )
        found.notes += _said([row for row, _ in uncovered], words)
    return found


def guess_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which contrasts of DICOM series are guesses, a line for each way to guess."""
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    facts: Counter[str] = Counter()
    for row in rows:
        if not is_series(row) or not row["channel"]:
            continue
        rule = contrast_told(row)
        if rule in _WORDS:
            counted[rule][row["channel"]] += 1
        elif rule == TOLD_BY_FACTS:
            facts[row["channel"]] += 1
    lines: list[str] = []
    if len({*facts, *(name for own in counted.values() for name in own)}) < 2:
        return lines  # a cohort of CT alone
    for rule, words in _WORDS.items():
        if counted[rule]:
            lines.append(f"guess: DICOM series are named {words}: {_counts(counted[rule])}")
    if facts:
        lines.append(f"DICOM series are named by modality, b-value or kind of image: {_counts(facts)}")
    return lines


def _counts(counted: Counter[str]) -> str:
    ordered = ordered_channels(counted)
    more = f", and {len(ordered) - 2 * _SHOWN} more names" if len(ordered) > 2 * _SHOWN else ""
    return ", ".join(f"{name} {counted[name]}" for name in ordered[: 2 * _SHOWN]) + more


def _plain_phases(rows: Sequence[Row]) -> None:
    """Call the only CT of a study ct, whatever its phase: names of phases tell several apart."""
    of_ct = [row for row in rows if row["channel"] == "ct" or row["channel"].startswith("ct_")]
    if len(of_ct) == 1:
        of_ct[0]["channel"] = "ct"


def _other_planes(rows: Sequence[Row]) -> list[Row]:
    """Return thick slices that lie in another plane than most channels do, with the plane in their name."""
    normals = {id(row): normal for row in rows if (normal := _normal(row)) is not None}
    thick = [row for row in rows if id(row) in normals]
    planes: list[list[Row]] = []
    for row in sorted(thick, key=lambda row: str(row["path"])):
        same = next((p for p in planes if abs(normals[id(p[0])] @ normals[id(row)]) > _SAME_PLANE), None)
        if same is None:
            planes.append([row])
        else:
            same.append(row)
    if len(planes) < 2:
        return []

    def rank(plane: list[Row]) -> tuple[int, bool, int]:
        across = int(np.abs(normals[id(plane[0])]).argmax())
        return len({row["channel"] for row in plane}), any(row["label_path"] for row in plane), across

    main = max(planes, key=rank)
    others = [row for plane in planes if plane is not main for row in plane]
    for row in others:
        plane_name = _PLANES[int(np.abs(normals[id(row)]).argmax())]
        row["channel"] = f"{row['channel']}_{plane_name}"
    return others


def _normal(row: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return what stands across the slices of a scan, as a unit vector of the world; None of thin ones."""
    if not row.get("affine") or not row.get("spacing_mm"):
        return None
    between, *inside = row["spacing_mm"]
    if between < _THICK * max(inside):
        return None
    across = np.array(row["affine"], dtype=np.float64).reshape(4, 4)[:3, 2]
    return np.asarray(across / np.linalg.norm(across))


def _uncovered(channels: dict[str, list[Row]], gap_mm: float, said: Collection[str]) -> list[tuple[Row, float]]:
    """Take out the series that the first channel of the case reaches beyond, with how far it does, in mm."""
    order = [name for name in said if name in channels] or list(ordered_channels(channels))
    if len(order) < 2 or any(row["affine"] is None for own in channels.values() for row in own):
        return []
    lead = channels[order[0]][0]
    taken = []
    for name in list(channels):
        if name == order[0]:
            continue
        for row in list(channels[name]):
            beyond = geometry.beyond_mm(tuple(lead["shape"]), _affine(lead), tuple(row["shape"]), _affine(row))
            if beyond > gap_mm:
                channels[name].remove(row)
                taken.append((row, beyond))
        if not channels[name]:
            del channels[name]
    return taken


def _affine(row: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(row["affine"], dtype=np.float64).reshape(4, 4)


def _said(rows: Sequence[Row], words: str) -> list[str]:
    if not rows:
        return []
    shown = ", ".join(f"{row['id']} ({row['channel']})" for row in rows[:_SHOWN])
    more = f", and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return [
        f"{len(rows)} DICOM series {words}: {shown}{more}. A CSV with the columns path, case and channel joins them "
        "all the same."
    ]
