"""Synthetic heads in four sequences as a store, stored as ``medssl cache`` stores scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medssl.phantoms.brains import BRAIN_CLASSES, SEQUENCES, brain
from medssl.store.body import find_body
from medssl.store.index import write_index
from medssl.store.options import StoreSettings
from medssl.store.prepare import scale_intensity
from medssl.store.read import Store
from medssl.store.write import ChannelImage, write_entry

__all__ = ["store_of_brains"]


def store_of_brains(
    folder: Path,
    *,
    subjects: int = 8,
    shape: tuple[int, int, int] = (48, 56, 48),
    spacing_mm: tuple[float, float, float] = (3.5, 3.5, 3.5),
    seed: int = 0,
    splits: Sequence[str] = ("train",),
    channels: Sequence[str] = SEQUENCES,
) -> Store:
    """Write heads as a store of cases and open it.

    Args:
        folder: Made where it is missing.
        subjects: How many.
        shape: Voxels (z, y, x).
        spacing_mm: Voxel size (z, y, x).
        seed: Names the population.
        splits: Parts of the cohort, taken in turn.
        channels: Sequences to store, in this order.
    """
    entries, settings, statistics = [], StoreSettings(), {}
    for subject in range(subjects):
        made = brain(subject, shape=shape, spacing_mm=spacing_mm, seed=seed)
        values = {name: made.values[SEQUENCES.index(name)] for name in channels}
        body = find_body(next(iter(values.values())), hounsfield=False)
        images = []
        for name, one in values.items():
            scaled = scale_intensity(one, body, hounsfield=False, settings=settings)
            images.append(
                ChannelImage(
                    name=name, values=scaled.values, modality="MR", scale=scaled.scale, slope=scaled.slope,
                    intercept=scaled.intercept, fill=scaled.fill,
                )
            )  # fmt: skip
        record = write_entry(
            folder, f"case_{subject:03d}", images, made.affine, made.labels, patient=f"patient {subject}",
            split=splits[subject % len(splits)], body_box=body,
        )  # fmt: skip
        entries.append(record.entry)
        statistics[record.entry.id] = record.statistics
    write_index(
        folder, entries, settings=settings.model_dump(mode="json"), classes=BRAIN_CLASSES, statistics=statistics
    )
    return Store.open(folder)
