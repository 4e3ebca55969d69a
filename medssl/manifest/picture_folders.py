"""Folders of pictures that are slices of one scan, told from folders of single pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medssl.errors import FormatError
from medssl.formats.picture_stack import MASK_ENDING, masks_of, natural, numbered_name
from medssl.pool import isolated

__all__ = ["IMAGE_FOLDERS", "PictureRule", "Stack", "stacks_of"]

PictureRule = Literal["auto", "stacks", "single"]
_FEWEST = 3
_LOOKED_AT = 8  # pictures of a folder whose size is compared; the reader compares all
_LABELS = ("masks", "mask", "labels", "label", "segmentations", "segmentation", "annotations", "gt", "labelstr")
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "imagestr", "slices")
_SLICE = re.compile(r"(?<![a-z])(slices?|slc|axial|coronal|sagittal)(?![a-z])", re.I)
_PATIENT = re.compile(
    r"(?<![a-z])(patient|subject|subj|sub|case|pt|study|scan|series|vol|volume|tcga)[-_ ]?[a-z]{0,2}[-_ ]?\d|\d{3,}",
    re.I,
)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Slices of one scan.

    Attributes:
        folder: Where they lie.
        slices: The pictures, in the order of their numbers.
        label: The folder that holds a mask for each; None where there is none.
    """

    folder: Path
    slices: tuple[Path, ...]
    label: Path | None = None


def stacks_of(pictures: Sequence[Path], root: Path, rule: PictureRule) -> tuple[list[Stack], list[Path]]:
    """Return the stacks among pictures, and the pictures that are none of them and no masks of one.

    A folder is a stack where all of its pictures are numbered alike and of one size, and its name or theirs say that it
    is one patient's: never the root itself, and never a folder of a class.

    Args:
        pictures: All pictures.
        root: Where the walk began.
        rule: "auto"; "stacks" takes every folder of numbered pictures, the root too; "single" none.
    """
    if rule == "single":
        return [], list(pictures)
    folders: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in pictures:
        folders[path.parent].append(path)
    stacks = [
        stack
        for folder, inside in folders.items()
        if not _is_label_folder(folder, root)
        for stack in _of_folder(folder, inside, root, rule, set(folders))
    ]
    used = {path for stack in stacks for path in stack.slices}
    for stack in stacks:
        if stack.label is not None:
            used |= {mask for mask in masks_of(stack.slices, stack.label) if mask is not None}
    return stacks, [path for path in pictures if path not in used]


def _of_folder(folder: Path, inside: Sequence[Path], root: Path, rule: PictureRule, folders: set[Path]) -> list[Stack]:
    slices = [path for path in inside if not MASK_ENDING.search(path.stem)]
    groups: defaultdict[tuple[str, str, str], list[Path]] = defaultdict(list)
    for path in slices:
        name = numbered_name(path.stem)
        if name is None:
            return []
        groups[name[0].lower(), name[2].lower(), path.suffix.lower()].append(path)
    if not groups or any(len(group) < _FEWEST or not _distinct(group) for group in groups.values()):
        return []
    owner = folder.parent if folder.name.lower() in IMAGE_FOLDERS else folder
    if rule == "auto" and (owner == root or not root.is_dir() or not _one_patient(owner, list(groups))):
        return []
    if not all(_one_size(group) for group in groups.values()):
        return []
    ordered = [sorted(group, key=natural) for group in groups.values()]
    return [Stack(folder=folder, slices=tuple(group), label=_label_of(group, folder, folders)) for group in ordered]


def _one_patient(owner: Path, names: Sequence[tuple[str, str, str]]) -> bool:
    said = all(_SLICE.search(before) or before.startswith(owner.name.lower()) for before, _, _ in names)
    return said or bool(_PATIENT.search(owner.name))


def _distinct(group: Sequence[Path]) -> bool:
    return len({natural(path)[1] for path in group}) == len(group)


def _one_size(group: Sequence[Path]) -> bool:
    looked_at = list(group[:: max(1, len(group) // _LOOKED_AT)])
    try:
        return len(isolated(_sizes, looked_at)) <= 1
    except FormatError:
        return True  # one of them is not survived, and the reader names it


def _sizes(group: Sequence[Path]) -> set[tuple[int, int]]:
    """Return the sizes of pictures, (width, height). Runs in a worker."""
    from medssl.formats.images import opened

    sizes = set()
    for path in group:
        try:
            with opened(path) as picture:
                sizes.add(picture.size)
        except FormatError:
            continue  # the reader names it
    return sizes


def _label_of(group: Sequence[Path], folder: Path, folders: set[Path]) -> Path | None:
    """Return the folder that holds masks of these slices: their own, one within or beside it, or its twin."""
    options = [folder, *(folder / name for name in _LABELS), *(folder.parent / name for name in _LABELS)]
    for place in range(1, len(folder.parts)):
        if folder.parts[place].lower() in IMAGE_FOLDERS:
            options += [Path(*folder.parts[:place], name, *folder.parts[place + 1 :]) for name in _LABELS]
    by_lower = {str(one).lower(): one for one in folders}
    for option in options:
        found = by_lower.get(str(option).lower())
        if found is not None and any(masks_of(group, found)):
            return found
    return None


def _is_label_folder(folder: Path, root: Path) -> bool:
    inside = folder.relative_to(root).parts if folder.is_relative_to(root) else (folder.name,)
    return any(part.lower() in _LABELS for part in inside)
