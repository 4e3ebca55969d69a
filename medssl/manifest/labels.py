"""Which label belongs to which image, judged by names alone.

Rules, in this order: sibling folders (imagesTr/labelsTr, images/masks and their kind), then an ending beside the image
(``_seg``, ``_gt``, ...). nnU-Net's channel number (``case_0000``) is left off an image's name where nothing else fits.
A DICOM series that has a folder of its own is named by that folder: ``case_7_seg.nii.gz`` labels ``case_7/*.dcm``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from medssl.manifest.sources import Source, stem

__all__ = ["NO_IMAGE", "Pairs", "label_series", "pair_labels"]

NO_IMAGE = "label-without-image"

_IMAGE_FOLDERS = {
    "labelstr": ("imagestr",),
    "labelsts": ("imagests",),
    "labels": ("images", "imagestr", "image", "img"),
    "label": ("image", "images", "img"),
    "masks": ("images", "imagestr", "image", "img"),
    "mask": ("image", "images", "img"),
    "segmentations": ("images", "image", "img"),
    "annotations": ("images", "image", "img"),
}
_ENDING = re.compile(r"[_-](gt|seg|label|labels|labelmap|mask|segmentation|groundtruth)$", re.I)


@dataclass(frozen=True)
class Pairs:
    """What the names say.

    Attributes:
        label_of: Image -> its label.
        labels: Every file that is a label, with an image or without.
        orphans: Labels that no image was found for.
        rivals: Image -> further labels that claim it and were not taken.
    """

    label_of: dict[str, str]
    labels: frozenset[str]
    orphans: tuple[str, ...]
    rivals: dict[str, tuple[str, ...]]


def pair_labels(files: Iterable[str]) -> Pairs:
    """Attach labels to images.

    Args:
        files: Paths of all scans and labels as seen from the root, with forward slashes, in any order.

    Example:
        >>> pairs = pair_labels(["p/a_frame01.nii.gz", "p/a_frame01_gt.nii.gz"])
        >>> pairs.label_of
        {'p/a_frame01.nii.gz': 'p/a_frame01_gt.nii.gz'}
    """
    ordered = sorted(files)
    in_folder = {name: where for name in ordered if (where := _label_folder(name)) is not None}
    by_ending = {name for name in ordered if name not in in_folder and _ENDING.search(_stem(name))}
    labels = frozenset(in_folder) | by_ending
    exact: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    channels: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in ordered:
        if name in labels:
            continue
        folder = str(PurePosixPath(name).parent).lower()
        exact[folder, _stem(name)].append(name)
        without = stem(PurePosixPath(name).name, channel=True)
        if without != _stem(name):
            channels[folder, without].append(name)
    claims: defaultdict[str, list[str]] = defaultdict(list)
    orphans = []
    for label in ordered:
        if label not in labels:
            continue
        folders = _image_folders(label, in_folder[label]) if label in in_folder else [_parent(label).lower()]
        # A mask may carry the image's whole name, or that name and an ending of its own.
        names = [_ENDING.sub("", _stem(label))]
        if label in in_folder and names[0] != _stem(label):
            names.insert(0, _stem(label))
        keys = [(folder, name) for name in names for folder in folders]
        images = next((found[key] for found in (exact, channels) for key in keys if key in found), [])
        for image in images:
            claims[image].append(label)
        if not images:
            orphans.append(label)
    # A folder of labels is a stronger claim than an ending; beyond that the first name wins, and the rest are told.
    ranked = {image: sorted(names, key=lambda name: (name not in in_folder, name)) for image, names in claims.items()}
    return Pairs(
        label_of={image: names[0] for image, names in ranked.items()},
        labels=labels,
        orphans=tuple(orphans),
        rivals={image: tuple(names[1:]) for image, names in ranked.items() if len(names) > 1},
    )


def label_series(files: Sequence[Source], series: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """Attach labels that no file claimed to the DICOM series that lies alone in a folder of their name.

    Args:
        files: Sources that are files; labels without an image have the flag ``NO_IMAGE``.
        series: Sources of DICOM series; their path is their folder.

    Returns:
        The files without the labels that were attached, and the series with them.
    """
    volumes: defaultdict[str, list[int]] = defaultdict(list)  # folder -> places of its series
    for place, source in enumerate(series):
        if source.error is None:
            volumes[source.relative].append(place)
    left, labelled = [], list(series)
    for source in files:
        name = str(PurePosixPath(source.relative).with_name(_ENDING.sub("", _stem(source.relative))))
        places = volumes.get(name, []) if NO_IMAGE in source.flags else []
        if len(places) == 1 and labelled[places[0]].label_path is None:
            labelled[places[0]] = replace(labelled[places[0]], label_path=source.path)
        else:
            left.append(source)
    return left, labelled


def _stem(name: str) -> str:
    return stem(PurePosixPath(name).name)


def _parent(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _label_folder(name: str) -> int | None:
    """Return which folder of the path says that it holds labels, the innermost first."""
    parts = PurePosixPath(name).parts[:-1]
    return next((i for i in reversed(range(len(parts))) if parts[i].lower() in _IMAGE_FOLDERS), None)


def _image_folders(label: str, where: int) -> list[str]:
    parts = [part.lower() for part in PurePosixPath(label).parts[:-1]]
    options = _IMAGE_FOLDERS[parts[where]]
    return [str(PurePosixPath(*parts[:where], option, *parts[where + 1 :])) for option in options]
