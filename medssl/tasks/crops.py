"""Small crops of scans: where each lies, what it shows, and the meter of pretraining that is read off them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.encoders.pooling import Pooling
from medssl.evaluation.crop_probe import ridge_r2
from medssl.loading import channel_facts
from medssl.randomness import numpy_generator
from medssl.store.read import Store
from medssl.tasks.dense_samples import plain_features
from medssl.windows import as_input

__all__ = ["CropProbe", "Crops", "crop_features", "crop_size", "crops_of"]

Triple = tuple[int, int, int]
Values = npt.NDArray[np.float32]
_CROPS = 13  # a counter that keeps these draws apart from all others
_OF_A_SCAN = 4
_VOXELS = 1 << 21  # that all crops together hold, so that an encoder takes about a second
_MOST = 256


@dataclass(frozen=True)
class Crops:
    """Crops of scans; N of them.

    Attributes:
        images: Float32, (N, C, z, y, x), as a network sees them.
        place: (N, 3): the middle of each in its scan's body, in [-1, 1] where the crop lies inside, (z, y, x).
        content: (N, K): the share of each structure in it; None where a scan has no label map.
        patients: Whose each is.
    """

    images: Tensor
    place: Values
    content: Values | None
    patients: tuple[str, ...]

    def __len__(self) -> int:
        """Return how many."""
        return len(self.patients)


def crop_size(window: Triple, multiple: Triple) -> Triple:
    """Return the size of crops of which several fit a window: half of it, and what an encoder takes.

    A crop that would be a single voxel at the coarsest level, which no norm can take, is twice as large.

    Example:
        >>> crop_size((32, 48, 8), (8, 8, 8))
        (16, 24, 8)
        >>> crop_size((16, 16, 16), (8, 8, 8))
        (16, 16, 16)
    """
    z, y, x = (max(m, -(-(w // 2) // m) * m) for w, m in zip(window, multiple, strict=True))
    if (z, y, x) == tuple(multiple):
        z, y, x = (m if m == 1 else 2 * m for m in multiple)
    return z, y, x


def crops_of(store: Store, size: Triple, *, seed: int, most: int = _MOST) -> Crops:
    """Cut crops at random places of the bodies of scans, as many of each; the same at every call.

    Args:
        store: The scans; where there are more than crops, the first ones by a draw.
        size: Of a crop, (z, y, x).
        seed: Of scans and places.
        most: Crops at most.
    """
    count = max(8, min(most, _VOXELS // int(np.prod(size))))
    of_each = max(_OF_A_SCAN, min(16, -(-count // len(store))))
    order = numpy_generator(seed, 0, 0, _CROPS).permutation(len(store))[: max(1, count // of_each)]
    numbers = sorted(number for number in store.classes if number > 0)
    labelled = bool(numbers) and all(store.entries[index].label_file is not None for index in order)
    images, places, contents, patients = [], [], [], []
    for index in sorted(order.tolist()):
        entry = store.entries[index]
        scale, present = channel_facts([entry])
        draw = numpy_generator(seed, index, 1, _CROPS)
        low, high = np.array(entry.body_box)
        for _ in range(of_each):
            room = np.maximum(high - low - size, 0)
            origin = np.where(high - low > size, low + draw.integers(0, room + 1), low - (size - (high - low)) // 2)
            first = (int(origin[0]), int(origin[1]), int(origin[2]))
            values = torch.from_numpy(store.windows(index, first, size))
            images.append(as_input(values[None, None], scale, present)[0, 0])
            places.append(2 * (origin + np.array(size) / 2 - low) / (high - low) - 1)
            patients.append(entry.patient or entry.id)
            if labelled:
                labels = store.label_window(index, first, size)
                contents.append([(labels == number).mean() for number in numbers])
    return Crops(
        torch.stack(images),
        np.array(places, np.float32),
        np.array(contents, np.float32) if labelled else None,
        tuple(patients),
    )


@torch.no_grad()
def crop_features(encoder: Encoder, crops: Crops, *, batch_size: int = 32) -> Values:
    """Return the features of crops, pooled as ``cells`` is, whatever the encoder pools by; float32 (N, D).

    Args:
        encoder: In evaluation mode, on its device.
        crops: The crops.
        batch_size: Crops that go through it at once.
    """
    device = next(encoder.parameters()).device
    pooling = Pooling("cells", encoder.channels, encoder.strides)
    parts = []
    for some in torch.split(crops.images, batch_size):
        pyramid = encoder(some.to(device).contiguous(memory_format=torch.channels_last_3d))
        parts.append(pooling(pyramid, None).float().cpu().numpy())
    return np.concatenate(parts)


class CropProbe:
    """The meter: R2 of place and content of crops of held-out patients.

    Args:
        train: Scans whose crops are fitted.
        held_out: Scans of other patients, made input the same way.
        size: Of a crop.
        seed: Of the crops.
    """

    def __init__(self, train: Store, held_out: Store, size: Triple, *, seed: int) -> None:
        self._train, self._test = (crops_of(part, size, seed=seed) for part in (train, held_out))
        plain = [np.stack([_in_cells(image) for image in part.images.numpy()]) for part in (self._train, self._test)]
        self._beside = {f"handmade/{name}": value for name, value in self._scores(*plain).items()}
        self._beside |= {f"chance/{name}": 0.0 for name in self._scores(*plain)}

    def __call__(self, encoder: Encoder) -> Mapping[str, float]:
        """Return crop_place_r2, where scans have labels crop_content_r2; nothing of features that are not finite."""
        found = [crop_features(encoder, part) for part in (self._train, self._test)]
        if not all(np.isfinite(part).all() for part in found):
            return {}
        return self._scores(*found) | self._beside

    def _scores(self, train: Values, test: Values) -> dict[str, float]:
        own, other = self._train, self._test
        scores = {"crop_place_r2": ridge_r2(train, own.place, own.patients, test, other.place)}
        if own.content is not None and other.content is not None:
            scores["crop_content_r2"] = ridge_r2(train, own.content, own.patients, test, other.content)
        return scores


def _in_cells(image: npt.NDArray[np.floating]) -> Values:
    """Return hand-made features of a crop, each averaged in 2 x 2 x 2 cells."""
    features = plain_features(image).reshape(*image.shape[1:], -1)
    level = torch.from_numpy(features).permute(3, 0, 1, 2)[None]
    z, y, x = (min(2, n) for n in image.shape[1:])
    found: Values = torch.nn.functional.adaptive_avg_pool3d(level, (z, y, x)).flatten().numpy()
    return found
