"""Windows with classes: scans or slices fitted to a network's window, drawn as a pure function of (seed, step)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Unpack

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.errors import DataError
from medssl.loading import channel_facts, drop_channels
from medssl.placement import place_window
from medssl.randomness import numpy_generator
from medssl.step_loader import Order, StepLoader, patient_numbers
from medssl.store.entry import Entry
from medssl.tasks.class_samples import Samples
from medssl.windows import WindowBatch, WindowPlan

if TYPE_CHECKING:
    from medssl.tasks.class_settings import ClassificationSettings

__all__ = ["ClassBatch", "ClassLoader", "Reader", "class_batches", "resized"]

Triple = tuple[int, int, int]
Values = npt.NDArray[np.int16]
_PLACES, _CLASSES = 5, 6  # counters that keep these draws apart from the loader's others and from those of the views
_KEPT_BYTES = 1 << 29


@dataclass(frozen=True, kw_only=True)
class ClassBatch(WindowBatch):
    """Windows with the class of each item; an item has K windows.

    Attributes:
        values: int16, (B, K, C, z, y, x).
        target: int64, (B,); -1 where it is not known.
    """

    target: Tensor


class Reader:
    """Reads the windows of samples, fitted to the network's.

    "resize" takes the body and scales it to the window: along z by itself, along y and x together, so that a pixel
    covers as many mm either way; what the window is wider is filled. "crop" keeps the store's voxels.

    Args:
        samples: What may be read.
        settings: Level, window and fit.
    """

    def __init__(self, samples: Samples, settings: ClassificationSettings) -> None:
        self.samples, self.settings = samples, settings
        self._patients = patient_numbers(samples.store)
        self._kept: OrderedDict[int, Values] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def batch(
        self,
        rows: Sequence[int],
        slots: Sequence[int],
        generators: Sequence[np.random.Generator] | None = None,
        *,
        instances: int | None = None,
    ) -> ClassBatch:
        """Return the windows of some samples.

        Args:
            rows: Rows of the samples.
            slots: Place of each in the global batch.
            generators: Decide where windows lie; None puts them at the middle, and slices of sets evenly.
            instances: Slices of a set; ``set_size`` when None.
        """
        store = self.samples.store
        items = [int(self.samples.item[row]) for row in rows]
        values = [
            self._windows(row, None if generators is None else generators[i], instances) for i, row in enumerate(rows)
        ]
        entries = [store.entries[item] for item in items]
        scale, present = channel_facts(entries)
        return ClassBatch(
            values=torch.from_numpy(np.stack(values)),
            origin=torch.zeros(len(rows), 3, dtype=torch.int64),
            extent=torch.tensor([e.shape for e in entries], dtype=torch.int64),
            body_box=torch.tensor([e.body_box for e in entries], dtype=torch.float32),
            spacing_mm=torch.tensor([self._spacing(e) for e in entries], dtype=torch.float32),
            scale=scale,
            present=present,
            item=torch.tensor(items, dtype=torch.int64),
            patient=torch.tensor([self._patients[item] for item in items], dtype=torch.int64),
            slot=torch.tensor(list(slots), dtype=torch.int64),
            part=torch.zeros(len(rows), dtype=torch.int64),
            target=torch.from_numpy(self.samples.target[list(rows)]),
        )

    def instances_of(self, row: int) -> int:
        """Return how many slices of a set are looked at when nothing is drawn: all of the body, up to ``set_limit``."""
        if self.settings.level != "set":
            return 1
        (low, _, _), (high, _, _) = self.samples.store.entries[int(self.samples.item[row])].body_box
        return min(self.settings.set_limit, max(1, -(-(high - low) // self._step)))

    @property
    def _step(self) -> int:
        return max(1, self.settings.window[0] // 2)

    def _windows(self, row: int, generator: np.random.Generator | None, instances: int | None) -> Values:
        """Return the windows of one sample, (K, C, z, y, x)."""
        item, place = int(self.samples.item[row]), int(self.samples.place[row])
        if self.settings.level == "volume":
            return self._scan(item, generator)[None]
        if self.settings.level == "slice":
            return self._slab(item, place, generator)[None]
        (low, _, _), (high, _, _) = self.samples.store.entries[item].body_box
        wanted = instances or self.settings.set_size
        shares = np.full(wanted, 0.5) if generator is None else generator.random(wanted)
        # one from each of as many equal stretches: spread over the body, and every slice may come
        middles = low + ((np.arange(wanted) + shares) * (high - low) / wanted).astype(int)
        return np.stack([self._slab(item, int(middle), generator) for middle in middles])

    def _scan(self, item: int, generator: np.random.Generator | None) -> Values:
        store, size = self.samples.store, self.settings.window
        entry = store.entries[item]
        if self.settings.fit == "crop":
            return store.windows(item, self._corner(item, generator), size)
        with self._lock:
            if item in self._kept:
                self._kept.move_to_end(item)
                return self._kept[item]
        first, extent = _frame(entry, size)
        (low, _, _), (high, _, _) = entry.body_box
        values = resized(store.windows(item, (low, *first), (high - low, *extent)), size)
        with self._lock:
            if item not in self._kept:
                self._kept[item] = values
                self._bytes += values.nbytes
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return values

    def _slab(self, item: int, middle: int, generator: np.random.Generator | None) -> Values:
        store, size = self.samples.store, self.settings.window
        start = middle - size[0] // 2
        if self.settings.fit == "crop":
            _, y, x = self._corner(item, generator)
            return store.windows(item, (start, y, x), size)
        first, extent = _frame(store.entries[item], size)
        return resized(store.windows(item, (start, *first), (size[0], *extent)), size)

    def _corner(self, item: int, generator: np.random.Generator | None) -> Triple:
        """Return the first voxel of a crop: drawn inside the body, or centred on it."""
        size = self.settings.window
        if generator is not None:
            return place_window(self.samples.store, item, WindowPlan(size=size), generator)
        low, high = self.samples.store.entries[item].body_box
        z, y, x = ((a + b - n) // 2 for a, b, n in zip(low, high, size, strict=True))
        return z, y, x

    def _spacing(self, entry: Entry) -> tuple[float, float, float]:
        """Return the voxel size of a window in mm, (z, y, x)."""
        depth, height, width = self.settings.window
        z, y, x = entry.spacing_mm
        if self.settings.fit == "crop":
            return z, y, x
        _, (rows, columns) = _frame(entry, self.settings.window)
        if self.settings.level == "volume":
            z *= (entry.body_box[1][0] - entry.body_box[0][0]) / depth
        return z, y * rows / height, x * columns / width


class ClassLoader(StepLoader[ClassBatch]):
    """Batches of samples with classes for a training run.

    Args:
        samples: What is trained on; every class is known.
        settings: Level, window, fit and balance.
        drop: Probability with which a channel of a sample is left out; see `medssl.loading.drop_channels`.
        order: See `Order`; a row of the batch is a sample.

    Raises:
        DataError: There is no sample, or one is of unknown class.
    """

    def __init__(
        self,
        samples: Samples,
        settings: ClassificationSettings,
        *,
        drop: float = 0.0,
        **order: Unpack[Order],
    ) -> None:
        if not len(samples) or (samples.target < 0).any():
            raise DataError(f"{samples.store.folder}: there is no sample to train on, or one without a class.")
        super().__init__(len(samples), **order)
        self._reader, self._drop = Reader(samples, settings), drop
        self._by_class = _grouped(samples) if settings.balance == "sampling" else {}

    @property
    def numbers(self) -> int:
        """How many numbers ``item`` of a batch takes: items of the store, not samples of them."""
        return len(self._reader.samples.store)

    def items(self, step: int) -> tuple[int, ...]:
        """Return the samples of this rank's part of a step's batch."""
        if self._by_class:
            return tuple(self._balanced(numpy_generator(self.seed, step, slot, _CLASSES)) for slot in self.slots)
        return super().items(step)

    def batch(self, step: int) -> ClassBatch:
        """Return this rank's part of the batch of a step."""
        generators = [numpy_generator(self.seed, step, slot, _PLACES) for slot in self.slots]
        batch = self._reader.batch(self.items(step), self.slots, generators)
        return drop_channels(batch, self._drop, seed=self.seed, step=step) if self._drop else batch

    def _balanced(self, generator: np.random.Generator) -> int:
        """Draw a class, then one of its patients, then one of the patient's samples of it."""
        patients = self._by_class[sorted(self._by_class)[int(generator.integers(len(self._by_class)))]]
        rows = patients[int(generator.integers(len(patients)))]
        return int(rows[int(generator.integers(len(rows)))])


def class_batches(samples: Samples, settings: ClassificationSettings, batch_size: int, limit: int) -> list[ClassBatch]:
    """Return batches of at most ``limit`` samples, evenly chosen, the same at every call.

    Args:
        samples: Of known class.
        settings: Level, window and fit.
        batch_size: Largest number of samples in a batch.
        limit: Most samples.
    """
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int))
    reader = Reader(samples, settings)
    parts = np.array_split(chosen, -(-len(chosen) // batch_size))
    return [reader.batch(part.tolist(), part.tolist()) for part in parts]


def resized(values: Values, size: Triple) -> Values:
    """Return an image at another size: averaged where it shrinks, interpolated linearly where it grows.

    Args:
        values: int16, (C, z, y, x).
        size: Wanted voxels, (z, y, x).
    """
    if values.shape[1:] == tuple(size):
        return values
    image = torch.from_numpy(values.astype(np.float32))[None]
    z, y, x = (min(have, want) for have, want in zip(values.shape[1:], size, strict=True))
    image = F.adaptive_avg_pool3d(image, (z, y, x))
    if (z, y, x) != tuple(size):
        image = F.interpolate(image, size=size, mode="trilinear", align_corners=False)
    result: Values = image[0].round().clamp(-32768, 32767).to(torch.int16).numpy()
    return result


def _frame(entry: Entry, size: Triple) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return first voxel and extent, (y, x), of the part of a scan that fills a window: as few mm as hold the body."""
    low, high = entry.body_box
    spacing, wanted = entry.spacing_mm[1:], size[1:]
    extents_mm = [(b - a) * s for a, b, s in zip(low[1:], high[1:], spacing, strict=True)]
    pixel_mm = max(extent / pixels for extent, pixels in zip(extents_mm, wanted, strict=True))
    rows, columns = (max(1, round(pixels * pixel_mm / s)) for pixels, s in zip(wanted, spacing, strict=True))
    y, x = ((a + b - n) // 2 for a, b, n in zip(low[1:], high[1:], (rows, columns), strict=True))
    return (y, x), (rows, columns)


def _grouped(samples: Samples) -> dict[int, list[npt.NDArray[np.int64]]]:
    """Return the rows of each patient of each class."""
    _, owner = np.unique(np.array(samples.patients()), return_inverse=True)
    groups: dict[int, list[npt.NDArray[np.int64]]] = {}
    for number in np.unique(samples.target):
        own = np.flatnonzero(samples.target == number)
        groups[int(number)] = [own[owner[own] == patient] for patient in np.unique(owner[own])]
    return groups
