"""The labelled patients of a protocol: which scans may be drawn, which are tested, and the draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from medssl.errors import DataError
from medssl.evaluation.label_sets import LabelSets, drawn_sets, named_sets, sizes_of_shares
from medssl.store.entry import Entry
from medssl.store.read import Store
from pointcloud.store import CloudEntry, CloudStore

__all__ = ["check_apart", "label_sets_of", "patient_of", "train_and_test"]

S = TypeVar("S", Store, CloudStore)
E = TypeVar("E", Entry, CloudEntry)


def patient_of(entry: Entry | CloudEntry) -> str:
    """Return the patient's key; a scan without one is a patient of its own."""
    return entry.patient or entry.id


def train_and_test(store: S, class_of: Callable[[Any], str | None], *, split: str, protocol: str) -> tuple[S, S]:
    """Return the scans of known class that may be drawn, and those that are tested.

    Args:
        store: All scans.
        class_of: The class of a scan, None where it is not known.
        split: The split that is tested.
        protocol: Its name, for errors.

    Raises:
        DataError: There are none of either, or a patient is in both.
    """
    train = [e for e in store.entries if class_of(e) is not None and e.split in ("train", "")]
    test = [e for e in store.entries if class_of(e) is not None and e.split == split]
    if not test or not train:
        noun = "clouds" if isinstance(store, CloudStore) else "scans"
        raise DataError(
            f"{store.folder}: the {protocol} protocol needs {noun} of known class in the splits 'train' and '{split}'. "
            f"Found {len(train)} and {len(test)}. Give the manifest targets and a split: medssl index --targets FILE."
        )
    check_apart(store, train, {patient_of(e) for e in test}, split)
    return store.subset([e.id for e in train]), store.subset([e.id for e in test])


def check_apart(store: Store | CloudStore, train: Iterable[Entry | CloudEntry], tested: set[str], split: str) -> None:
    """Refuse a patient that is trained on and tested.

    Raises:
        DataError: There is one.
    """
    leaking = {patient_of(e) for e in train} & tested
    if leaking:
        raise DataError(
            f"{store.folder}: {len(leaking)} patients are both in 'train' and in '{split}'. "
            "Split by patient, then cache."
        )


def label_sets_of(
    entries: Sequence[E],
    class_of: Callable[[E], str | None],
    *,
    sizes: Sequence[int],
    shares: Sequence[float],
    subsets: str,
    draws: int,
    seed: int,
) -> LabelSets:
    """Return the labelled patients of a protocol: of the file where one is named, else drawn with every class in each.

    Args:
        entries: Scans that may be drawn.
        class_of: The class of each, as far as draws heed it.
        sizes: Numbers of labelled patients.
        shares: In their place, shares of the patients.
        subsets: In place of draws, the file; "" for none.
        draws: How many draws.
        seed: Seed of the draws.

    Raises:
        ConfigError: A share, or the file, is wrong.
        DataError: A size is below the number of classes or above that of patients.
    """
    classes = {patient_of(e): class_of(e) or "" for e in reversed(entries)}
    if subsets:
        return named_sets(subsets, {**{e.id: patient_of(e) for e in entries}, **{p: p for p in classes}})
    wanted = sizes_of_shares(shares, len(classes), len(set(classes.values()))) if shares else tuple(sizes)
    return drawn_sets(classes, wanted, draws=draws, seed=seed)
