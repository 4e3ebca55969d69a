"""Masks of whole patches, drawn for every item by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.randomness import Stream

__all__ = ["sample_patch_mask", "to_voxels"]

Triple = tuple[int, int, int]


def sample_patch_mask(stream: Stream, *, shape: Triple, patch: Triple, ratio: float) -> Tensor:
    """Choose the patches to hide; every item hides the same number of them.

    Args:
        stream: One stream an item.
        shape: Size of the images, (z, y, x); multiples of ``patch``.
        patch: Size of a patch, (z, y, x).
        ratio: Share of the patches to hide, in (0, 1); at least one is hidden and one is kept.

    Returns:
        Booleans, true where hidden, (B, z / patch, y / patch, x / patch).

    Raises:
        ValueError: If the shape is not a multiple of the patch, or has fewer than two patches.
    """
    if any(n % p for n, p in zip(shape, patch, strict=True)):
        raise ValueError(f"The image size {shape} must be a multiple of the patch size {patch}.")
    cells = tuple(n // p for n, p in zip(shape, patch, strict=True))
    total = cells[0] * cells[1] * cells[2]
    if total < 2:
        raise ValueError(f"Masking needs at least two patches. Got one of {patch} in {shape}.")
    hidden = min(max(round(total * ratio), 1), total - 1)
    rank = stream.permutation(total)
    return (rank < hidden).view(len(stream), *cells)


def to_voxels(mask: Tensor, patch: Triple) -> Tensor:
    """Return a patch mask at voxel resolution, (B, 1, z, y, x)."""
    for axis, length in enumerate(patch):
        mask = torch.repeat_interleave(mask, length, dim=1 + axis)
    return mask[:, None]
