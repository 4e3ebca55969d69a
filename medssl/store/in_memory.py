"""A store of scans in memory, without files of scans or a manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import CacheError
from medssl.regions import Region
from medssl.store.entry import ONE
from medssl.store.index import write_index
from medssl.store.read import Store
from medssl.store.write import ChannelImage, write_entry

__all__ = ["Item", "store_from_arrays"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """A scan in memory, in the units in which it is to be stored.

    Attributes:
        id: Its name; unique in the store.
        values: Integers that fit int16, axes (z, y, x), or (C, z, y, x) with C ``channels``. HU for CT.
        affine: 4x4, RAS+ mm from (x, y, z) indices; 1 mm voxels when left out.
        labels: Integers on the same grid, 0 for background; -1 for "not known".
        modality: "CT", "MR" or another DICOM modality; one for all channels, or one each.
        patient: Key of the patient; scans without one count as patients of their own.
        split: "train", "val", "test" or "".
        targets: Classes of the patient or the scan by name.
        channels: Names of the channels, in their order; () for a scan of one that has no name.
        lacks: Names of channels that the case lacks; what ``values`` holds of them is not looked at.
    """

    id: str
    values: npt.NDArray[np.generic]
    affine: npt.NDArray[np.float64] | None = None
    labels: npt.NDArray[np.generic] | None = None
    modality: str | tuple[str, ...] = "CT"
    patient: str = ""
    split: str = ""
    targets: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def images(self) -> list[ChannelImage]:
        """Return the channels.

        Raises:
            CacheError: Names, modalities and values do not go together.
        """
        values = np.asarray(self.values)
        names = self.channels or (ONE,)
        stacked = values if self.channels and values.ndim == 4 else values[None]
        kinds = (self.modality,) * len(names) if isinstance(self.modality, str) else self.modality
        if len(stacked) != len(names) or len(kinds) != len(names) or not set(self.lacks) <= set(names):
            raise CacheError(
                f"{self.id}: {len(names)} channels are named ({', '.join(names)}; lacking: "
                f"{', '.join(self.lacks) or 'none'}), with {len(kinds)} modalities and values of shape {values.shape}. "
                "Give one name and one modality for each channel, and values with axes (channel, z, y, x)."
            )
        return [
            ChannelImage(name=name, values=None if name in self.lacks else one, modality=kind)
            for name, one, kind in zip(names, stacked, kinds, strict=True)
        ]


def store_from_arrays(
    folder: Path,
    items: Iterable[Item],
    *,
    classes: Mapping[int, str] | None = None,
    regions: Sequence[Region] = (),
    settings: Mapping[str, Any] | None = None,
) -> Store:
    """Make a store of scans in memory, without a manifest and as they are: no turning, resampling or scaling.

    Args:
        folder: Where; made if absent.
        items: The scans, in the order of their rows.
        classes: Names of the structures; "structure N" for those left out.
        regions: Unions of structures that are segmented in their place.
        settings: Kept in ``store.json``.

    Returns:
        The opened store.
    """
    entries, found, statistics = [], set[int](), {}
    for item in items:
        affine = np.eye(4) if item.affine is None else np.asarray(item.affine, dtype=np.float64)
        record = write_entry(
            folder,
            item.id,
            item.images(),
            affine,
            item.labels,
            patient=item.patient,
            split=item.split,
            targets=item.targets.items(),
        )
        entries.append(record.entry)
        statistics[record.entry.id] = record.statistics
        found |= {number for number in record.class_voxels if number >= 0}
    named = {number: "background" if number == 0 else f"structure {number}" for number in sorted(found)}
    folder.mkdir(parents=True, exist_ok=True)
    write_index(
        folder,
        entries,
        settings=settings or {},
        classes={**named, **(classes or {})},
        regions=regions,
        statistics=statistics,
    )
    return Store.open(folder)
