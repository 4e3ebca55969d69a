"""Masks of whole patches, drawn for every item by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medssl.randomness import Stream

__all__ = ["hidden_count", "sample_patch_mask", "to_cells", "to_voxels"]

Triple = tuple[int, int, int]


def hidden_count(shape: Triple, patch: Triple, ratio: float) -> int:
    """Return how many patches of an image are hidden; round((1 - ratio) * patches) are kept, at least one of each.

    Args:
        shape: Size of the images, (z, y, x); multiples of ``patch``.
        patch: Size of a patch, (z, y, x).
        ratio: Share of the patches to hide, in (0, 1).

    Raises:
        ValueError: If the shape is not a multiple of the patch, or has fewer than two patches.
    """
    if any(n % p for n, p in zip(shape, patch, strict=True)):
        raise ValueError(f"The image size {shape} must be a multiple of the patch size {patch}.")
    total = math.prod(n // p for n, p in zip(shape, patch, strict=True))
    if total < 2:
        raise ValueError(f"Masking needs at least two patches. Got one of {patch} in {shape}.")
    return total - min(max(round(total * (1.0 - ratio)), 1), total - 1)


def sample_patch_mask(stream: Stream, *, shape: Triple, patch: Triple, ratio: float) -> Tensor:
    """Choose the patches to hide; every item hides the same number of them.

    Args:
        stream: One stream an item.
        shape: Size of the images, (z, y, x); multiples of ``patch``.
        patch: Size of a patch, (z, y, x).
        ratio: Share of the patches to hide, in (0, 1); see ``hidden_count``.

    Returns:
        Booleans, true where hidden, (B, z / patch, y / patch, x / patch).

    Raises:
        ValueError: If the shape is not a multiple of the patch, or has fewer than two patches.
    """
    hidden = hidden_count(shape, patch, ratio)
    cells = [n // p for n, p in zip(shape, patch, strict=True)]
    rank = stream.permutation(math.prod(cells))
    return (rank < hidden).view(len(stream), *cells)


def to_voxels(mask: Tensor, patch: Triple) -> Tensor:
    """Return a patch mask at voxel resolution, (B, 1, z, y, x)."""
    for axis, length in enumerate(patch):
        mask = torch.repeat_interleave(mask, length, dim=1 + axis)
    return mask[:, None]


def to_cells(mask: Tensor, grid: Triple) -> Tensor:
    """Return a patch mask (B, z', y', x') at a grid of as many or more cells, (B, *grid); multiples on each axis."""
    for axis, length in enumerate(grid, start=1):
        mask = torch.repeat_interleave(mask, length // mask.shape[axis], dim=axis)
    return mask
