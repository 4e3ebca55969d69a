"""Every encoder of clouds keeps the contract."""

from __future__ import annotations

import pytest
import torch

from medssl.errors import ConfigError
from pointcloud.batch import inside
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.table import CLOUD_ENCODERS

VIT = {"name": "point_vit", "width": 24, "depth": 2, "heads": 2, "points_per_token": 8, "patch": 8}
CASES = {name: {"name": name, **CLOUD_ENCODERS.load(name).smallest()} for name in CLOUD_ENCODERS} | {
    "point_vit": VIT,
    "point_vit, mini-PointNet": {**VIT, "tokeniser": "pointnet", "positions": "every", "pool": "max_mean"},
    "point_vit, positions once": {**VIT, "positions": "input"},
    "pointnet, not turned": {"name": "pointnet", "widths": [8, 8, 16, 32], "transforms": False},
}
NAMES = sorted(CASES)
COUNT = torch.tensor([64, 33, 50])


def small(case: str) -> CloudEncoder:
    """Return a small encoder whose parameters and statistics are all away from their start."""
    torch.manual_seed(7)
    encoder = CLOUD_ENCODERS.build(CASES[case])
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in encoder.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn_like(buffer))
    return encoder


def clouds() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(3, 64, 3, generator=generator) * torch.tensor([1.0, 0.5, 0.3])
    points = points / points.norm(dim=-1).amax(dim=1)[:, None, None]
    return torch.where(inside(COUNT, 64)[..., None], points, 0.0)


@pytest.mark.parametrize("name", sorted(CLOUD_ENCODERS))
def test_row_names_what_it_loads(name):
    row = CLOUD_ENCODERS[name]
    assert issubclass(CLOUD_ENCODERS.load(name), CloudEncoder)
    cls = CLOUD_ENCODERS.settings_class(name)
    assert cls.model_fields["name"].default == name
    assert row.paper
    assert row.take_when.endswith(".")
    assert all(field.description for key, field in cls.model_fields.items() if key != "name")


@pytest.mark.parametrize("case", NAMES)
def test_features_are_as_declared(case):
    encoder, points = small(case), clouds()
    found = encoder(points, COUNT)
    assert found.embedding.shape == (3, encoder.embedding_dim)
    assert found.embedding.dtype == torch.float32
    assert len(found.levels) == len(encoder.channels)
    for level, channels in zip(found.levels, encoder.channels, strict=True):
        assert level.features.shape == (3, level.places.shape[1], channels)
        assert level.places.shape == (3, int(level.count.max()), 3)
        assert torch.isfinite(level.features[inside(level.count, level.features.shape[1])]).all()
        for row in range(3):  # every place is a point of its own cloud
            places = level.places[row, : level.count[row]]
            assert (places[:, None] == points[row, None, : COUNT[row]]).all(-1).any(1).all()
    assert torch.isfinite(found.embedding).all()


@pytest.mark.parametrize("case", NAMES)
def test_order_of_points_does_not_matter(case):
    encoder, points = small(case).eval(), clouds()
    shuffled = points.clone()
    for row, count in enumerate(COUNT.tolist()):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(row))
        shuffled[row, :count] = points[row, order]
    with torch.no_grad():
        assert torch.allclose(encoder.embed(points, COUNT), encoder.embed(shuffled, COUNT), atol=1e-4)


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_padding_does_not_matter_whatever_it_holds(case, training):
    encoder, points = small(case).train(training), clouds()
    longer = torch.cat([points, torch.full((3, 9, 3), 7.5)], dim=1)
    longer = torch.where(inside(COUNT, 73)[..., None], longer, float("nan"))
    with torch.no_grad():
        before, after = encoder(points, COUNT), encoder(longer, COUNT)
    assert torch.allclose(before.embedding, after.embedding, atol=1e-4)
    for a, b in zip(before.levels, after.levels, strict=True):
        there = inside(a.count, a.features.shape[1])
        assert torch.allclose(a.features[there], b.features[:, : there.shape[1]][there], atol=1e-4)


@pytest.mark.parametrize("case", NAMES)
def test_each_cloud_stands_alone(case):
    encoder, points = small(case).eval(), clouds()
    with torch.no_grad():
        together = encoder.embed(points, COUNT)
        for row, count in enumerate(COUNT.tolist()):
            alone = encoder.embed(points[row : row + 1, :count], COUNT[row : row + 1])
            assert torch.allclose(together[row], alone[0], atol=1e-4)


@pytest.mark.parametrize("case", NAMES)
def test_gradient_reaches_every_parameter(case):
    encoder = small(case)
    found = encoder(clouds(), COUNT)
    generator = torch.Generator().manual_seed(1)
    loss = (found.embedding * torch.randn(found.embedding.shape, generator=generator)).sum()
    loss.backward()
    still = [n for n, p in encoder.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0.0]
    assert still == []


@pytest.mark.parametrize("case", NAMES)
def test_a_cloud_smaller_than_a_neighbourhood_works(case):
    encoder = small(case).eval()
    points = clouds()[:2, :5].contiguous()
    assert torch.isfinite(encoder.embed(points, torch.tensor([5, 3]))).all()


@pytest.mark.parametrize("case", NAMES)
def test_other_clouds_have_other_embeddings(case):
    encoder, points = small(case).eval(), clouds()
    with torch.no_grad():
        first, second, _ = encoder.embed(points, COUNT)
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("case", NAMES)
def test_state_dict_makes_a_fresh_encoder_the_same(case):
    encoder = small(case).eval()
    fresh = CLOUD_ENCODERS.build(encoder.settings.model_dump(mode="json")).eval()
    points = clouds()
    with torch.no_grad():
        assert not torch.allclose(fresh.embed(points, COUNT), encoder.embed(points, COUNT))
        fresh.load_state_dict(encoder.state_dict(), strict=True)
        assert torch.equal(fresh.embed(points, COUNT), encoder.embed(points, COUNT))


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'pointnet'"):
        CLOUD_ENCODERS.build({"name": "pointnett"})
    with pytest.raises(ConfigError, match="has no name"):
        CLOUD_ENCODERS.build({"width": 3})
    with pytest.raises(ConfigError, match="heads must divide width"):
        CLOUD_ENCODERS.build({"name": "point_vit", "width": 10, "heads": 4})
    with pytest.raises(ConfigError, match="one entry for each level"):
        CLOUD_ENCODERS.build({"name": "hierarchy", "radii": [0.1]})
