"""Labels that need more than names: on whose grid they lie, which structures they name, and which files are labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import FormatError
from medssl.manifest.describe import lies_on, size_and_time
from medssl.manifest.labels import BY_CASE
from medssl.manifest.series import SET_ASIDE
from medssl.manifest.sources import Source
from medssl.pool import isolated

__all__ = [
    "LABEL_MAP",
    "LABEL_MAP_ERROR",
    "LabelMaps",
    "find_label_maps",
    "known_label_maps",
    "on_their_grid",
    "set_aside",
]

LABEL_MAP = "looks-like-labels"
LABEL_MAP_ERROR = (
    "Its voxels look like a label map, and it was set aside. Name it like its image with _seg, list image and label in "
    "a CSV, or keep such files as scans with label_maps=scan."
)
_SAME_MM = 1e-3


def on_their_grid(sources: Sequence[Source]) -> tuple[list[Source], list[str]]:
    """Take the label of a case from those of its contrasts that lie on another grid, where some lie on its own.

    Returns:
        The sources, and what was done in a sentence.
    """
    sharing: defaultdict[Path, list[int]] = defaultdict(list)
    for place, source in enumerate(sources):
        if source.label_path and BY_CASE in source.flags:
            sharing[source.label_path].append(place)
    result = [replace(source, flags=tuple(flag for flag in source.flags if flag != BY_CASE)) for source in sources]
    dropped = []
    for label, places in sharing.items():
        if len(places) < 2 or label.is_dir():
            continue
        off = [place for place in places if not _lies_on(label, result[place].path)]
        if len(off) < len(places):
            for place in off:
                result[place] = replace(result[place], label_path=None)
            dropped += [result[place].relative for place in off]
    if not dropped:
        return result, []
    return result, [
        f"{len(dropped)} scans lie on another grid than the label of their case and are left without one, such as "
        f"{min(dropped)}."
    ]


@dataclass(frozen=True)
class LabelMaps:
    """What became of files whose voxels look like label maps.

    Attributes:
        label_of: Place of an image -> place of the file that is its label.
        aside: Places of those that belong to no scan, or of which several do.
        notes: Sentences about them.
    """

    label_of: dict[int, int]
    aside: frozenset[int]
    notes: tuple[str, ...]


def find_label_maps(sources: Sequence[Source], facts: Mapping[int, Mapping[str, Any]], *, pair: bool) -> LabelMaps:
    """Find files that look like label maps, and whose they are: of the only scans of their patient on their grid.

    Args:
        sources: The scans; what a person listed by hand is no guess and not among them.
        facts: What reading each said.
        pair: Whether to take them as labels.
    """
    maps = [
        place
        for place, source in enumerate(sources)
        if LABEL_MAP in facts[place]["flags"] and not facts[place].get("error") and source.label_path is None
    ]
    own: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, source in enumerate(sources):
        if place not in set(maps) and not facts[place].get("error") and source.patient:
            own[source.patient, source.study].append(place)
    claims: defaultdict[int, list[int]] = defaultdict(list)
    for place in maps:
        source = sources[place]
        for image in own[source.patient, source.study] if pair else ():
            if sources[image].label_path is None and _same_grid(facts[place], facts[image]):
                claims[image].append(place)
    label_of = {image: labels[0] for image, labels in claims.items() if len(labels) == 1}
    notes = []
    if label_of:
        image, label = min(label_of.items())
        notes.append(
            f"{len(set(label_of.values()))} files look like label maps and lie on the grid of a scan of their patient; "
            f"they are taken for its label, such as {sources[label].relative} of {sources[image].relative}. "
            "Leave them out with label_maps=aside."
        )
    return LabelMaps(label_of, frozenset(maps) - set(label_of.values()), tuple(notes))


def known_label_maps(
    sources: Sequence[Source], pairs: Mapping[str, str], old: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> list[Source]:
    """Attach label maps that an earlier run found by their voxels, where neither file has changed.

    Args:
        sources: The scans.
        pairs: Image -> label, of the earlier run.
        old: Rows of the earlier run by their files.
    """
    by_path = {str(source.path): place for place, source in enumerate(sources) if not source.paths}
    result, taken = list(sources), set()
    for image, label in pairs.items():
        row = old.get((image,))
        if image not in by_path or label not in by_path or row is None or row["label_path"] != label:
            continue
        try:
            same = size_and_time([Path(label)]) == (row["label_size_bytes"], row["label_mtime_ns"])
        except OSError:
            same = False
        if same and result[by_path[image]].label_path is None:
            result[by_path[image]] = replace(result[by_path[image]], label_path=Path(label))
            taken.add(by_path[label])
    return [source for place, source in enumerate(result) if place not in taken]


def set_aside(source: Source, facts: Mapping[str, Any]) -> tuple[Source, dict[str, Any]]:
    """Return a scan and its facts as those of a file that nothing is trained on."""
    return replace(source, flags=(*source.flags, SET_ASIDE)), {**facts, "error": LABEL_MAP_ERROR}


def _lies_on(label: Path, image: Path) -> bool:
    try:
        return isolated(lies_on, label, image)
    except FormatError:  # one of them is not survived, and its row says so
        return True


def _same_grid(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    if list(one["shape"]) != list(two["shape"]):
        return False
    return bool(np.allclose(one["affine"], two["affine"], atol=_SAME_MM))
