"""The global losses of Chaitanya et al. against values computed by hand, and each published slip held off."""

from __future__ import annotations

import math

import pytest
import torch

from medssl.objectives.partitions import partition_contrast


def one_hot(versions=2, volumes=2, parts=2):
    """Every image of partition p is the unit vector e_p."""
    return torch.eye(parts).expand(versions, volumes, parts, parts).clone()


@pytest.mark.parametrize(("temperature", "value"), [(1.0, 0.904832), (0.1, 1.815832e-4)])
def test_aligned_one_hot(temperature, value):
    found = partition_contrast(one_hot(), variant="aligned", temperature=temperature)
    assert found.item() == pytest.approx(value, rel=2e-3, abs=5e-7)


def test_collapsed_embeddings():
    same = torch.ones(2, 2, 2, 3)
    assert partition_contrast(same, variant="aligned").item() == pytest.approx(math.log(5), rel=1e-6)


def test_published_scales():
    features = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    for variant, factor in (("random", 1), ("negatives", 2), ("aligned", 4)):
        mean = partition_contrast(features, variant=variant)
        assert partition_contrast(features, variant=variant, normalise="published").item() == pytest.approx(
            factor * mean.item(), rel=1e-6
        )


def test_aligned_written_out_with_loops():
    """Each pair of volumes once; images (x_i, x~_j) are no positive pair; negatives are all images of other parts."""
    draw = torch.nn.functional.normalize(torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    terms = []

    def term(a, b, part):
        others = [draw[v, m, s] for v in range(2) for m in range(3) for s in range(4) if s != part]
        repel = sum(torch.exp(a @ n / 0.5) for n in others)
        terms.append(-torch.log(torch.exp(a @ b / 0.5) / (torch.exp(a @ b / 0.5) + repel)))

    for part in range(4):
        for i in range(3):
            for j in range(i + 1, 3):
                x, y = draw[:, i, part], draw[:, j, part]
                for a, b in ((x[0], x[1]), (x[0], y[0]), (y[0], y[1]), (x[1], y[1])):
                    term(a, b, part)
                    term(b, a, part)
    wanted = torch.stack(terms).mean().item()
    assert partition_contrast(draw, variant="aligned", temperature=0.5).item() == pytest.approx(wanted, rel=1e-5)


def test_same_partition_images_repel_in_the_random_loss_alone():
    """The value that tells G^R from G^D-: other images of the same partition at similarity 1."""
    found = {
        "random": partition_contrast(one_hot(2, 2, 2), variant="random", temperature=0.1).item(),
        "negatives": partition_contrast(one_hot(3, 2, 2), variant="negatives", temperature=0.1).item(),
    }
    assert found["random"] == pytest.approx(math.log(3 + 4 * math.exp(-10)), rel=1e-5)
    assert found["negatives"] == pytest.approx(math.log(1 + 6 * math.exp(-10)), rel=2e-3)


def test_images_of_one_partition_do_not_repel():
    """Partitions live in orthogonal spaces; turning one image within its own changes G^R alone."""
    draw = torch.Generator().manual_seed(2)
    features = torch.zeros(3, 3, 2, 6)
    features[:, :, 0, :3], features[:, :, 1, 3:] = torch.randn(2, 3, 3, 3, generator=draw)
    turned = features.clone()
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw))
    turned[:, 1, 0, :3] = features[:, 1, 0, :3] @ turn
    for variant, same in (("negatives", True), ("random", False)):
        before, after = (partition_contrast(f, variant=variant).item() for f in (features, turned))
        assert (abs(before - after) < 1e-5) == same, variant


@pytest.mark.parametrize("variant", ["random", "negatives", "aligned"])
def test_order_of_volumes_does_not_matter_and_every_image_takes_part(variant):
    features = torch.randn(3, 4, 3, 5, generator=torch.Generator().manual_seed(4)).requires_grad_()
    loss = partition_contrast(features, variant=variant)
    assert partition_contrast(features[:, [2, 0, 3, 1]], variant=variant).item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    used = features.grad.abs().sum(dim=-1) > 0
    assert used.all()


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_partitions_are_counted_as_asked(parts):
    """With one volume only the other parts repel, however many there are."""
    found = partition_contrast(one_hot(2, 1, parts), variant="negatives", temperature=1.0).item()
    assert found == pytest.approx(math.log(1 + 2 * (parts - 1) * math.exp(-1)), rel=1e-5)


def test_gradient_by_finite_differences():
    features = torch.randn(2, 2, 2, 3, generator=torch.Generator().manual_seed(5))
    point = features.clone().requires_grad_()
    partition_contrast(point, variant="aligned", temperature=0.5).backward()
    for place in ((0, 0, 0, 0), (1, 1, 0, 2), (0, 1, 1, 1)):
        bump = torch.zeros_like(features)
        bump[place] = 1e-2
        rise = partition_contrast(features + bump, variant="aligned", temperature=0.5) - partition_contrast(
            features - bump, variant="aligned", temperature=0.5
        )
        assert point.grad[place].item() == pytest.approx(rise.item() / 2e-2, abs=5e-3)


def test_too_few_versions_or_parts_are_refused():
    with pytest.raises(ValueError, match="two versions"):
        partition_contrast(one_hot()[:1], variant="random")
    with pytest.raises(ValueError, match="at least two"):
        partition_contrast(one_hot(2, 2, 2)[:, :, :1], variant="aligned")
