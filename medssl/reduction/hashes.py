"""Perceptual hashes of a volume: the signs of its lowest 3D frequencies, which re-exporting hardly changes.

Two hashes are made, of the whole field and of the box of the foreground, for they fail on different changes: padding
and cropping air move the first, noise and shading the second. The coefficients are kept beside the bits: a flip along
an axis changes the sign of its odd coefficients, a swap of axes transposes them, a change of sign negates them, so all
96 variants of a scan whose header is not to be trusted are tested without reading it again.

Source: pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010), in 3D.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.reduction.grids import Box

__all__ = [
    "BITS",
    "SIDE",
    "WORDS",
    "Variant",
    "all_variants",
    "bits",
    "coefficients",
    "distance",
    "plane_bits",
    "signs",
    "turned",
]

SIDE = 8  # frequencies kept along each axis
BITS = SIDE**3 - 1  # 511: the mean of the image is left out
_NOTHING = 1e-5  # of the largest intensity: smaller frequencies are rounding errors
WORDS = 8  # uint64 words of a packed hash; the last bit is always 0

Code = npt.NDArray[np.uint64]
Coefficients = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Variant:
    """How the axes of a scan may have been mixed up.

    Attributes:
        order: Which old axis (0 z, 1 y, 2 x) each new axis is.
        flips: Which of the new axes run the other way.
        negated: Intensities have the other sign.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)
    negated: bool = False

    def after(self, other: Variant) -> Variant:
        """Return the variant that does ``other`` first and then this one."""
        z, y, x = (
            (other.order[axis], other.flips[axis] != flip) for axis, flip in zip(self.order, self.flips, strict=True)
        )
        return Variant((z[0], y[0], x[0]), (z[1], y[1], x[1]), self.negated != other.negated)

    @property
    def undone(self) -> Variant:
        """The variant that turns back what this one turned."""
        z, y, x = (self.order.index(axis) for axis in range(3))
        return Variant((z, y, x), (self.flips[z], self.flips[y], self.flips[x]), self.negated)

    def name(self) -> str:
        """Return a short name such as "zyx", "xyz flip x" or "zyx negated"."""
        axes = "".join("zyx"[axis] for axis in self.order)
        flipped = "".join("zyx"[place] for place, flip in enumerate(self.flips) if flip)
        return " ".join([axes, *(["flip", flipped] if flipped else []), *(["negated"] if self.negated else [])])


def all_variants(*, negated: bool = True) -> list[Variant]:
    """Return all 48 flips and swaps of axes, the scan as it is first, and with each the negative if asked for."""
    return [
        Variant((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]), sign)
        for sign in ((False, True) if negated else (False,))
        for order in itertools.permutations(range(3))
        for flips in itertools.product((False, True), repeat=3)
    ]


def coefficients(field: npt.NDArray[np.float32], box: Box | None = None) -> Coefficients:
    """Return the lowest 8x8x8 frequencies (those of the DCT-II) of a box of a field.

    Args:
        field: (z, y, x), any intensities. Waves are fitted to the box, so its sides may differ.
        box: (start, stop) in voxels along each axis, fractions allowed; the whole field if absent.

    Returns:
        (8, 8, 8), scaled so that the largest besides the mean is 1; zeros for a constant box. The mean is set to 0.
    """
    low: npt.NDArray[Any] = field
    for axis in range(3):
        waves = _waves(field.shape[axis], *(box[axis] if box else (0.0, float(field.shape[axis]))))
        # einsum without BLAS: the same sums in the same order whatever the number of threads. What is reduced is the
        # first axis, which comes back as the last, so after three rounds the axes are in their order again.
        low = np.einsum("zyx,kz->yxk", low, waves)
    low[0, 0, 0] = 0.0
    largest = float(np.abs(low).max())
    # A constant block leaves rounding errors of its mean, which are no image.
    if largest <= _NOTHING * max(1.0, float(np.abs(field).max())):
        return np.zeros((SIDE,) * 3, dtype=np.float16)
    result: Coefficients = (low / largest).astype(np.float16)
    return result


@functools.lru_cache(maxsize=256)
def _waves(length: int, start: float, stop: float) -> npt.NDArray[np.float32]:
    """Return cosines 0 to 7 over [start, stop], each the mean over a voxel's part of it: float32 (8, length)."""
    edges = np.clip(np.arange(length + 1), start, stop)
    phase = np.pi * np.arange(1, SIDE)[:, None] * (edges - start) / (stop - start)
    constant = np.diff(edges)[None] / (stop - start)
    waves = np.diff(np.sin(phase), axis=1) / (np.pi * np.arange(1, SIDE)[:, None]) * np.sqrt(2)
    return np.concatenate([constant, waves]).astype(np.float32)


def turned(stored: Coefficients, variant: Variant) -> Coefficients:
    """Return the coefficients that a scan would have after the variant's swap, flips and change of sign.

    Args:
        stored: (8, 8, 8) or (n, 8, 8, 8) as `coefficients` gives them.
        variant: What to do; axes are swapped first, then flipped.
    """
    result = stored.transpose(*range(stored.ndim - 3), *(stored.ndim - 3 + axis for axis in variant.order)).copy()
    for axis, flip in enumerate(variant.flips):
        if flip:
            odd = np.moveaxis(result, result.ndim - 3 + axis, 0)[1::2]  # a view
            odd *= np.float16(-1)
    return -result if variant.negated else result


def bits(stored: Coefficients) -> Code:
    """Return the packed hash of coefficients: which of the 511 lie above their median.

    Args:
        stored: (8, 8, 8) or (n, 8, 8, 8) as `coefficients` or `turned` gives them.

    Returns:
        uint64, (8,) or (n, 8); half of the 511 bits are set, so codes are balanced.
    """
    flat = stored.reshape(*stored.shape[:-3], SIDE**3)[..., 1:]
    above = flat > np.median(flat.astype(np.float32), axis=-1, keepdims=True)
    packed = np.packbits(above, axis=-1, bitorder="little")
    result: Code = np.ascontiguousarray(packed).view("<u8").astype(np.uint64)
    return result


def plane_bits(images: npt.NDArray[np.float32]) -> Code:
    """Return the 63-bit perceptual hash of each image: its lowest 8x8 frequencies above their median.

    Args:
        images: (n, y, x), at least 8 wide and high.

    Returns:
        uint64 (n,); 0 for constant images.
    """
    if not len(images):
        return np.zeros(0, dtype=np.uint64)
    rows = np.einsum("nyx,kx->nky", images, _waves(images.shape[2], 0.0, float(images.shape[2])))
    low = np.einsum("nky,jy->njk", rows, _waves(images.shape[1], 0.0, float(images.shape[1])))
    flat = low.reshape(len(images), SIDE**2)[:, 1:]
    tiny = _NOTHING * np.maximum(1.0, np.abs(images).max(axis=(1, 2)))[:, None]
    return signs(flat, np.abs(flat).max(axis=1, keepdims=True) > tiny)


def signs(flat: npt.NDArray[np.floating], told: npt.NDArray[np.bool_] | None = None) -> Code:
    """Return which of 63 numbers lie above their median, packed.

    Args:
        flat: (n, 63).
        told: (n, 1); rows that are False become 0.

    Returns:
        uint64 (n,).
    """
    above = flat > np.median(flat, axis=1, keepdims=True)
    if told is not None:
        above &= told
    packed: Code = np.ascontiguousarray(np.packbits(above, axis=1, bitorder="little")).view("<u8").astype(np.uint64)
    return packed[:, 0]


def distance(first: Code, second: Code) -> int:
    """Return in how many bits two packed hashes differ."""
    return sum(int(word).bit_count() for word in np.bitwise_xor(first, second).ravel())
