"""Patch masks: the stated share, nothing but whole patches, every item its own."""

from __future__ import annotations

import pytest
import torch

from medssl.randomness import Stream
from medssl.views.masking import sample_patch_mask, to_voxels


def test_share_and_independence():
    mask = sample_patch_mask(Stream(0, 0, range(8)), shape=(16, 16, 16), patch=(4, 4, 4), ratio=0.75)
    assert mask.flatten(1).sum(1).tolist() == [48] * 8
    assert len({tuple(row) for row in mask.flatten(1).int().tolist()}) == 8


@pytest.mark.parametrize(("ratio", "hidden"), [(0.001, 1), (0.999, 7)])
def test_never_none_and_never_all(ratio, hidden):
    mask = sample_patch_mask(Stream(0, 0, [0]), shape=(8, 8, 8), patch=(4, 4, 4), ratio=ratio)
    assert int(mask.sum()) == hidden


def test_to_voxels_repeats_patches():
    mask = torch.tensor([[[[True, False]]]])
    voxels = to_voxels(mask, (2, 3, 2))
    assert voxels.shape == (1, 1, 2, 3, 4)
    assert voxels[..., :2].all()
    assert not voxels[..., 2:].any()


@pytest.mark.parametrize("shape", [(9, 8, 8), (4, 4, 4)])
def test_unfit_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="patch"):
        sample_patch_mask(Stream(0, 0, [0]), shape=shape, patch=(4, 4, 4), ratio=0.5)
