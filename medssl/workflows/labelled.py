"""The labelled patients of a protocol: which items may be drawn, which are tested, and the draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from medssl.domains.choosing import Items
from medssl.errors import DataError
from medssl.evaluation.label_sets import LabelSets, drawn_sets, named_sets, sizes_of_shares
from medssl.workflows.evaluate_settings import DrawSettings

__all__ = ["label_sets_of", "patient_of", "train_and_test"]

S = TypeVar("S", bound=Items)


def patient_of(entry: Any) -> str:
    """Return the patient's key; an item without one is a patient of its own."""
    return str(entry.patient or entry.id)


def train_and_test(
    store: S,
    class_of: Callable[[Any], str | None],
    *,
    split: str,
    protocol: str,
    wanted: str,
    splits: Sequence[str] = ("train", ""),
) -> tuple[S, S]:
    """Return the items with labels that may be drawn, and those that are tested.

    Args:
        store: All items.
        class_of: The class of an item, None where it has no label.
        split: The split that is tested.
        protocol: Its name, for errors.
        wanted: What can be learned from, in words.
        splits: Those that may be drawn from.

    Raises:
        DataError: There are none of either, or a patient is in both.
    """
    known = [entry for entry in store.entries if class_of(entry) is not None]
    train, test = [e for e in known if e.split in splits], [e for e in known if e.split == split]
    if not test or not train:
        counts = {
            name or "unassigned": sum(e.split == name for e in known) for name in sorted({e.split for e in known})
        }
        raise DataError(
            f"{store.folder}: the {protocol} protocol needs {wanted} in the splits 'train' and '{split}'. Found "
            f"{len(train)} and {len(test)}; by split: {counts or 'none'}. Give the manifest labels (medssl index "
            "--targets FILE for classes) and a split by patient."
        )
    leaking = {patient_of(e) for e in train} & {patient_of(e) for e in test}
    if leaking:
        raise DataError(
            f"{store.folder}: {len(leaking)} patients are both in 'train' and in '{split}'. "
            "Split by patient, then cache."
        )
    return store.subset([e.id for e in train]), store.subset([e.id for e in test])


def label_sets_of(
    entries: Sequence[Any], class_of: Callable[[Any], str | None], settings: DrawSettings, *, shares: bool = True
) -> LabelSets:
    """Return the labelled patients of a protocol: of the file where one is named, else drawn with every class in each.

    Args:
        entries: Items that may be drawn.
        class_of: The class of each, as far as draws heed it.
        settings: How many, and who.
        shares: Whether shares go before sizes where both are set.

    Raises:
        ConfigError: A share, or the file, is wrong.
        DataError: A size is below the number of classes or above that of patients.
    """
    classes = {patient_of(e): class_of(e) or "" for e in reversed(entries)}
    if settings.subsets:
        return named_sets(settings.subsets, {**{e.id: patient_of(e) for e in entries}, **{p: p for p in classes}})
    sizes = settings.sizes
    if settings.shares and (shares or not sizes):
        sizes = sizes_of_shares(settings.shares, len(classes), len(set(classes.values())))
    return drawn_sets(classes, sizes, draws=settings.draws, seed=settings.draw_seed)
