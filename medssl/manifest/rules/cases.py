"""Labels by case: a label belongs to every image of its patient, visit and frame, whatever the contrast."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from medssl.manifest.rules.owners import Owner
from medssl.manifest.rules.words import is_label_folder

__all__ = ["Cases", "structure_folders"]

# Of what stands in a name beside patient, visit and contrast, what changes the body that is seen.
_BODY = re.compile(r"(frame|phase|slice|run|rep|scan|acq|echo|part|chunk|patch)\d+|r\d{1,2}|l|r|lh|rh|left|right|ed|es")
_SIDES = {"lh": "l", "left": "l", "rh": "r", "right": "r"}


@dataclass(frozen=True)
class _Key:
    home: tuple[str, ...]
    bare: str


class Cases:
    """The images of a tree by patient.

    Args:
        images: Paths of the images.
        owners: Whose every file is.
    """

    def __init__(self, images: Iterable[str], owners: Mapping[str, Owner]) -> None:
        """Sort images by their patients."""
        self._owners = owners
        self._images: defaultdict[_Key, list[str]] = defaultdict(list)
        for name in sorted(images):
            self._images[_key(owners[name])].append(name)
        self._by_home: defaultdict[tuple[str, ...], list[_Key]] = defaultdict(list)
        for key in self._images:
            self._by_home[key.home].append(key)

    def of(self, label: str) -> tuple[list[str], bool]:
        """Return the images that a label belongs to, and whether it names a structure besides.

        Images of another visit, frame, side or contrast than the label names are no candidates; the label's own folder
        goes first, then folders below it, then any.
        """
        owner = self._owners[label]
        key = _key(owner)
        found, extra = self._images.get(key, []), False
        if not found:  # case_01_OAR_Bladder belongs to case_01
            longer = [k for k in self._by_home[key.home] if _goes_on(key.bare, k.bare)]
            if longer:
                found, extra = self._images[max(longer, key=lambda k: len(k.bare))], True
        extra |= bool(owner.extra)
        found = self._of_visit(owner, found)
        found = found if extra else self._of_body(owner, found)
        if owner.channel and not extra:
            exact = [i for i in found if self._owners[i].channel == owner.channel]
            found = exact or [i for i in found if not self._owners[i].channel]
        folder = str(PurePosixPath(label).parent)
        here = [i for i in found if str(PurePosixPath(i).parent) == folder]
        below = [i for i in found if folder == "." or i.startswith(f"{folder}/")]
        return here or below or found, extra

    def _of_visit(self, owner: Owner, images: list[str]) -> list[str]:
        same = [i for i in images if self._owners[i].study == owner.study]
        if same:
            return same
        visits = {self._owners[i].study for i in images}
        # A label that names no visit is of the only one there is.
        return images if len(visits) == 1 and (not owner.study or visits == {""}) else []

    def _of_body(self, owner: Owner, images: list[str]) -> list[str]:
        same = [i for i in images if _body(self._owners[i]) == _body(owner)]
        if same:
            return same
        bodies = {_body(self._owners[i]) for i in images}
        return images if len(bodies) == 1 and not _body(owner) else []


def structure_folders(
    labels: Iterable[str], images: Iterable[str], owners: Mapping[str, Owner]
) -> dict[str, tuple[str, list[str]]]:
    """Return folders of one mask a structure -> (folder, images that it labels), by the files of the folder.

    ``s0001/segmentations/liver.nii.gz`` beside ``s0001/ct.nii.gz``: the folder is called after labels, its files are
    called after structures, and the folder above holds the images of one patient.

    Args:
        labels: Labels that nothing else claims.
        images: All images.
        owners: Whose every file is.
    """
    above: defaultdict[str, list[str]] = defaultdict(list)
    for image in sorted(images):
        above[str(PurePosixPath(image).parent)].append(image)
    inside: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        folder = PurePosixPath(label).parent
        if is_label_folder(folder.name):
            inside[str(folder)].append(label)
    found: dict[str, tuple[str, list[str]]] = {}
    for place, files in inside.items():
        own = above.get(str(PurePosixPath(place).parent), [])
        named = all(not owners[file].label for file in files)
        if own and named and len({owners[image].patient for image in own}) == 1:
            found |= dict.fromkeys(files, (place, own))
    return found


def _key(owner: Owner) -> _Key:
    return _Key(tuple(folder.casefold() for folder in owner.home), owner.bare)


def _body(owner: Owner) -> frozenset[str]:
    return frozenset(_SIDES.get(word, word) for word in owner.part.split("_") if _BODY.fullmatch(word))


def _goes_on(name: str, beginning: str) -> bool:
    return name.startswith(beginning) and len(name) > len(beginning) and not name[len(beginning)].isalnum()
