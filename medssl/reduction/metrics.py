"""How unlike things are, one row at a time: codes by bits, vectors by cosine, pictures by SSIM and mutual information.

A strategy asks for the distances of one thing to all others, so that no table of all pairs is ever held.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError
from medssl.reduction.neighbours import unit_vectors

__all__ = ["Bits", "Cosine", "Information", "Metric", "Structure"]

Row = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]
_WINDOW = 7
_K1, _K2, _RANGE = 0.01, 0.03, 255.0
_BLOCK = 256  # pictures at a time


class Metric(Protocol):
    """Things with distances among them; 0 is equal."""

    def __len__(self) -> int:
        """Return how many things there are."""
        ...

    def row(self, place: int) -> Row:
        """Return the distances of one thing to all, float64 (n,)."""
        ...


class Bits:
    """Packed codes by the number of differing bits.

    Args:
        codes: uint64 (n,) or (n, words).
    """

    def __init__(self, codes: npt.NDArray[np.uint64]) -> None:
        self._codes = codes[:, None] if codes.ndim == 1 else codes

    def __len__(self) -> int:
        """Return the number of codes."""
        return len(self._codes)

    def row(self, place: int) -> Row:
        """Return the number of bits in which each code differs from one."""
        apart: Row = np.bitwise_count(self._codes ^ self._codes[place]).sum(axis=1).astype(np.float64)
        return apart


class Cosine:
    """Vectors by 1 - cosine; two vectors of zeros are 1 apart, as from everything.

    Args:
        vectors: (n, d), finite.
    """

    def __init__(self, vectors: npt.NDArray[np.floating]) -> None:
        self._units = unit_vectors(vectors)

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._units)

    def row(self, place: int) -> Row:
        """Return 1 - cosine of each vector with one."""
        one = self._units[place].astype(np.float64)
        # By the length of the difference: exactly 0 for equal vectors, and the same whatever the number of threads.
        apart: Row = ((self._units - one) ** 2).sum(axis=1) / 2
        present = (self._units != 0).sum(axis=1) > 0
        apart[~present | ~present[place]] = 1.0
        apart[place] = 0.0
        return apart


class Structure:
    """Pictures by 1 - SSIM, the mean structural similarity of windows of 7 x 7 pixels.

    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE
    Transactions on Image Processing 13 (2004); constants and sample variance as in scikit-image's default.

    Args:
        pictures: uint8 (n, y, x) or (n, planes, y, x), 7 pixels or more along each side; planes are averaged.

    Raises:
        ConfigError: They are smaller.
    """

    def __init__(self, pictures: Pictures) -> None:
        if pictures.ndim not in (3, 4) or min(pictures.shape[-2:]) < _WINDOW:
            raise ConfigError(f"SSIM needs pictures of {_WINDOW} x {_WINDOW} pixels or more. Got {pictures.shape}.")
        self._pictures = pictures
        values = pictures.astype(np.float32)
        self._mean = _boxes(values)
        self._variance = _sample(_boxes(values * values) - self._mean**2)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pictures)

    def row(self, place: int) -> Row:
        """Return 1 - SSIM of each picture with one."""
        one = self._pictures[place].astype(np.float32)
        result = np.empty(len(self))
        for start in range(0, len(self), _BLOCK):
            part = slice(start, start + _BLOCK)
            mean, variance = self._mean[part], self._variance[part]
            cross = _sample(_boxes(self._pictures[part] * one) - mean * self._mean[place])
            c1, c2 = (_K1 * _RANGE) ** 2, (_K2 * _RANGE) ** 2
            above = (2 * mean * self._mean[place] + c1) * (2 * cross + c2)
            below = (mean**2 + self._mean[place] ** 2 + c1) * (variance + self._variance[place] + c2)
            result[part] = 1.0 - (above / below).reshape(len(above), -1).mean(axis=1)
        result[place] = 0.0
        return np.maximum(result, 0.0)


class Information:
    """Pictures by 1 - normalised mutual information of their grey values, 2 I(a, b) / (H(a) + H(b)).

    A change of contrast that is one to one leaves it 0; pictures that tell nothing of each other are 1 apart. Two
    pictures without contrast are equal.

    Args:
        pictures: uint8 (n, y, x) or (n, planes, y, x).
        bins: Grey values are put into so many bins of equal width.
    """

    def __init__(self, pictures: Pictures, *, bins: int = 32) -> None:
        self._bins = bins
        self._binned = (pictures.reshape(len(pictures), -1).astype(np.int64) * bins) >> 8
        self._entropy = np.array([_entropy(np.bincount(one, minlength=bins)) for one in self._binned])

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._binned)

    def row(self, place: int) -> Row:
        """Return 1 - normalised mutual information of each picture with one."""
        one, cells = self._binned[place], self._bins**2
        result = np.empty(len(self))
        for start in range(0, len(self), _BLOCK):
            others = self._binned[start : start + _BLOCK]
            keys = one * self._bins + others + np.arange(len(others))[:, None] * cells
            joint = np.bincount(keys.ravel(), minlength=len(others) * cells).reshape(len(others), cells)
            for number, counts in enumerate(joint):
                own, both = self._entropy[start + number], self._entropy[start + number] + self._entropy[place]
                shared = own + self._entropy[place] - _entropy(counts)
                result[start + number] = 1.0 - (2 * shared / both if both > 0 else 1.0)
        result[place] = 0.0
        return np.clip(result, 0.0, 1.0)


def _boxes(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the mean of each window that lies within a picture whole: (..., y - 6, x - 6)."""
    sums = values.astype(np.float64)
    for axis in (-2, -1):
        total = np.cumsum(sums, axis=axis)
        total = np.concatenate([np.zeros_like(np.take(total, [0], axis=axis)), total], axis=axis)
        size = sums.shape[axis]
        last = np.take(total, np.arange(_WINDOW, size + 1), axis=axis)
        sums = last - np.take(total, np.arange(size + 1 - _WINDOW), axis=axis)
    result: npt.NDArray[np.float64] = sums / _WINDOW**2
    return result


def _sample(variance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return variance * (_WINDOW**2 / (_WINDOW**2 - 1))


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    present = counts[counts > 0]
    share = present / present.sum()
    return float(-(share * np.log(share)).sum())
