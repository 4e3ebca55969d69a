"""The local losses of Chaitanya et al. against values computed by hand, and each published slip held off."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medssl.objectives.local_regions import cut_regions, local_contrast, nearest_regions, region_starts

SLICE = region_starts((1, 24, 24), (1, 3, 3))


def random_features(versions=2, volumes=2, parts=2, regions=13, width=6, seed=0):
    draw = torch.randn(versions, volumes, parts, regions, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(draw, dim=-1)


def one_hot(versions=2, volumes=2, parts=2, regions=13):
    """Every region is a unit vector of its own, the same in all maps."""
    return torch.eye(regions).expand(versions, volumes, parts, regions, regions).clone()


def near(count):
    return nearest_regions(SLICE, (1, 3, 3), count)


@pytest.mark.parametrize(("temperature", "value"), [(1.0, 1.543040), (0.1, math.log1p(10 * math.exp(-10)))])
def test_random_loss_of_perfect_features(temperature, value):
    """One positive at 1 and ten orthogonal negatives: log(1 + 10 e^(-1 / t))."""
    found = local_contrast(one_hot(), near(5), variant="random", temperature=temperature)
    assert found.item() == pytest.approx(value, rel=2e-4)


def test_collapsed_features():
    same = torch.ones(2, 3, 4, 13, 5)
    assert local_contrast(same, near(5), variant="random").item() == pytest.approx(2.397895, rel=1e-6)
    assert local_contrast(same, near(4), variant="aligned").item() == pytest.approx(2.197225, rel=1e-6)


def test_published_scales():
    features = random_features(volumes=3)
    for variant, factor in (("random", 1.0), ("aligned", 1.5)):
        mean = local_contrast(features, near(4), variant=variant)
        published = local_contrast(features, near(4), variant=variant, normalise="published")
        assert published.item() == pytest.approx(factor * mean.item(), rel=1e-6)


def by_loops(features, repels, *, aligned, temperature):
    versions, volumes, parts, regions, _ = features.shape
    terms = []
    for v in range(versions):
        for m in range(volumes):
            for s in range(parts):
                partners = [(w, m) for w in range(versions) if w != v]
                partners += [(v, n) for n in range(volumes) if n != m] if aligned else []
                for w, n in partners:
                    for r in range(regions):
                        anchor, positive = features[v, m, s, r], features[w, n, s, r]
                        attract = math.exp(float(anchor @ positive) / temperature)
                        repel = sum(
                            math.exp(float(anchor @ side[k]) / temperature)
                            for side in (features[v, m, s], features[w, n, s])
                            for k in repels[r].tolist()
                            if k >= 0
                        )
                        terms.append(-math.log(attract / (attract + repel)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("volumes", "parts"), [(1, 2), (2, 3), (3, 4), (4, 2)])
def test_written_out_with_loops_for_any_number_of_volumes_and_parts(volumes, parts):
    """The released code has batches of three volumes by four parts written into it; any batch is right here."""
    features = random_features(volumes=volumes, parts=parts)
    for variant, aligned in (("random", False), ("aligned", True)):
        found = local_contrast(features, near(4), variant=variant, temperature=0.5).item()
        assert found == pytest.approx(by_loops(features, near(4), aligned=aligned, temperature=0.5), rel=1e-5)


def test_only_regions_of_the_two_maps_of_a_pair_repel():
    """Other partitions and, for L^R, other volumes have no gradient on a region's loss."""
    features = random_features(volumes=3, parts=2).requires_grad_()
    part = features[:, :1]
    local_contrast(part, near(5), variant="random").backward()
    assert (features.grad[:, 1:] == 0).all()
    assert (features.grad[:, 0].abs().sum(dim=-1) > 0).all()


def test_regions_reach_every_edge_of_the_map():
    """The released code's last region of length 3 begins at size - 4, so the last row is in none."""
    first = torch.tensor(SLICE)
    assert first.min(dim=0).values.tolist() == [0, 0, 0]
    assert (first.max(dim=0).values + torch.tensor([1, 3, 3])).tolist() == [1, 24, 24]
    assert len(SLICE) == len(set(SLICE)) == 13
    assert len(region_starts((4, 24, 16), (1, 3, 3))) == 27 + 8


def test_regions_that_overlap_do_not_repel():
    size = (1, 3, 3)
    starts = region_starts((1, 8, 8), size)
    for row, repelled in enumerate(nearest_regions(starts, size, None).tolist()):
        for other in (k for k in repelled if k >= 0):
            assert any(abs(a - b) >= s for a, b, s in zip(starts[row], starts[other], size, strict=True))
    corner = nearest_regions(SLICE, size, 1)[SLICE.index((0, 0, 0))].item()
    assert SLICE[corner] == (0, 5, 5)
    with pytest.raises(ValueError, match="overlap"):
        nearest_regions(region_starts((1, 4, 4), size), size, 5)
    with pytest.raises(ValueError, match="do not fit"):
        region_starts((1, 2, 8), size)


def test_regions_are_cut_where_they_begin():
    maps = torch.arange(2 * 3 * 2 * 6 * 5).view(2, 3, 2, 6, 5).float()
    starts = region_starts((2, 6, 5), (1, 2, 2))
    cut = cut_regions(maps, starts, (1, 2, 2))
    assert cut.shape == (2, len(starts), 12)
    z, y, x = starts[7]
    assert torch.equal(cut[1, 7], maps[1, :, z, y : y + 2, x : x + 2].reshape(-1))


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10))
def test_order_of_volumes_and_length_of_features_do_not_matter(seed, scale):
    features = random_features(volumes=3, seed=seed)
    for variant in ("random", "aligned"):
        before = local_contrast(features, near(4), variant=variant).item()
        after = local_contrast(scale * features[:, [2, 0, 1]], near(4), variant=variant).item()
        assert before >= 0
        assert after == pytest.approx(before, rel=1e-4)


def test_gradient_by_finite_differences():
    features = random_features(volumes=2, parts=1, regions=13, width=3, seed=3)
    point = features.clone().requires_grad_()
    local_contrast(point, near(3), variant="aligned", temperature=0.5).backward()
    for place in ((0, 0, 0, 0, 0), (1, 1, 0, 7, 2), (0, 1, 0, 12, 1)):
        bump = torch.zeros_like(features)
        bump[place] = 1e-2
        high, low = (local_contrast(features + s * bump, near(3), variant="aligned", temperature=0.5) for s in (1, -1))
        assert point.grad[place].item() == pytest.approx((high - low).item() / 2e-2, abs=2e-4)


def test_a_single_version_is_refused():
    with pytest.raises(ValueError, match="two versions"):
        local_contrast(random_features(versions=1), near(4), variant="random")
