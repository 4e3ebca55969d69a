"""What a classifier learns from: scans, slices or sets of slices of a store, each with its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.store.entry import Entry
from medssl.store.read import Store

if TYPE_CHECKING:
    from medssl.tasks.class_settings import ClassificationSettings

__all__ = ["ABSENT", "PRESENT", "Samples", "class_names", "class_of_scan", "class_weights", "samples_of"]

Whole = npt.NDArray[np.int64]
ABSENT = "absent"
PRESENT = "present"


@dataclass(frozen=True)
class Samples:
    """Samples row by row; S of them.

    Attributes:
        store: Their scans.
        item: The scan of each, a row of the store, (S,).
        place: The middle slice of a slice's sample, (S,); -1 for a scan or a set of its slices.
        target: The class, (S,); -1 where it is not known.
        classes: Names of the classes.
    """

    store: Store
    item: Whole
    place: Whole
    target: Whole
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.item)

    def taken(self, rows: npt.ArrayLike) -> Samples:
        """Return some of the samples."""
        chosen = np.asarray(rows)
        return Samples(self.store, self.item[chosen], self.place[chosen], self.target[chosen], self.classes)

    def known(self) -> Samples:
        """Return the samples whose class is known."""
        return self.taken(np.flatnonzero(self.target >= 0))

    def counts(self) -> dict[str, int]:
        """Return how many samples each class has."""
        return {name: int((self.target == number).sum()) for number, name in enumerate(self.classes)}

    def patients(self) -> list[str]:
        """Return the patient of each sample; a scan without one is a patient of its own."""
        keys = [entry.patient or entry.id for entry in self.store.entries]
        return [keys[item] for item in self.item]


def class_names(store: Store, settings: ClassificationSettings, *, group: str = "classification") -> tuple[str, ...]:
    """Return the classes that a classifier of this store distinguishes, in the order of its outputs.

    Args:
        store: All scans.
        settings: What is asked for.
        group: Dotted key of these settings, for errors.

    Raises:
        ConfigError: There is no such target or structure; or neither, or both, are asked for; or a class is unknown.
        DataError: The target has fewer than two classes.
    """
    named = sorted({name for entry in store.entries for name, _ in entry.targets})
    if bool(settings.target) == (settings.shows is not None):
        listed = ", ".join([*named, *(f"shows={n} ({name})" for n, name in sorted(store.classes.items()) if n > 0)])
        raise ConfigError(
            f"A classifier needs classes: name a target of the store with {group}.target=NAME, or a structure "
            f"that a scan or slice may show with {group}.shows=NUMBER, and not both. The store has: "
            f"{listed or 'none'}. Classes come in with: medssl index SCANS --targets FILE, then medssl cache."
        )
    if settings.shows is not None:
        if settings.shows not in store.classes or settings.shows < 1:
            known = ", ".join(f"{n} ({name})" for n, name in sorted(store.classes.items()) if n > 0) or "none"
            raise ConfigError(f"{group}.shows: the store has no structure {settings.shows}. It has: {known}.")
        return ABSENT, PRESENT
    if settings.target not in named:
        hint = did_you_mean(settings.target, named) if named else "It has none: index with --targets FILE, then cache."
        raise ConfigError(f"{group}.target: the store has no target '{settings.target}'. {hint}")
    found = sorted({label for entry in store.entries if (label := entry.target(settings.target)) is not None})
    if settings.classes is not None:
        unknown = [name for name in settings.classes if name not in found]
        if unknown or len(set(settings.classes)) < len(settings.classes):
            raise ConfigError(
                f"{group}.classes: allowed are the different classes of '{settings.target}', "
                f"{', '.join(found)}. Got {', '.join(settings.classes)}."
            )
        found = list(settings.classes)
    if len(found) < 2:
        raise DataError(
            f"{store.folder}: '{settings.target}' has one class in this store, {', '.join(found)}. Two are needed."
        )
    return tuple(found)


def class_of_scan(entry: Entry, settings: ClassificationSettings) -> str | None:
    """Return what is known of a scan before its voxels are read: its class, or that its label map will tell.

    For a structure that is shown or not, PRESENT stands for every scan with a label map.
    """
    if settings.shows is not None:
        return PRESENT if entry.label_file is not None else None
    label = entry.target(settings.target)
    return label if settings.classes is None or label in settings.classes else None


def samples_of(store: Store, settings: ClassificationSettings, classes: Sequence[str]) -> Samples:
    """Return all samples of a store, those of unknown class too.

    Where the class is a structure's presence, label maps are read once, here.

    Args:
        store: The scans.
        settings: Level and target.
        classes: From `class_names`.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    items: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    for index, entry in enumerate(store.entries):
        spots = _middles(entry) if settings.level == "slice" else [-1]
        if settings.shows is None:
            found = [numbers.get(entry.target(settings.target) or "", -1)] * len(spots)
        else:
            found = _shown(store, index, settings, spots)
        items += [index] * len(spots)
        places += spots
        targets += found
    return Samples(store, _whole(items), _whole(places), _whole(targets), tuple(classes))


def class_weights(samples: Samples) -> Mapping[int, float]:
    """Return the weight of each class that makes all classes that occur count alike; their mean over samples is 1."""
    counts = np.bincount(samples.target[samples.target >= 0], minlength=len(samples.classes))
    present = int((counts > 0).sum())
    return {number: float(counts.sum() / (present * count)) if count else 0.0 for number, count in enumerate(counts)}


def _middles(entry: Entry) -> list[int]:
    return list(range(entry.body_box[0][0], entry.body_box[1][0]))


def _shown(store: Store, index: int, settings: ClassificationSettings, spots: Sequence[int]) -> list[int]:
    if store.entries[index].label_file is None:
        return [-1] * len(spots)
    voxels = (store.labels(index) == settings.shows).sum(axis=(1, 2))
    if spots == [-1]:
        return [int(voxels.sum() >= settings.shows_voxels)]
    return [int(voxels[spot] >= settings.shows_voxels) for spot in spots]


def _whole(values: Sequence[int]) -> Whole:
    return np.array(values, dtype=np.int64)
