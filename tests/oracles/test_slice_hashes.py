"""dHash of slices against the library that the code of "Less is More" calls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medssl.reduction.slices import as_8_bit, difference_hash

imagehash = pytest.importorskip("imagehash", reason="the oracle imagehash is not installed: pip install imagehash")


@pytest.mark.parametrize("shape", [(64, 64), (9, 8), (512, 300), (37, 211), (5, 3)])
def test_the_hash_of_a_slice_is_that_of_imagehash_to_the_bit(shape):
    from PIL import Image

    generator = np.random.default_rng(shape[0])
    for sigma in (0.0, 1.0, 6.0):
        image = as_8_bit(gaussian_filter(generator.normal(size=shape), sigma))
        theirs = imagehash.dhash(Image.fromarray(image), hash_size=8)
        assert f"{difference_hash(image):016x}" == str(theirs)
    flat = np.zeros(shape, dtype=np.uint8)
    assert f"{difference_hash(flat):016x}" == str(imagehash.dhash(Image.fromarray(flat), hash_size=8))
