"""DICOM SEG and RTSTRUCT files to the series that they label, wherever in the tree either lies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.errors import FormatError
from medssl.manifest.labels import NO_IMAGE
from medssl.manifest.sources import Source
from medssl.pool import isolated

if TYPE_CHECKING:
    from medssl.formats.dicom_labels import LabelReference

__all__ = ["LABEL_OBJECT", "attach_labels"]

LABEL_OBJECT = "dicom-label"
_ABSENT = (
    "It labels a DICOM series that is not here. Put the series anywhere in the folder, or list both in a CSV with the "
    "columns path and label."
)
_WHICH = (
    "It does not say which of {count} volumes it labels (they share a {what}). List both in a CSV with the columns "
    "path and label."
)


def attach_labels(sources: Sequence[Source]) -> list[Source]:
    """Set the labels of series.

    A label belongs to the series that it names. Where one series holds several volumes, the images that it names say
    which; a label that names no series belongs to the one scan of its patient with its frame of reference. Where
    several labels mean one scan, a SEG goes before an RTSTRUCT, then the one with the most structures, then the first
    by name; the scan is flagged.

    Args:
        sources: Series, and labels with the flag ``LABEL_OBJECT``.

    Returns:
        The series with their labels, other sources, and labels whose scan is not here, with the reason.
    """
    labels = [source for source in sources if LABEL_OBJECT in source.flags]
    result = [source for source in sources if LABEL_OBJECT not in source.flags]
    if not labels:
        return result
    from medssl.formats.dicom_labels import label_reference

    claims: defaultdict[int, list[tuple[tuple[object, ...], Source]]] = defaultdict(list)
    orphans = []
    for label in labels:
        try:
            reference = isolated(label_reference, label.path)
        except FormatError as error:
            orphans.append(replace(label, flags=(), error=error.reason))
            continue
        places, why = _meant(reference, result)
        if not places:
            orphans.append(replace(label, flags=(NO_IMAGE,), error=why))
        rank = (reference.kind != "SEG", -len(reference.structures), label.relative)
        for place in places:
            claims[place].append((rank, label))
    for place, found in claims.items():
        found.sort(key=lambda claim: claim[0])
        source = result[place]
        flags = (*source.flags, "several-labels") if len(found) > 1 else source.flags
        result[place] = replace(source, label_path=found[0][1].path, flags=flags)
    return result + orphans


def _meant(reference: LabelReference, sources: Sequence[Source]) -> tuple[list[int], str]:
    """Return the places of the scans that a label means, or why there is none."""
    scans = [place for place, source in enumerate(sources) if source.error is None and source.series]
    places = [place for place in scans if sources[place].series.rpartition("/")[2] in reference.series]
    what = "SeriesInstanceUID"
    if not reference.series:
        what = "frame of reference"
        places = [
            place
            for place in scans
            if sources[place].frame_of_reference in reference.frames_of_reference
            and _patient(sources[place]) == reference.patient
        ]
    of_patient = [place for place in places if _patient(sources[place]) == reference.patient]
    places = of_patient or places
    if not places:
        return [], _ABSENT
    if len(places) > 1:
        named = [place for place in places if _images(sources[place]) & reference.images]
        if not named:
            return [], _WHICH.format(count=len(places), what=what)
        most = max(len(_images(sources[place]) & reference.images) for place in named)
        # Copies of a series share their images, and the label.
        places = [place for place in named if len(_images(sources[place]) & reference.images) == most]
    return places, ""


def _patient(source: Source) -> str:
    return source.series.partition("/")[0]


def _images(source: Source) -> set[str]:
    """Return the hashes of SOPInstanceUID of a series' slices."""
    try:
        return isolated(_images_of, source.paths)
    except FormatError:
        return set()


def _images_of(paths: Sequence[Path]) -> set[str]:
    from medssl.formats.dicom import series_of

    return {one.sop for frame in series_of(paths).stack.frames for one in frame}
