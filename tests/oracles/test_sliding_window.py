"""Windows of a whole scan, blended: against sums of Gaussian weights written out, and padding against what is outside.

The network looks at its window alone, so that what comes out depends on the weights that windows get.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.tasks.inference import InferenceSettings, probabilities_of

WINDOW = 12


class Places(nn.Module):
    """Gives each voxel of a window two logits that tell where in the window it lies."""

    def __init__(self, field_zyx: Tensor) -> None:
        super().__init__()
        self.field = field_zyx

    def forward(self, images: Tensor) -> Tensor:
        ramp = self.field.expand(len(images), 1, *self.field.shape)
        return torch.cat([ramp, -ramp], dim=1)


def store_of(folder, shape, *, low=-1000, high=1000, modality="CT") -> Store:
    values = np.random.default_rng(0).integers(low, high, shape).astype(np.int16)
    return store_from_arrays(folder, [Item(id="a", values=values, modality=modality)])


def starts(length: int, overlap: float, *, even: bool = False) -> list[int]:
    """Where windows begin: equal steps and the last one moved back to end with the scan; or as nnU-Net spreads them."""
    if even:  # compute_steps_for_sliding_window of nnU-Net 2
        count = int(np.ceil((length - WINDOW) / (WINDOW * (1 - overlap)))) + 1
        apart = (length - WINDOW) / (count - 1) if count > 1 else 0
        return [int(np.round(apart * n)) for n in range(count)]
    step = int(WINDOW * (1 - overlap))
    number = int(np.ceil((length - WINDOW) / step)) + 1
    return [min(n * step, length - WINDOW) for n in range(number)]


@pytest.mark.parametrize("steps", ["fixed", "even"])
@pytest.mark.parametrize(("axis", "overlap"), [(0, 0.5), (1, 0.5), (2, 0.25)])
def test_windows_are_blended_with_a_gaussian_of_an_eighth_of_the_window(tmp_path, axis, overlap, steps):
    shape = [WINDOW] * 3
    shape[axis] = 29
    line = np.sin(np.arange(WINDOW) / 2.0) * 2
    view = [1, 1, 1]
    view[axis] = WINDOW
    field = torch.from_numpy(line).float().view(view).expand(WINDOW, WINDOW, WINDOW)
    store = store_of(tmp_path / "store", tuple(shape))
    found = probabilities_of(Places(field), store, 0, (WINDOW,) * 3, InferenceSettings(overlap=overlap, steps=steps))
    place = np.arange(WINDOW) - (WINDOW - 1) / 2
    weight = np.exp(-(place**2) / (2 * (WINDOW / 8) ** 2))
    if steps == "even":  # nnU-Net: about voxel n // 2, and as small as half precision holds
        weight = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * (WINDOW / 8) ** 2))
    weight = np.maximum(
        weight, 1e-3 if steps == "fixed" else 0
    )  # MONAI keeps weights above 0 (of the whole product; here along one axis)
    total, seen = np.zeros(29), np.zeros(29)
    for first in starts(29, overlap, even=steps == "even"):
        total[first : first + WINDOW] += weight * line
        seen[first : first + WINDOW] += weight
    logit = total / seen
    expected = 1 / (1 + np.exp(-2 * logit))  # softmax of (logit, -logit)
    middle = [WINDOW // 2] * 3
    index = tuple(slice(None) if a == axis else middle[a] for a in range(3))
    np.testing.assert_allclose(found[0].numpy()[index], expected, atol=2e-3)


class Draws(nn.Module):
    """Gives three logits of a window's voxels that are drawn anew from its content, ``size`` large."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        return self.size * torch.cat([torch.sin(images * k) for k in (31.0, 57.0, 83.0)], dim=1)


@pytest.mark.parametrize("shape", [(18, 17, 16), (13, 20, 31)])
def test_even_windows_are_summed_in_half_precision_in_nnunets_order(tmp_path, shape):
    """The same sums in tensors of half precision, window by window as nnU-Net's predictor goes: bit for bit."""
    store, network = store_of(tmp_path / "store", shape), Draws(7.0)
    seen: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    found = probabilities_of(network, store, 0, (WINDOW,) * 3, InferenceSettings(steps="even", batch_size=1))
    handle.remove()
    tile = np.zeros((WINDOW,) * 3)
    tile[(WINDOW // 2,) * 3] = 1.0
    tile = gaussian_filter(tile, WINDOW / 8, mode="constant")
    weight = torch.from_numpy(tile / tile.max() * 10).half()
    weight[weight == 0] = weight[weight > 0].min()
    sums, weights = torch.zeros((3, *shape), dtype=torch.half), torch.zeros(shape, dtype=torch.half)
    corners = list(product(*(starts(length, 0.5, even=True) for length in shape)))
    assert len(corners) == len(seen)
    for corner, window in zip(corners, seen, strict=True):
        place = tuple(slice(at, at + WINDOW) for at in corner)
        sums[(slice(None), *place)] += network(window)[0] * weight
        weights[place] += weight
    expected = torch.softmax((sums / weights).float(), dim=0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    whole = probabilities_of(network, store, 0, (WINDOW,) * 3, InferenceSettings(steps="even", batch_size=4))
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)


def test_sums_that_half_precision_cannot_hold_are_kept_whole(tmp_path):
    store = store_of(tmp_path / "store", (18, 17, 16))
    found = probabilities_of(Draws(9000.0), store, 0, (WINDOW,) * 3, InferenceSettings(steps="even"))
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(dim=0), torch.ones(18, 17, 16))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_small_scan_of_one_channel_is_padded_with_its_own_outside(tmp_path, modality):
    """Of MR the outside is its least value: 0 would be a brightness that the scan does not have."""
    low, high = (-1000, 1000) if modality == "CT" else (4000, 16000)
    store = store_of(tmp_path / "store", (8, 8, 8), low=low, high=high, modality=modality)
    entry, seen = store.entries[0], []

    class Look(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.clone())
            return torch.cat([images, -images], dim=1)

    probabilities_of(Look(), store, 0, (WINDOW,) * 3, InferenceSettings())
    bottom, top = entry.channels[0].scale
    outside = min(max((entry.channels[0].fill - bottom) / (top - bottom), 0.0), 1.0)
    assert outside > 0.1 or modality == "CT"
    window = seen[-1][0, 0]
    margin = torch.ones(WINDOW, WINDOW, WINDOW, dtype=torch.bool)
    margin[2:10, 2:10, 2:10] = False
    torch.testing.assert_close(window[margin], torch.full_like(window[margin], outside))
    assert window[~margin].std() > 0.1
