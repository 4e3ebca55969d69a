"""Windows of a whole scan, blended: against sums of Gaussian weights written out, and padding against what is outside.

The network looks at its window alone, so that what comes out depends on the weights that windows get.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
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
