"""Which items of a store a run trains on, watches and predicts; no patient is trained on and held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from medssl.domains.data_settings import DataSettings, LabelledSettings
from medssl.errors import DataError
from medssl.evaluation.draws import stratified_patients
from medssl.randomness import numpy_generator

__all__ = ["Chosen", "Items", "Labelled", "choose_items", "choose_labelled", "data_facts", "has_labels"]


class Items(Protocol):
    """A store; an entry has an id, a patient and a split."""

    folder: Path

    @property
    def entries(self) -> Sequence[Any]:
        """What it holds."""
        ...

    def field(self, name: str) -> list[Any]:
        """Return a field of every entry."""
        ...

    def at(self, places: Iterable[int]) -> Self:
        """Return the store of the entries at these places."""
        ...

    def subset(self, ids: Iterable[str]) -> Self:
        """Return the store of these alone."""
        ...


S = TypeVar("S", bound=Items)
_HELD_OUT = 7  # a counter that keeps these draws apart from all others


@dataclass(frozen=True)
class Chosen(Generic[S]):
    """The items of a pretraining run: those that are trained on, and those that are only probed."""

    train: S
    held_out: S | None


@dataclass(frozen=True)
class Labelled(Generic[S]):
    """The items of a fine-tuning run by use; who is trained on is neither held out nor predicted, but by wish.

    Attributes:
        train: Labelled items that are trained on.
        held_out: Labelled items that are only scored; None where there are none.
        predict: Items to predict, labelled or not; None where there are none.
        left_out: Items of the training splits without labels.
    """

    train: S
    held_out: S | None
    predict: S | None
    left_out: int


def choose_items(store: S, data: DataSettings, *, seed: int, noun: str = "scan") -> Chosen[S]:
    """Return what is trained on and what is held out; no patient is in both.

    Raises:
        DataError: Nothing is in the splits that are trained on.
    """
    splits = store.field("split")
    train = [place for place, split in enumerate(splits) if split in data.splits]
    held_out = [
        place for place, split in enumerate(splits) if split == data.held_out_split and split not in data.splits
    ]
    if not held_out and data.held_out_share:
        owners = [patient or own for patient, own in zip(store.field("patient"), store.field("id"), strict=True)]
        patients = sorted({owners[place] for place in train})
        if len(patients) >= 20:
            order = numpy_generator(seed, 0, 0, _HELD_OUT).permutation(len(patients))
            chosen = {patients[i] for i in order[: max(1, round(data.held_out_share * len(patients)))]}
            held_out = [place for place in train if owners[place] in chosen]
            train = [place for place in train if owners[place] not in chosen]
    if not train:
        counts = dict(Counter(split or "unassigned" for split in splits))
        raise DataError(
            f"{store.folder}: no {noun} is in the splits {list(data.splits)} (data.splits); the store has {counts}."
        )
    if data.held_out_scans < len(held_out):
        order = numpy_generator(seed, 1, 0, _HELD_OUT).permutation(len(held_out))
        held_out = [held_out[i] for i in sorted(order[: data.held_out_scans])]
    return Chosen(train=store.at(train), held_out=store.at(held_out) if held_out else None)


def data_facts(chosen: Chosen[Any], noun: str) -> dict[str, Any]:
    """Return what a card says of the data: counts, how the store was made, and its fingerprint."""
    entries = chosen.train.entries
    stored = "\n".join(sorted(f"{e.id} {' '.join(getattr(e, 'files', (e.file,)))}" for e in entries))
    return {
        f"{noun}s": len(entries),
        "patients": len({e.patient or e.id for e in entries}),
        "held_out": 0 if chosen.held_out is None else len(chosen.held_out),
        "store_settings": chosen.train.settings,
        "fingerprint": hashlib.sha256(stored.encode()).hexdigest(),
    }


def has_labels(entry: Any) -> str | None:
    """Return "labelled" where an item has a label map, or labels of its points."""
    return None if entry.label_file is None else "labelled"


def choose_labelled(
    store: S,
    settings: LabelledSettings,
    *,
    class_of: Callable[[Any], str | None] = has_labels,
    noun: str = "scan",
    wanted: str = "labels",
    every_held_out: bool = False,
) -> Labelled[S]:
    """Return the items of a fine-tuning run.

    Args:
        store: All items.
        settings: Splits or ids, and how many patients' labels.
        class_of: The class of an item, None where it has none. Draws of a few patients hold every class.
        noun: What an item is called.
        wanted: What an item without a class lacks.
        every_held_out: Whether all held-out items are taken, unless ``held_out_scans`` is 0.

    Raises:
        DataError: If no labelled item is left to train on, an id is unknown, or more patients are asked for than are.
    """
    if settings.ids is not None:
        candidates = list(store.subset(settings.ids).entries)
    else:
        candidates = [e for e in store.entries if e.split in settings.splits]
    train = [e for e in candidates if class_of(e) is not None]
    if not train:
        counts = dict(Counter(e.split or "unassigned" for e in store.entries if class_of(e) is not None))
        raise DataError(
            f"{store.folder}: no labelled {noun} is in the splits {list(settings.splits)} (data.splits). Labelled "
            f"{noun}s of the store by split: {counts or 'none'}. Name other splits, or index the {noun}s with their "
            f"{wanted}."
        )
    if settings.labels is not None:
        classes = {_patient(e): class_of(e) or "" for e in reversed(train)}
        chosen = set(stratified_patients(classes, settings.labels, draw=settings.draw, seed=settings.draw_seed))
        train = [e for e in train if _patient(e) in chosen]
    trained_on = {_patient(e) for e in train}
    held_out = [
        e
        for e in store.entries
        if e.split == settings.held_out_split and class_of(e) is not None and _patient(e) not in trained_on
    ]
    if not every_held_out or not settings.held_out_scans:
        held_out = held_out[: settings.held_out_scans]
    predict = [e for e in store.entries if e.split in settings.predict or e.id in settings.predict]
    return Labelled(
        train=store.subset([e.id for e in train]),
        held_out=store.subset([e.id for e in held_out]) if held_out else None,
        predict=store.subset([e.id for e in predict]) if predict else None,
        left_out=sum(class_of(e) is None for e in candidates),
    )


def _patient(entry: Any) -> str:
    return str(entry.patient or entry.id)
