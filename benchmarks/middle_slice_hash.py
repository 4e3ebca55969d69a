"""The 2D perceptual hash that finders of repeated photographs use, as a baseline for benchmarks/reduction_recall.py."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["perceptual_hash"]


def perceptual_hash(image: npt.NDArray[np.uint8]) -> int:
    """Return the 64 bits of pHash exactly as `imagehash.phash` has them: 8x8 of the DCT of 32x32, > their median.

    `imagededup` takes the median without the first coefficient, and >= it; that changes a bit or two of 64, none of
    these between an image and a copy with the same pixels.

    Args:
        image: 8-bit grey slice (y, x).
    """
    from PIL import Image
    from scipy.fft import dct

    pixels = np.asarray(Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.LANCZOS))
    low = dct(dct(pixels.astype(np.float64), axis=0), axis=1)[:8, :8]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
