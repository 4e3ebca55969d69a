"""Scans seen voxel by voxel: windows, what is known of their voxels, and what an encoder or a filter says of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.domains.dense import Carried, Sample, Values
from medssl.encoders.contract import Encoder
from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.evaluation.registration import Way, registered_labels
from medssl.loading import channel_facts
from medssl.placement import covering_origins
from medssl.randomness import numpy_generator
from medssl.store.normalised import normalised_as
from medssl.store.read import Store
from medssl.windows import as_input

if TYPE_CHECKING:
    from medssl.engine.card import Card
    from medssl.store.entry import Entry

__all__ = ["ScanPlaces", "plain_features", "scan_places"]

Triple = tuple[int, int, int]
_SIGMAS = (1.0, 2.0, 4.0)
_WINDOWS = 11  # a counter that keeps these draws apart from all others


@dataclass(frozen=True)
class ScanPlaces:
    """Voxels of a store of scans. See `medssl.domains.dense.Dense`.

    Where windows cover each scan, a position is the place in the scan, which is known of every scan. Of a random window
    it is the place in the window: where that lies in the body is what features have to say.

    Attributes:
        names: The structures by number.
        window: Voxels, (z, y, x).
        windows: "whole" covers each scan; "random" takes some windows at random places of it.
        count: How many of them.
        seed: Of their places.
    """

    names: Mapping[int, str]
    window: Triple
    windows: Literal["whole", "random"]
    count: int = 2
    seed: int = 0
    place = "voxel"

    @property
    def seen(self) -> str:
        """How scans are looked at."""
        size = " x ".join(map(str, self.window))
        if self.windows == "whole":
            return f"windows of {size} that cover each scan"
        return f"{self.count} windows of {size} at random places of each scan"

    @property
    def partial(self) -> bool:
        """Whether windows lie at random places."""
        return self.windows == "random"

    def class_of(self, entry: Entry) -> str | None:
        """Return "" where there is a label map."""
        return None if entry.label_file is None else ""

    def shown(self, store: Store, index: int) -> frozenset[int] | None:
        """Return the structures that a scan shows."""
        found = np.unique(store.labels(index))
        return frozenset(found.tolist()) & self.names.keys() if (found >= 0).any() else None

    def classes(self, store: Store, target: str) -> dict[str, str]:
        """Return the classes of a target."""
        if not target:
            return {}
        known = {name for entry in store.entries for name, _ in entry.targets}
        if target not in known:
            hint = did_you_mean(target, known) if known else "It has none."
            raise ConfigError(f"retrieval.target: the store has no target '{target}'. {hint}")
        return {entry.id: label for entry in store.entries if (label := entry.target(target)) is not None}

    def size(self, entry: Entry, places: int) -> float:
        """Return the volume of a voxel, mm3."""
        return float(np.prod(entry.spacing_mm))

    def registered(
        self, labelled: Store, row: int, other: Store, index: int, place_mm: Values, *, way: Way, seed: int
    ) -> Carried:
        """Return the labels of one scan at places of another, carried by SimpleITK on the first channel of both."""
        fixed, moving = other.entries[index], labelled.entries[row]
        both = [place for place, there in enumerate(zip(fixed.present, moving.present, strict=True)) if all(there)]
        if not both:
            return Carried(labels=np.zeros(len(place_mm), np.int64), why="there is no channel that both cases have")
        spacings = fixed.spacing_mm, moving.spacing_mm
        values = other.values(index, both[0]), labelled.values(row, both[0])
        mask, why = registered_labels(*values, labelled.labels(row), spacings, way=way, seed=seed)
        voxels = np.rint(place_mm / np.array(spacings[0])).astype(int)
        found = mask[tuple(voxels.T)].astype(np.int64)
        return Carried(labels=np.where(np.isin(found, list(self.names)), found, 0), why=why)

    def samples(self, store: Store, index: int, card: Card) -> Iterator[Sample]:
        """Return the windows of a scan."""
        entry = store.entries[index]
        (seen,) = normalised_as(store.subset([entry.id]), card.inputs_known).entries
        scale, present = channel_facts([seen])
        origins = self._origins(entry)
        for origin in origins:
            values = torch.from_numpy(store.windows(index, origin, self.window))
            labels = np.full(self.window, -1, np.int16)
            if entry.label_file is not None:
                labels = store.label_window(index, origin, self.window)
            if self.windows == "whole":
                labels = self._own(labels, origin, origins)
            known = np.where((labels == 0) | np.isin(labels, list(self.names)), labels, np.where(labels < 0, -1, 0))
            grid = np.stack(np.meshgrid(*(np.arange(n) for n in self.window), indexing="ij"), axis=-1).reshape(-1, 3)
            in_scan = grid + np.array(origin)
            first, size = ((0, 0, 0), entry.shape) if self.windows == "whole" else (origin, self.window)
            position = (2 * (in_scan - np.array(first)) + 1) / np.array(size) - 1
            yield Sample(
                item=entry.id,
                patient=entry.patient or entry.id,
                labels=known.ravel().astype(np.int64),
                position=position.astype(np.float32),
                shape=self.window,
                place_mm=(in_scan * np.array(entry.spacing_mm)).astype(np.float32),
                inputs=as_input(values[None, None], scale, present)[0],
            )

    def plain(self, sample: Sample) -> Values:
        """Return intensities at several scales."""
        return plain_features(sample.inputs[0].numpy())

    @torch.no_grad()
    def pyramid(self, encoder: nn.Module, sample: Sample) -> list[Tensor]:
        """Return the levels, (1, C, z, y, x) each."""
        device = next(encoder.parameters()).device
        found: list[Tensor] = encoder(sample.inputs.to(device).contiguous(memory_format=torch.channels_last_3d))
        return [level.float() for level in found]

    def at(self, pyramid: Any, sample: Sample, rows: npt.NDArray[np.int64]) -> Sequence[Values]:
        """Return every level at some voxels, interpolated linearly between the middles of its own."""
        places = np.stack(np.unravel_index(rows, sample.shape), axis=-1)
        middles = (2 * places + 1) / np.array(sample.shape) - 1
        grid = torch.from_numpy(middles[None, None, None, :, ::-1].astype(np.float32))
        return [
            functional.grid_sample(level, grid.to(level.device), padding_mode="border", align_corners=False)[0, :, 0, 0]
            .T.cpu()
            .numpy()
            for level in pyramid
        ]

    def _origins(self, entry: Entry) -> list[Triple]:
        if self.windows == "whole":
            return covering_origins(((0, 0, 0), entry.shape), self.window, overlap=0.0)
        draw = numpy_generator(self.seed, int.from_bytes(hashlib.sha256(entry.id.encode()).digest()[:7]), 0, _WINDOWS)

        def start(length: int, size: int) -> int:
            return int(draw.integers(0, length - size + 1)) if length > size else -((size - length) // 2)

        starts = [[start(n, w) for n, w in zip(entry.shape, self.window, strict=True)] for _ in range(self.count)]
        return [(z, y, x) for z, y, x in starts]

    def _own(self, labels: npt.NDArray[np.int16], origin: Triple, origins: Sequence[Triple]) -> npt.NDArray[np.int16]:
        """Return labels without those of voxels that an earlier window has too: each voxel of a scan counts once."""
        own = labels.copy()
        for axis in range(3):
            before = [other[axis] for other in origins if other[axis] < origin[axis]]
            covered = max(0, max(before) + self.window[axis] - origin[axis]) if before else 0
            own[(slice(None),) * axis + (slice(0, covered),)] = -1
        return own


def plain_features(images: npt.NDArray[np.floating]) -> Values:
    """Return what needs no training: of each channel its values, smoothed at three scales, and how they change there.

    Args:
        images: (C, z, y, x).

    Returns:
        float32, (z * y * x, 7 C): the value; Gaussian means of sigma 1, 2 and 4 voxels; gradient magnitudes of the
        same.
    """
    from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

    found = []
    for image in images:
        found.append(image)
        found += [gaussian_filter(image, sigma, mode="nearest", truncate=3) for sigma in _SIGMAS]
        found += [gaussian_gradient_magnitude(image, sigma, mode="nearest", truncate=3) for sigma in _SIGMAS]
    return np.stack(found, axis=-1).reshape(-1, len(found)).astype(np.float32)


def scan_places(
    store: Store,
    card: Card,
    *,
    window: Triple | None,
    windows: Literal["whole", "random"],
    count: int,
    seed: int,
    encoder: Encoder,
) -> ScanPlaces:
    """Return the voxels of a store as an encoder is shown them.

    Raises:
        ConfigError: No window is known, or the encoder does not take it.
        DataError: The store names no structure.
    """
    size = window or card.window
    if size is None:
        raise ConfigError("The card of the run names no window. Set one with dense_probe.window=[z,y,x].")
    encoder.check_size(size)
    names = {number: name for number, name in sorted(store.classes.items()) if number > 0}
    if not names:
        raise DataError(f"{store.folder}: its scans have no label maps with structures. Index with labels, then cache.")
    return ScanPlaces(names, size, windows, count, seed)
