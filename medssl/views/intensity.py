"""Intensity augmentation of a whole batch on its device, with parameters of its own for every channel of every item.

Every change models the scanner, and each channel of a case is an acquisition of its own, with its own gain, noise floor
and resolution: whether a change is made and how strong it is are drawn for each channel by itself. So does nnU-Net
(batchgeneratorsv2: contrast, brightness, blur, low resolution and gamma are not synchronised over channels), except
that it shares the deviation of the noise and whether a sample is changed at all; MONAI's transforms share everything
unless ``channel_wise`` is asked for. Geometry (`medssl.views.spatial`) is shared: the channels lie on one grid.

Images are in [0, 1], or [0, 1] stretched and shifted (``unit``: then brightness and noise are stretched alike); the
result is not clipped, since a network may see beyond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medssl.randomness import Stream
from medssl.views.settings.intensity import IntensitySettings

__all__ = ["IntensityParams", "IntensitySettings", "apply_intensity", "sample_intensity"]


@dataclass(frozen=True)
class IntensityParams:
    """One row a channel of an item, all (N * C,): factor, offset, exponent, noise deviation and seed, blur, zoom."""

    contrast: Tensor
    brightness: Tensor
    gamma: Tensor
    noise: Tensor
    noise_seed: Tensor
    blur_voxels: Tensor
    low_resolution: Tensor


def sample_intensity(
    settings: IntensitySettings, stream: Stream, *, count: int = 1, channels: int = 1
) -> IntensityParams:
    """Draw parameters for the channels of ``count`` views of each item.

    Row (i * count + k) * channels + c belongs to channel c of view k of item i.
    """
    each = count * channels
    rows = len(stream) * each

    def drawn(low: float, high: float, neutral: float) -> Tensor:
        value = stream.uniform(each, low=low, high=high).reshape(rows)
        chosen = stream.chance(settings.probability, each).reshape(rows)
        return torch.where(chosen, value, torch.full_like(value, neutral))

    return IntensityParams(
        contrast=drawn(*settings.contrast, 1.0),
        brightness=drawn(-settings.brightness, settings.brightness, 0.0),
        gamma=drawn(math.log(settings.gamma[0]), math.log(settings.gamma[1]), 0.0).exp(),
        noise=drawn(0.0, settings.noise, 0.0),
        noise_seed=stream.integers(0, 1 << 62, each).reshape(rows),
        blur_voxels=drawn(0.0, settings.blur_voxels, 0.0),
        low_resolution=drawn(1.0, settings.low_resolution, 1.0),
    )


def apply_intensity(
    images: Tensor, params: IntensityParams, *, shown: Tensor | None = None, unit: Tensor | None = None
) -> Tensor:
    """Apply parameters to images.

    The order is that of nnU-Net: noise, blur, brightness, contrast, low resolution, gamma.

    Args:
        images: (N, C, z, y, x), float, nominally in [0, 1].
        params: N * C rows.
        shown: Bool, (N, C), the channels that are there; the others come out 0. None where all are.
        unit: What images in [0, 1] are multiplied by here, (N, C); None for 1. See `WindowBatch.unit`.

    Returns:
        Images of the same shape.

    Raises:
        ValueError: If the parameters are not those of so many channels.
    """
    batch, channels = images.shape[:2]
    if len(params.noise) != batch * channels:
        raise ValueError(f"{batch} images of {channels} channels need as many rows as both. Got {len(params.noise)}.")
    if unit is not None:
        apart = unit.flatten().to(params.noise.device)
        params = replace(params, brightness=params.brightness * apart, noise=params.noise * apart)
    changed = _changed(images.flatten(0, 1)[:, None], params).view(batch, channels, *images.shape[2:])
    if shown is None:
        return changed
    return changed.masked_fill(~shown.to(changed.device)[:, :, None, None, None], 0.0)


def _changed(images: Tensor, params: IntensityParams) -> Tensor:
    """Return changed channels, (N, 1, z, y, x)."""
    device = images.device

    def column(values: Tensor) -> Tensor:
        return values.to(device).view(-1, 1, 1, 1, 1)

    if bool((params.noise > 0).any()):
        images = images + column(params.noise) * _noise(images, params)
    if bool((params.blur_voxels > 0).any()):
        images = _along_axes(images, params.blur_voxels, _blur_matrix)
    mean = images.mean(dim=(2, 3, 4), keepdim=True)
    images = (images - mean) * column(params.contrast) + mean + column(params.brightness)
    if bool((params.low_resolution > 1).any()):
        images = _along_axes(images, params.low_resolution, _low_resolution_matrix)
    if bool((params.gamma != 1).any()):
        low = images.amin(dim=(2, 3, 4), keepdim=True)
        extent = (images.amax(dim=(2, 3, 4), keepdim=True) - low).clamp(min=1e-6)
        images = ((images - low) / extent).clamp(min=1e-7) ** column(params.gamma) * extent + low
    return images


def _noise(images: Tensor, params: IntensityParams) -> Tensor:
    fields = torch.zeros_like(images)
    for row in (params.noise > 0).nonzero().flatten().tolist():
        generator = torch.Generator(device=images.device)
        generator.manual_seed(int(params.noise_seed[row]))
        fields[row] = torch.randn(images.shape[1:], generator=generator, device=images.device, dtype=images.dtype)
    return fields


def _along_axes(images: Tensor, strength: Tensor, matrix) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Apply a linear operator of its own to each changed item, axis by axis."""
    neutral = 1.0 if matrix is _low_resolution_matrix else 0.0
    rows = (strength != neutral).nonzero().flatten().to(images.device)
    some = images[rows]
    power = strength.to(images.device)[rows]
    for axis, letters in enumerate(("nzk,nckyx->nczyx", "nyk,nczkx->nczyx", "nxk,nczyk->nczyx")):
        some = torch.einsum(letters, matrix(power, some.shape[2 + axis]).to(some.dtype), some)
    return images.index_copy(0, rows, some)


def _blur_matrix(deviation: Tensor, length: int) -> Tensor:
    """Row-normalised Gaussian weights between the voxels of an axis, (N, length, length)."""
    place = torch.arange(length, device=deviation.device, dtype=torch.float32)
    distance = (place[:, None] - place[None, :])[None] / deviation.view(-1, 1, 1).clamp(min=1e-3)
    return torch.softmax(-0.5 * distance**2, dim=2)


def _low_resolution_matrix(factor: Tensor, length: int) -> Tensor:
    """Nearest sampling at a coarser pitch followed by linear interpolation back, (N, length, length)."""
    if length == 1:  # a slice has nothing to lose along its normal
        return torch.ones(len(factor), 1, 1, device=factor.device)
    place = torch.arange(length, device=factor.device, dtype=torch.float32)
    coarse = (length / factor).round().clamp(min=2.0).view(-1, 1)
    pitch = (length - 1) / (coarse - 1)
    left = torch.minimum((place / pitch).floor(), coarse - 2)
    share = (place / pitch - left)[:, :, None]
    first = (left * pitch).round().long().clamp(0, length - 1)
    second = ((left + 1) * pitch).round().long().clamp(0, length - 1)
    one_hot = torch.nn.functional.one_hot
    return one_hot(first, length) * (1 - share) + one_hot(second, length) * share
