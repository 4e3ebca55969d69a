"""Splits that folders say: ``train/``, ``val/``, ``test/``, and ``imagesTs`` of nnU-Net."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from medssl.manifest.rules.words import split_of_folder

__all__ = ["FolderSplits", "folder_splits"]

_FOLD = re.compile(r"(fold|cv)[-_ ]?\d+", re.I)


@dataclass(frozen=True)
class FolderSplits:
    """What folders say of splits.

    Attributes:
        of: Image -> "test" or "val". Images of a folder for training are left to the draw, for validation patients may
            have to be drawn from them.
        held: Splits that the folders give whole, so that none is drawn besides.
        notes: Sentences about them.
    """

    of: dict[str, str] = field(default_factory=dict)
    held: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def folder_splits(images: Iterable[str], labelled: Collection[str], *, keep: bool) -> FolderSplits:
    """Return the splits of images whose folders name them beside others: ``test/`` counts only beside ``train/``.

    A test folder whose images have no labels, where others have, gives test patients, but others are drawn besides.

    Args:
        images: Paths as seen from the root.
        labelled: Those that have a label.
        keep: Whether to keep such a split.
    """
    ordered = sorted(images)
    beside: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for name in ordered:
        for place, folder in enumerate(PurePosixPath(name).parts[:-1]):
            if split := split_of_folder(folder):
                beside[PurePosixPath(name).parts[:place]].add(split)
    said: dict[str, str] = {}
    for name in ordered:
        parts = PurePosixPath(name).parts[:-1]
        for place, folder in enumerate(parts):
            split = split_of_folder(folder)
            if split and len(beside[parts[:place]]) > 1:
                said[name] = split
                break
    folds = {folder for name in ordered for folder in PurePosixPath(name).parts[:-1] if _FOLD.fullmatch(folder)}
    notes = []
    if len(folds) > 1:
        notes.append(f"The folders {', '.join(sorted(folds)[:3])} ... are folds; they are not taken as a split.")
    counts = Counter(said.values())
    if not counts:
        return FolderSplits(notes=tuple(notes))
    listed = ", ".join(f"{name} {counts[name]}" for name in ("train", "val", "test") if counts[name])
    if not keep:
        notes.append(f"The split of the folders ({listed}) is not kept, as asked; it is drawn anew.")
        return FolderSplits(notes=tuple(notes))
    some = any(name in labelled for name in ordered)
    held = tuple(
        split
        for split in ("val", "test")
        if counts[split] and (not some or any(name in labelled for name, own in said.items() if own == split))
    )
    drawn = [split for split in ("val", "test") if split not in held]
    more = f"; {' and '.join(drawn)} is drawn from the other patients" if len(drawn) == 1 else ""
    more = "; val and test are drawn from the other patients" if len(drawn) == 2 else more
    notes.append(f"The split of the folders is kept ({listed}){more}. Draw it anew with keep_split=false.")
    return FolderSplits({name: split for name, split in said.items() if split != "train"}, held, tuple(notes))
