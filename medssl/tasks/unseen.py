"""What a fine-tuning run cannot learn: labels that the store refused, and structures that no training scan shows."""

from __future__ import annotations

from collections.abc import Sequence

from medssl.domains.data_settings import LabelledSettings
from medssl.store.accepting import by_kind
from medssl.store.read import Store
from medssl.tasks.segmentation import SegmentationTask

__all__ = ["refused_lines", "unseen_lines", "unseen_structures"]

_NAMED = 5


def unseen_structures(train: Store, task: SegmentationTask) -> tuple[str, ...]:
    """Return the structures or regions of a task that no scan to train on shows, by name."""
    seen = frozenset[int]().union(*(train.structures_in(index) for index in range(len(train))))
    if task.regions:
        return tuple(region.name for region in task.regions if not seen & set(region.values))
    numbers = task.output.numbers[1:]
    return tuple(name for number, name in zip(numbers, task.class_names, strict=True) if number not in seen)


def unseen_lines(unseen: Sequence[str]) -> list[str]:
    """Return what is said of structures that cannot be learned."""
    if not unseen:
        return []
    return [
        f"warning: no scan to train on shows {', '.join(unseen)}: {'it' if len(unseen) == 1 else 'they'} cannot be "
        "learned, and scores of it say nothing. Split by patient anew, or name the others: segmentation.structures."
    ]


def refused_lines(store: Store, settings: LabelledSettings) -> list[str]:
    """Return which labelled scans are left out because the store refused their labels, and why."""
    splits = {entry.id: entry.split for entry in store.entries}
    asked = settings.ids
    mine = {
        scan: reason
        for scan, reason in store.refused_labels.items()
        if (scan in asked if asked is not None else splits.get(scan) in settings.splits)
    }
    return [
        f"warning: {len(scans)} labelled scans are left out, for the store refused their labels ({kind}): "
        f"{', '.join(scans[:_NAMED])}{', ...' if len(scans) > _NAMED else ''}. {mine[scans[0]].partition(': ')[2]}"
        for kind, scans in by_kind(mine).items()
    ]
