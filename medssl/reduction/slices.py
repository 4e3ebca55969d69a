"""The code of a slice by which Hash-6 of "Less is More" compares slices, exactly as its authors published it.

Source: D. Wolf et al., "Less is More: Selective reduction of CT data for self-supervised pre-training of deep learning
models with contrastive learning improves downstream classification performance", Computers in Biology and Medicine 183
(2024) 109242, and the code beside it (dHash of 8-bit slices, distance 6, greedy).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_8_bit", "difference_hash"]

_SIDE = 8


def as_8_bit(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Stretch a slice's own minimum and maximum to 0 and 255, without a window, as the paper does.

    Args:
        image: Slice (y, x). A constant one becomes 0.
    """
    values = np.asarray(image, dtype=np.float64)
    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros(values.shape, dtype=np.uint8)
    stretched: npt.NDArray[np.uint8] = ((values - low) / (high - low) * 255.0).astype(np.uint8)
    return stretched


def difference_hash(image: npt.NDArray[np.uint8]) -> int:
    """Return the 64 bits of dHash: grey, 9x8 by Lanczos, each pixel brighter than its left neighbour, row by row.

    The first comparison is the highest bit, as `imagehash.dhash(image, hash_size=8)` prints it.

    Args:
        image: 8-bit grey slice (y, x).
    """
    from PIL import Image

    small = Image.fromarray(image).convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(small)
    return int.from_bytes(np.packbits(pixels[:, 1:] > pixels[:, :-1]).tobytes(), "big")
