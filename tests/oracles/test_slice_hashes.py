"""dHash of slices, and the benchmark's pHash, against the library that the code of "Less is More" calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dct
from scipy.ndimage import gaussian_filter, zoom

from medssl.reduction.slices import as_8_bit, difference_hash

imagehash = pytest.importorskip("imagehash", reason="the oracle imagehash is not installed: pip install imagehash")


@pytest.mark.parametrize("shape", [(64, 64), (9, 8), (512, 300), (37, 211), (5, 3)])
def test_the_hash_of_a_slice_is_that_of_imagehash_to_the_bit(shape):
    generator = np.random.default_rng(shape[0])
    for sigma in (0.0, 1.0, 6.0):
        image = as_8_bit(gaussian_filter(generator.normal(size=shape), sigma))
        theirs = imagehash.dhash(Image.fromarray(image), hash_size=8)
        assert f"{difference_hash(image):016x}" == str(theirs)
    flat = np.zeros(shape, dtype=np.uint8)
    assert f"{difference_hash(flat):016x}" == str(imagehash.dhash(Image.fromarray(flat), hash_size=8))


@pytest.mark.parametrize("shape", [(64, 64), (97, 41), (33, 200)])
def test_the_baselines_perceptual_hash_is_that_of_imagehash_to_the_bit(shape, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from middle_slice_hash import perceptual_hash

    generator = np.random.default_rng(shape[0])
    for _ in range(20):
        rough = generator.normal(size=(6, 6))
        image = zoom(rough, [n / 6 for n in shape], order=3, mode="nearest", grid_mode=True)
        image = as_8_bit(image + generator.normal(0, 0.1, image.shape))
        assert f"{perceptual_hash(image):016x}" == str(imagehash.phash(Image.fromarray(image)))


def test_the_median_of_imagededup_changes_two_bits_at_most(monkeypatch):
    """Its rule, written out: the median leaves the first coefficient out, and a bit is set at the median as well."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from middle_slice_hash import perceptual_hash

    generator = np.random.default_rng(2)
    for _ in range(20):
        image = as_8_bit(zoom(generator.normal(size=(6, 6)), 12, order=3))
        pixels = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
        low = dct(dct(pixels, axis=0), axis=1)[:8, :8]
        theirs = int.from_bytes(np.packbits(low >= np.median(low.ravel()[1:])).tobytes(), "big")
        assert (theirs ^ perceptual_hash(image)).bit_count() <= 2
