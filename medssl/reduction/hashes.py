"""Perceptual hashes of a volume: the signs of its lowest 3D frequencies, which re-exporting hardly changes.

Two hashes are made, of the whole field and of the box of the foreground, for they fail on different changes: padding
and cropping air move the first, noise and shading the second. The coefficients are kept beside the bits: a flip along
an axis changes the sign of its odd coefficients, a swap of axes transposes them, a change of sign negates them, so all
96 variants of a scan whose header is not to be trusted are tested without reading it again.

Source: pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010), in 3D.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    "turned",
]

SIDE = 8  # frequencies kept along each axis
BITS = SIDE**3 - 1  # 511: the mean of the image is left out
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


def coefficients(block: npt.NDArray[np.float32]) -> Coefficients:
    """Return the lowest 8x8x8 coefficients of the 3D cosine transform (DCT-II) of a cube.

    Args:
        block: Cube (n, n, n) with n >= 8, any intensities. It must be a cube so that axes can be swapped afterwards.

    Returns:
        (8, 8, 8), scaled so that the largest besides the mean is 1; zeros for a constant block. The mean is set to 0.
    """
    from scipy.fft import dctn

    low = dctn(block.astype(np.float64), type=2, norm="ortho")[:SIDE, :SIDE, :SIDE]
    low[0, 0, 0] = 0.0
    largest = float(np.abs(low).max())
    # A constant block leaves rounding errors of its mean, which are no image.
    if largest <= 1e-5 * max(1.0, float(np.abs(block).max())):
        return np.zeros((SIDE,) * 3, dtype=np.float16)
    result: Coefficients = (low / largest).astype(np.float16)
    return result


def turned(stored: Coefficients, variant: Variant) -> Coefficients:
    """Return the coefficients that a scan would have after the variant's swap, flips and change of sign.

    Args:
        stored: (8, 8, 8) as `coefficients` gives them.
        variant: What to do; axes are swapped first, then flipped.
    """
    result = stored.transpose(variant.order).copy()
    for axis, flip in enumerate(variant.flips):
        if flip:
            result[(slice(None),) * axis + (slice(1, None, 2),)] *= np.float16(-1)
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
        images: (n, m, m) with m >= 8.

    Returns:
        uint64 (n,); 0 for constant images.
    """
    from scipy.fft import dctn

    if not len(images):
        return np.zeros(0, dtype=np.uint64)
    low = dctn(images.astype(np.float64), type=2, norm="ortho", axes=(1, 2))[:, :SIDE, :SIDE].reshape(-1, SIDE**2)[
        :, 1:
    ]
    tiny = 1e-5 * np.maximum(1.0, np.abs(images).max(axis=(1, 2)))[:, None]
    above = low > np.median(low, axis=1, keepdims=True)
    above &= np.abs(low).max(axis=1, keepdims=True) > tiny
    result: Code = np.ascontiguousarray(np.packbits(above, axis=1, bitorder="little")).view("<u8").astype(np.uint64)
    return result[:, 0]


def distance(first: Code, second: Code) -> int:
    """Return in how many bits two packed hashes differ."""
    return sum(int(word).bit_count() for word in np.bitwise_xor(first, second).ravel())
