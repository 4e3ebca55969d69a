"""Metrics against independent implementations: MONAI, a distance transform, values by hand, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medssl.evaluation.overlap import overlap
from medssl.evaluation.statistics.holm import holm
from medssl.evaluation.surface import surface_distances_mm, surface_score


def blobs(shape, seed, threshold=0.3):
    """Two ragged masks that overlap in part."""
    generator = np.random.default_rng(seed)
    shared = ndimage.gaussian_filter(generator.standard_normal(shape), 2.0)
    own = [shared + 0.5 * ndimage.gaussian_filter(generator.standard_normal(shape), 2.0) for _ in range(2)]
    return tuple(field > threshold * field.std() for field in own)


def one_hot(mask):
    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))


def medpy_like_hd95(first, second, spacing):
    """HD95 as medpy takes it: the 95th percentile of both directions pooled; borders by erosion, EDT distances."""
    cross = ndimage.generate_binary_structure(first.ndim, 1)
    borders = [m ^ ndimage.binary_erosion(m, cross) for m in (first, second)]
    distances = [ndimage.distance_transform_edt(~borders[1 - i], sampling=spacing)[borders[i]] for i in range(2)]
    return float(np.percentile(np.concatenate(distances), 95)), distances


SPACINGS = [(1.0, 1.0, 1.0), (8.0, 1.4, 1.4), (0.7, 1.3, 2.1)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_surface_scores_equal_monai(seed, spacing):
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    truth, prediction = blobs((14, 24, 22), seed)
    ours = surface_score(truth, prediction, spacing_mm=spacing, tolerance_mm=1.5)
    pair = {"y_pred": one_hot(prediction), "y": one_hot(truth), "spacing": spacing}
    assert ours.hd95_mm == pytest.approx(float(compute_hausdorff_distance(**pair, percentile=95)), abs=1e-4)
    assert ours.nsd == pytest.approx(float(compute_surface_dice(**pair, class_thresholds=[1.5])), abs=1e-6)
    assert ours.assd_mm == pytest.approx(float(compute_average_surface_distance(**pair, symmetric=True)), abs=1e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_equal_a_distance_transform_of_the_whole_image(spacing):
    truth, prediction = blobs((14, 24, 22), 7)
    ours = surface_distances_mm(truth, prediction, spacing_mm=spacing)
    _, theirs = medpy_like_hd95(truth, prediction, spacing)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-9)


def test_dice_and_iou_equal_monai():
    from monai.metrics import compute_dice, compute_iou

    truth, prediction = blobs((14, 24, 22), 5)
    ours = overlap(truth.astype(int), prediction.astype(int), [1], spacing_mm=(1, 1, 1))[1]
    pair = {"y_pred": one_hot(prediction), "y": one_hot(truth), "include_background": False}
    assert ours.dice == pytest.approx(float(compute_dice(**pair)), abs=1e-6)
    assert ours.iou == pytest.approx(float(compute_iou(**pair)), abs=1e-6)


def square():
    truth = np.zeros((12, 12), bool)
    truth[4:8, 4:8] = True
    return truth


def test_shifted_square_by_hand():
    truth = square()
    shifted = np.roll(truth, 1, axis=1)
    assert overlap(truth.astype(int), shifted.astype(int), [1], spacing_mm=(1, 1))[1].dice == 0.75
    assert surface_score(truth, shifted, spacing_mm=(1, 1), tolerance_mm=1).hd95_mm == 1.0
    assert surface_score(truth, shifted, spacing_mm=(1, 2), tolerance_mm=1).hd95_mm == 2.0
    # columns are 2 mm apart, so at 1 mm only border voxels that lie on both borders count: 4 + 4 of rows shared, less
    # the two row ends that stick out, leave 8 of 12 on each side
    assert surface_score(truth, shifted, spacing_mm=(1, 2), tolerance_mm=1).nsd == pytest.approx(2 / 3)


def test_far_false_positive_tells_definitions_apart():
    truth = square()
    prediction = truth.copy()
    prediction[11, 11] = True  # sqrt(32) from the corner at (7, 7)
    ours = surface_score(truth, prediction, spacing_mm=(1.25, 1.25), tolerance_mm=1)  # so 5 * sqrt(2) mm
    pooled, directed = medpy_like_hd95(truth, prediction, (1.25, 1.25))
    assert max(d.max() for d in directed) == pytest.approx(7.071068, abs=1e-6)
    assert overlap(truth.astype(int), prediction.astype(int), [1], spacing_mm=(1, 1))[1].dice == pytest.approx(32 / 33)
    assert pooled == 0.0
    assert ours.hd95_mm == pytest.approx(2.828427, abs=1e-6)
    assert ours.nsd == pytest.approx(0.96)


def test_single_pixels_four_apart():
    truth, prediction = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    truth[5, 3] = prediction[5, 7] = True
    assert overlap(truth.astype(int), prediction.astype(int), [1], spacing_mm=(1, 1))[1].dice == 0.0
    assert surface_score(truth, prediction, spacing_mm=(1, 1), tolerance_mm=1).hd95_mm == 4.0


def test_holm_by_hand_and_by_its_definition():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    # Holm rejects, at any level, exactly what the step-down procedure does
    p_values = {str(i): float(p) for i, p in enumerate(np.random.default_rng(2).beta(0.3, 3, 9))}
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
            if p > level / (len(p_values) - rank):
                break
            rejected.add(name)
        assert rejected == {name for name, p in corrected.items() if p <= level}
