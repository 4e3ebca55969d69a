"""Laws of masks, patches and the masked error."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medssl.encoders.sparse import active_places
from medssl.objectives.reconstruction import masked_reconstruction, patchify, unpatchify
from medssl.randomness import Stream
from medssl.views.masking import hidden_count, sample_patch_mask, to_cells, to_voxels

triples = st.tuples(*[st.integers(1, 4)] * 3)


@given(grid=triples, patch=triples, channels=st.integers(1, 3), seed=st.integers(0, 99))
def test_patches_put_together_again_are_the_image(grid, patch, channels, seed):
    size = [g * p for g, p in zip(grid, patch, strict=True)]
    images = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(unpatchify(patchify(images, patch), grid, patch), images)


@given(total=st.integers(2, 400), ratio=st.floats(0.01, 0.99))
def test_kept_patches_are_the_rounded_share(total, ratio):
    kept = total - hidden_count((total, 1, 1), (1, 1, 1), ratio)
    assert 1 <= kept <= total - 1
    assert abs(kept - (1 - ratio) * total) <= 0.5 + 1e-9 or kept in {1, total - 1}


@given(grid=st.tuples(*[st.integers(2, 3)] * 3), patch=triples, ratio=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_masks_at_every_resolution_are_one_mask(grid, patch, ratio, seed):
    shape = tuple(g * p for g, p in zip(grid, patch, strict=True))
    mask = sample_patch_mask(Stream(seed, 0, [0, 1]), shape=shape, patch=patch, ratio=ratio)
    assert mask.flatten(1).sum(1).tolist() == [hidden_count(shape, patch, ratio)] * 2
    voxels = to_voxels(mask, patch)
    assert torch.equal(to_cells(mask, shape), voxels[:, 0])
    assert torch.equal(active_places(mask, shape), voxels)
    assert torch.equal(active_places(voxels[:, 0], grid)[:, 0], mask)


@given(
    seed=st.integers(0, 99),
    scale=st.floats(0.5, 4.0),
    shift=st.floats(-3.0, 3.0),
    error=st.sampled_from(["squared", "absolute"]),
)
def test_normalised_targets_forget_scale_and_shift(seed, scale, shift, error):
    draw = torch.Generator().manual_seed(seed)
    target, predicted = torch.rand(2, 1, 4, 4, 4, generator=draw), torch.randn(2, 1, 4, 4, 4, generator=draw)
    hidden = torch.rand(2, 2, 2, 2, generator=draw) < 0.5
    losses = [
        masked_reconstruction(predicted, values, hidden, patch=(2, 2, 2), normalise=True, error=error).item()
        for values in (target, scale * target + shift)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-6)


@given(seed=st.integers(0, 99))
def test_absolute_error_is_the_mean_of_gathered_differences_with_its_gradient(seed):
    draw = torch.Generator().manual_seed(seed)
    target = torch.rand(2, 1, 2, 4, 4, generator=draw)
    predicted = torch.rand(2, 1, 2, 4, 4, generator=draw).requires_grad_()
    hidden = torch.rand(2, 1, 2, 2, generator=draw) < 0.5
    hidden[0, 0, 0, 0] = True
    loss = masked_reconstruction(predicted, target, hidden, patch=(2, 2, 2), error="absolute")
    under = to_voxels(hidden, (2, 2, 2))
    assert loss.item() == pytest.approx((predicted - target)[under].abs().mean().item(), rel=1e-5)
    loss.backward()
    wanted = torch.where(under, torch.sign(predicted.detach() - target) / under.sum(), 0.0)
    torch.testing.assert_close(predicted.grad, wanted)
