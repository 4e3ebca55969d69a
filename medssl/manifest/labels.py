"""Which label belongs to which image, judged by names alone.

Rules, in this order: sibling folders (imagesTr/labelsTr, images/masks and their kind) and an ending beside the image
(``_seg``, ``_gt``, ...) where the rest of the name is the image's; then the case (`rules/cases.py`): all the contrasts
of the label's patient, visit and frame; then a folder of one mask a structure. What no image is found for is an orphan.
A DICOM series that has a folder of its own is named by that folder: ``case_7_seg.nii.gz`` labels ``case_7/*.dcm``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from medssl.manifest.rules.cases import Cases, structure_folders
from medssl.manifest.rules.owners import Owner, owners_of
from medssl.manifest.rules.words import is_label_folder
from medssl.manifest.sources import Source, stem

__all__ = ["BY_CASE", "NO_IMAGE", "Pairs", "label_series", "pair_labels"]

NO_IMAGE = "label-without-image"
BY_CASE = "label-of-the-case"  # found by the case alone; it may lie on another contrast's grid

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
_ENDING = re.compile(r"[_.-](gt|seg|label|labels|labelmap|mask|segmentation|groundtruth)$", re.I)
_FEWEST_PARTS = 2  # labels of one structure each; a single one is taken as the label


@dataclass(frozen=True)
class Pairs:
    """What the names say.

    Attributes:
        label_of: Image -> its label, which may be a folder of one mask a structure.
        labels: Every file that is a label, with an image or without.
        orphans: Labels that no image was found for.
        rivals: Image -> further labels that claim it and were not taken.
        apart: Image -> files of one structure each that lie beside it; none is taken, for each is a part.
        by_case: Images whose label was found by the case alone; it may lie on another contrast's grid.
    """

    label_of: dict[str, str]
    labels: frozenset[str]
    orphans: tuple[str, ...]
    rivals: dict[str, tuple[str, ...]]
    apart: dict[str, tuple[str, ...]] = field(default_factory=dict)
    by_case: frozenset[str] = frozenset()


def pair_labels(files: Iterable[str], owners: Mapping[str, Owner] | None = None) -> Pairs:
    """Attach labels to images.

    Args:
        files: Paths of all scans and labels as seen from the root, with forward slashes, in any order.
        owners: Whose they are; found where not given.

    Example:
        >>> pairs = pair_labels(["p/a_frame01.nii.gz", "p/a_frame01_gt.nii.gz"])
        >>> pairs.label_of
        {'p/a_frame01.nii.gz': 'p/a_frame01_gt.nii.gz'}
    """
    ordered = sorted(files)
    owners = owners if owners is not None else owners_of(ordered)
    in_folder = {name for name in ordered if _label_folder(name) is not None}
    sure = in_folder | {name for name in ordered if owners[name].label == "yes"}
    maybe = {name for name in ordered if owners[name].label == "maybe"} - sure
    exact = _exact(ordered, sure, maybe)
    cases = Cases((name for name in ordered if name not in sure | maybe), owners)
    found = {label: (exact[label], False) if label in exact else cases.of(label) for label in sorted(sure | maybe)}
    loose = {label for label, (images, extra) in found.items() if label in in_folder and (extra or not images)}
    folders = structure_folders(loose, set(ordered) - sure - maybe, owners)
    # image -> (how weak the claim is, label)
    claims: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for label, (images, extra) in found.items():
        weak = 2 if label not in exact else 0 if label in in_folder else 1
        for image in images if label not in folders else ():
            if extra:
                parts[image].append(label)
            else:
                claims[image].append((weak, label))
    for folder, images in dict(folders.values()).items():
        for image in images:
            claims[image].append((3, folder))
    unclaimed = [label for label, (images, _) in found.items() if not images and label not in folders]
    apart = {image: tuple(names) for image, names in parts.items() if len(names) >= _FEWEST_PARTS}
    for image, names in parts.items():
        if image not in apart:
            claims[image].append((2, names[0]))
    ranked = {image: [label for _, label in sorted(own)] for image, own in claims.items()}
    labels = sure | (maybe - set(unclaimed))
    return Pairs(
        label_of={image: names[0] for image, names in ranked.items()},
        labels=frozenset(labels),
        orphans=tuple(name for name in unclaimed if name in sure),
        rivals={image: tuple(names[1:]) for image, names in ranked.items() if len(names) > 1},
        apart=apart,
        by_case=frozenset(image for image, own in claims.items() if min(own)[0] >= 2),
    )


def _exact(ordered: Sequence[str], sure: set[str], maybe: set[str]) -> dict[str, list[str]]:
    """Return label -> images of its very name, in the folder beside its own or in the same."""
    exact: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    channels: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in ordered:
        if name in sure or name in maybe:
            continue
        folder = str(PurePosixPath(name).parent).lower()
        exact[folder, _stem(name)].append(name)
        without = stem(PurePosixPath(name).name, channel=True)
        if without != _stem(name):
            channels[folder, without].append(name)
    found = {}
    for label in sure:
        where = _label_folder(label)
        folders = _image_folders(label, where) if where is not None else [_parent(label).lower()]
        # A mask may carry the image's whole name, or that name and an ending of its own.
        names = [_ENDING.sub("", _stem(label))]
        if where is not None and names[0] != _stem(label):
            names.insert(0, _stem(label))
        keys = [(folder, name) for name in names for folder in folders]
        images = next((known[key] for known in (exact, channels) for key in keys if key in known), [])
        if images:
            found[label] = images
    return found


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
    return next((i for i in reversed(range(len(parts))) if is_label_folder(parts[i])), None)


def _image_folders(label: str, where: int) -> list[str]:
    parts = [part.lower() for part in PurePosixPath(label).parts[:-1]]
    options = _IMAGE_FOLDERS.get(parts[where], ("images", "image", "img"))
    return [str(PurePosixPath(*parts[:where], option, *parts[where + 1 :])) for option in options]
