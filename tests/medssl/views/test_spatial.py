"""Spatial augmentation: neutral settings change nothing, known turns land where they must, labels follow images."""

from __future__ import annotations

import pytest
import torch

from medssl.randomness import Stream
from medssl.views.spatial import SpatialParams, SpatialSettings, _places, apply_spatial, sample_spatial

SHAPE = (6, 8, 8)


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_default_changes_nothing():
    params = sample_spatial(SpatialSettings(), Stream(0, 0, [0, 1, 2]), shape=SHAPE)
    assert torch.equal(apply_spatial(images(), params)[0], images())


def test_certain_flip_along_x_is_a_flip():
    params = sample_spatial(SpatialSettings(flip=(0, 0, 1)), Stream(0, 0, [0, 1, 2]), shape=SHAPE)
    assert torch.equal(apply_spatial(images(), params)[0], images().flip(4))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns(turns):
    params = SpatialParams(torch.zeros(3, 3, dtype=torch.bool), torch.full((3,), turns), None)
    assert torch.equal(apply_spatial(images(), params)[0], torch.rot90(images(), turns, dims=(3, 4)))


def test_quarter_turn_needs_a_square_plane():
    params = SpatialParams(torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, dtype=torch.int64), None)
    with pytest.raises(ValueError, match="square"):
        apply_spatial(torch.rand(1, 1, 4, 4, 6), params)


def test_labels_move_with_the_image():
    settings = SpatialSettings(rotate_degrees=(30, 20, 20), scale=(0.8, 1.2), flip=(0.5, 0.5, 0.5), translate=0.1)
    grid = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, 24),) * 3, indexing="ij"))
    ball = (((grid - 0.2) ** 2).sum(0) < 0.2).float()
    stream = Stream(4, 0, list(range(6)))
    params = sample_spatial(settings, stream, shape=(24, 24, 24))
    moved, labels = apply_spatial(
        ball.expand(6, 1, 24, 24, 24), params, labels=ball.to(torch.int16).expand(6, 24, 24, 24)
    )
    assert labels.dtype == torch.int16
    overlap = ((moved[:, 0] > 0.5) & (labels == 1)).sum((1, 2, 3)) / (labels == 1).sum((1, 2, 3))
    assert (overlap > 0.9).all()


def test_places_from_outside_are_marked():
    settings = SpatialSettings(translate=1.0, probability=1.0)
    params = sample_spatial(settings, Stream(1, 0, [0]), shape=SHAPE)
    _, labels = apply_spatial(torch.rand(1, 1, *SHAPE), params, labels=torch.ones(1, *SHAPE, dtype=torch.int16))
    assert set(labels.unique().tolist()) <= {-1, 1}
    assert (labels == -1).any()


def test_rotation_is_rigid_in_mm():
    # a ball in mm on 4:1 anisotropic voxels stays a ball whatever the rotation: compare second moments
    z, y, x = torch.meshgrid(
        torch.arange(16.0) - 7.5, torch.arange(64.0) - 31.5, torch.arange(64.0) - 31.5, indexing="ij"
    )
    ball = ((z * 4) ** 2 + y**2 + x**2 < 20**2).float().expand(1, 1, 16, 64, 64)
    settings = SpatialSettings(rotate_degrees=(0, 40, 40))
    params = sample_spatial(settings, Stream(3, 0, [0]), shape=(16, 64, 64), spacing_mm=torch.tensor([[4.0, 1.0, 1.0]]))
    moved, _ = apply_spatial(ball, params)
    inside = moved[0, 0] > 0.5
    moments = [(axis[inside] ** 2).mean().sqrt().item() for axis in (z * 4, y, x)]
    assert max(moments) / min(moments) < 1.08


def test_rows_depend_on_their_own_slot_only():
    settings = SpatialSettings(rotate_degrees=(10, 10, 10), flip=(0.5, 0.5, 0.5))
    whole = sample_spatial(settings, Stream(0, 5, [0, 1, 2, 3]), shape=SHAPE, count=2)
    part = sample_spatial(settings, Stream(0, 5, [2, 3]), shape=SHAPE, count=2)
    assert torch.equal(whole.affine[4:], part.affine)
    assert torch.equal(whole.flip[4:], part.flip)


TURNS = SpatialSettings(rotate_degrees=(40.0, 40.0, 40.0))


@pytest.mark.parametrize(("shape", "axis"), [((1, 9, 9), 0), ((9, 1, 9), 1), ((9, 9, 1), 2)])
def test_a_slice_is_turned_in_its_plane_alone(shape, axis):
    """A turn about the slice's normal rotates the other two axes and shrinks neither."""
    params = sample_spatial(TURNS, Stream(0, 0, [0, 1, 2]), shape=shape)
    column = 2 - axis  # affines are (x, y, z)
    for matrix in params.affine[:, :, :3]:
        assert matrix[column, column] == 1
        assert matrix[column].abs().sum() == matrix[:, column].abs().sum() == 1
        plane = [i for i in range(3) if i != column]
        turn = matrix[plane][:, plane]
        assert torch.allclose(turn @ turn.T, torch.eye(2), atol=1e-5)
        assert abs(float(turn[0, 1])) > 1e-3
    moved, labels = apply_spatial(torch.rand(3, 1, *shape), params, labels=torch.ones(3, *shape, dtype=torch.int16))
    assert torch.isfinite(moved).all()
    assert (labels == 1).any()


def test_thick_slices_are_turned_in_their_plane_and_thin_ones_freely():
    spacing = torch.tensor([[10.0, 1.5, 1.5], [1.0, 1.0, 1.0]])
    params = sample_spatial(TURNS, Stream(0, 0, [0, 1]), shape=(8, 16, 16), spacing_mm=spacing, count=2)
    thick, thin = params.affine[:2, :, :3], params.affine[2:, :, :3]
    assert (thick[:, 2, :2] == 0).all()
    assert (thick[:, :2, 2] == 0).all()
    assert (thick[:, 0, 1] != 0).all()
    assert (thin[:, 2, :2] != 0).all()


def test_places_are_those_of_torch():
    affine = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.affine_grid(affine, [2, 1, *SHAPE], align_corners=True)
    assert torch.allclose(_places(affine, SHAPE), wanted, atol=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.5), (1.0, 2.5, 1.0)])
def test_a_rotation_is_rigid_in_mm_whatever_the_voxels(spacing):
    """Places are mapped from output to input; two at a distance in mm are as far apart after."""
    shape = (9, 11, 17)
    turn = SpatialSettings(rotate_degrees=(40.0, 30.0, 20.0))
    affine = sample_spatial(turn, Stream(0, 0, [0, 1, 2]), shape=shape, spacing_mm=torch.tensor([spacing] * 3)).affine
    mm = torch.tensor(
        [(n - 1) / 2 * s for n, s in zip(shape[::-1], spacing[::-1], strict=True)]
    )  # of one half, (x, y, z)
    rotation = affine[:, :, :3] * mm[None, :, None] / mm[None, None, :]
    assert (rotation - torch.eye(3)).abs().max() > 0.1
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(3, 3, 3), atol=1e-5, rtol=0)


def test_what_is_unknown_stays_unknown_when_it_is_turned():
    settings = SpatialSettings(rotate_degrees=(30.0, 0.0, 0.0), flip=(0.5, 0.5, 0.5))
    params = sample_spatial(settings, Stream(0, 0, [0, 1, 2]), shape=SHAPE)
    labels = torch.full((3, *SHAPE), -1, dtype=torch.int64)
    labels[:, :, 3:5, 3:5] = 2
    turned = apply_spatial(images(), params, labels=labels)[1]
    assert set(turned.unique().tolist()) == {-1, 2}  # no 0: nothing becomes background
