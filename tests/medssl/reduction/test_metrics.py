"""Distances against libraries that others wrote: scikit-image, scikit-learn, scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from skimage.metrics import structural_similarity
from sklearn.metrics import normalized_mutual_info_score

from medssl.errors import ConfigError
from medssl.reduction.metrics import Bits, Cosine, Information, Structure


@pytest.fixture
def pictures():
    noise = np.random.default_rng(3)
    smooth = np.stack([gaussian_filter(noise.standard_normal((24, 31)), s) for s in (0.5, 1, 2, 3, 4)])
    scaled = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255
    flat = np.full((1, 24, 31), 90)
    return np.concatenate([scaled, scaled[:2] * 0.6 + 20, flat, flat]).astype(np.uint8)


def test_ssim_is_that_of_scikit_image(pictures):
    metric = Structure(pictures)
    for i in range(len(pictures)):
        expected = [1 - structural_similarity(pictures[i], other, data_range=255) for other in pictures]
        np.testing.assert_allclose(metric.row(i), np.maximum(expected, 0), atol=1e-9)


def test_planes_are_averaged(pictures):
    stacked = np.stack([pictures, pictures[::-1]], axis=1)
    both = (Structure(pictures).row(1) + Structure(pictures[::-1]).row(1)) / 2
    np.testing.assert_allclose(Structure(stacked).row(1), both, atol=1e-12)


def test_mutual_information_is_that_of_scikit_learn(pictures):
    metric = Information(pictures, bins=32)
    binned = (pictures.astype(int) // 8).reshape(len(pictures), -1)
    for i in range(len(pictures)):
        expected = [1 - normalized_mutual_info_score(binned[i], other) for other in binned]
        np.testing.assert_allclose(metric.row(i), np.clip(expected, 0, 1), atol=1e-9)


def test_a_negative_tells_all_to_mutual_information_and_nothing_good_to_ssim(pictures):
    pair = np.stack([pictures[3] // 8 * 8, 255 - 7 - pictures[3] // 8 * 8])
    assert Information(pair).row(0)[1] == pytest.approx(0, abs=1e-9)
    assert Structure(pair).row(0)[1] > 0.3


def test_cosine_and_bits_are_those_of_scipy():
    noise = np.random.default_rng(1)
    vectors = noise.standard_normal((9, 5))
    expected = cdist(vectors, vectors, "cosine")
    for i in range(9):
        np.testing.assert_allclose(Cosine(vectors).row(i), expected[i], atol=1e-6)
    vectors[4] = 0
    assert Cosine(vectors).row(0)[4] == 1.0
    codes = noise.integers(0, 2**64, (7, 2), dtype=np.uint64)
    flat = np.unpackbits(codes.view(np.uint8), axis=1)
    for i in range(7):
        np.testing.assert_array_equal(Bits(codes).row(i), (cdist(flat[i : i + 1], flat, "hamming")[0] * 128).round())


def test_pictures_must_hold_a_window():
    with pytest.raises(ConfigError, match="7 x 7"):
        Structure(np.zeros((3, 6, 9), np.uint8))
