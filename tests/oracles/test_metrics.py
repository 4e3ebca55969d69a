"""Metrics against independent implementations: MONAI, a distance transform, values by hand, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from medssl.evaluation.intervals import bootstrap_mean, hierarchical_bootstrap
from medssl.evaluation.overlap import overlap
from medssl.evaluation.paired import holm, wilcoxon_p
from medssl.evaluation.probes import effective_rank, feature_spread, knn_probe
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


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
def test_bootstrap_intervals_equal_scipy(method, theirs):
    values = np.random.default_rng(3).beta(8, 2, 40)
    ours = bootstrap_mean(values, method=method, resamples=20_000)
    other = stats.bootstrap((values,), np.mean, n_resamples=20_000, method=theirs, rng=np.random.default_rng(1))
    # Monte-Carlo error of an end at 20,000 resamples is about 1 % of the width
    width = other.confidence_interval.high - other.confidence_interval.low
    assert ours.low == pytest.approx(other.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(other.confidence_interval.high, abs=0.05 * width)


def test_hierarchical_interval_of_the_mean_has_the_width_of_a_two_way_layout():
    # scores = draw effect + case effect: var(mean) = S_draw / D + S_case / C with population variances
    generator = np.random.default_rng(0)
    draw, case = generator.normal(0, 0.05, 12), generator.normal(0, 0.1, 60)
    interval = hierarchical_bootstrap(0.8 + draw[:, None] + case[None], resamples=20_000)
    expected = 2 * 1.959964 * np.sqrt(draw.var() / 12 + case.var() / 60)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.05)


def test_hierarchical_bootstrap_with_one_draw_is_the_plain_one():
    values = np.random.default_rng(5).beta(8, 2, 30)
    one, plain = hierarchical_bootstrap(values[None], resamples=20_000), bootstrap_mean(values, resamples=20_000)
    assert one.estimate == plain.estimate
    assert one.low == pytest.approx(plain.low, abs=2e-3)
    assert one.high == pytest.approx(plain.high, abs=2e-3)


def test_wilcoxon_by_hand():
    # 6 differences, all positive: the two extreme sign patterns of 2**6
    assert wilcoxon_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == pytest.approx(2 / 64)
    # smallest one negative: W = 1, two patterns with W <= 1 on each side
    assert wilcoxon_p([-1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == pytest.approx(4 / 64)


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


def test_knn_probe_equals_scikit_learn_leaving_patients_out():
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 60)
    embeddings = generator.standard_normal((60, 8)) + 1.5 * np.eye(8)[labels]
    patients = [f"p{i // 2}" for i in range(60)]
    predicted = cross_val_predict(
        KNeighborsClassifier(1, metric="cosine"), embeddings, labels, groups=patients, cv=LeaveOneGroupOut()
    )
    assert knn_probe(embeddings, labels.tolist(), patients, neighbours=1).accuracy == np.mean(predicted == labels)


def test_effective_rank_and_spread_by_hand():
    # two orthogonal directions, of singular values 3 : 1 -> entropy of (.75, .25)
    embeddings = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert effective_rank(embeddings) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    # unit vectors along +-x and +-y: each dimension holds 1, -1, 0, 0 -> std sqrt(1/2); times sqrt(2)
    assert feature_spread(embeddings) == pytest.approx(1.0)
