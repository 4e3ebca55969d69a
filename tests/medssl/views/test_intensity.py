"""Intensity augmentation: neutral settings change nothing, each change does what its name says."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from medssl.randomness import Stream
from medssl.views.intensity import IntensityParams, IntensitySettings, apply_intensity, sample_intensity


def params(**changed) -> IntensityParams:
    values = {"contrast": 1.0, "brightness": 0.0, "gamma": 1.0, "noise": 0.0, "blur_voxels": 0.0, "low_resolution": 1.0}
    values.update(changed)
    tensors = {name: torch.tensor([float(value), values_neutral(name)]) for name, value in values.items()}
    return IntensityParams(noise_seed=torch.tensor([7, 8]), **tensors)


def values_neutral(name: str) -> float:
    return 1.0 if name in ("contrast", "gamma", "low_resolution") else 0.0


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 1, 12, 10, 14, generator=torch.Generator().manual_seed(0))


def test_default_changes_nothing(images):
    drawn = sample_intensity(IntensitySettings(), Stream(0, 0, [0, 1]))
    assert torch.allclose(apply_intensity(images, drawn), images, atol=1e-6)


def test_only_the_chosen_item_changes(images):
    for name, value in [("noise", 0.1), ("blur_voxels", 1.0), ("low_resolution", 2.0), ("gamma", 2.0), ("contrast", 2)]:
        changed = apply_intensity(images, params(**{name: value}))
        assert not torch.allclose(changed[0], images[0], atol=1e-3), name
        assert torch.allclose(changed[1], images[1], atol=1e-5), name


def test_contrast_and_brightness_by_definition(images):
    changed = apply_intensity(images, params(contrast=1.5, brightness=0.2))
    mean = images[0].mean()
    assert torch.allclose(changed[0], (images[0] - mean) * 1.5 + mean + 0.2, atol=1e-5)


def test_gamma_keeps_the_extremes(images):
    changed = apply_intensity(images, params(gamma=1.7))
    assert changed[0].amin().item() == pytest.approx(images[0].amin().item(), abs=1e-5)
    assert changed[0].amax().item() == pytest.approx(images[0].amax().item(), abs=1e-5)


def test_noise_has_the_stated_deviation(images):
    big = torch.zeros(2, 1, 32, 32, 32)
    assert apply_intensity(big, params(noise=0.1))[0].std().item() == pytest.approx(0.1, rel=0.02)


def test_blur_agrees_with_scipy_away_from_the_border():
    image = torch.rand(2, 1, 24, 24, 24, generator=torch.Generator().manual_seed(1))
    changed = apply_intensity(image, params(blur_voxels=1.0))[0, 0, 8:-8, 8:-8, 8:-8]
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), 1.0, truncate=8.0)[8:-8, 8:-8, 8:-8]
    assert torch.allclose(changed, torch.from_numpy(expected), atol=1e-3)


def test_low_resolution_keeps_a_ramp_and_loses_detail():
    ramp = torch.linspace(0, 1, 17).view(1, 1, 17, 1, 1).expand(2, 1, 17, 8, 8).contiguous()
    assert torch.allclose(apply_intensity(ramp, params(low_resolution=2.0))[0], ramp[0], atol=0.05)
    noise = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    assert apply_intensity(noise, params(low_resolution=3.0))[0].std() < noise[0].std() * 0.9


def test_ranges_and_probability_hold():
    settings = IntensitySettings(contrast=(0.5, 2.0), gamma=(0.5, 2.0), noise=0.2, probability=0.25)
    drawn = sample_intensity(settings, Stream(0, 0, list(range(40))), count=20)
    changed = (drawn.contrast != 1.0).float().mean().item()
    assert changed == pytest.approx(0.25, abs=0.06)
    assert drawn.gamma.min() >= 0.5
    assert drawn.gamma.max() <= 2.0
    assert drawn.noise.max() <= 0.2


def test_low_resolution_leaves_an_axis_of_one_voxel_alone():
    image = torch.rand(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = apply_intensity(image, params(low_resolution=2.0))
    assert bool(torch.isfinite(changed).all())
    assert changed[0].std() < image[0].std()
    assert torch.allclose(changed[1], image[1], atol=1e-6)
