"""Masks of whole patches, drawn for every item by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medssl.randomness import Stream

__all__ = ["hidden_count", "sample_block_mask", "sample_patch_mask", "to_cells", "to_voxels"]

Triple = tuple[int, int, int]
_BLOCKS = 20  # that are drawn for an image; those that do not fit are passed over
_ASPECT = 0.3  # least ratio of a block's edges


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


def sample_block_mask(stream: Stream, *, shape: Triple, patch: Triple, share: tuple[float, float]) -> Tensor:
    """Choose patches to hide in blocks; the share of each item is drawn, and reached as far as blocks allow.

    Blocks are added until the share is reached or no block of several that are drawn fits: each has a volume between a
    third of the shortest axis cubed and what is left, and two ratios of its edges in [0.3, 1 / 0.3].

    Args:
        stream: One stream an item.
        shape: Size of the images, (z, y, x); multiples of ``patch``.
        patch: Size of a patch, (z, y, x).
        share: Least and greatest share of the patches to hide, in [0, 1).

    Returns:
        Booleans, true where hidden, (B, z / patch, y / patch, x / patch); at least one patch, and never all.

    Reference:
        Bao et al., "BEiT", ICLR 2022, arXiv:2106.08254, algorithm 1; as iBOT has it (arXiv:2111.07832, its loader),
        with a third axis: axes of a single patch are left as they are.
    """
    hidden_count(shape, patch, 0.5)  # refuses what has no two patches
    cells = [n // p for n, p in zip(shape, patch, strict=True)]
    total, free = math.prod(cells), [axis for axis, n in enumerate(cells) if n > 1]
    least = (min(cells[axis] for axis in free) // 3) ** len(free)
    wanted = stream.uniform(1, low=share[0], high=share[1]).flatten() * total
    draws = stream.uniform(_BLOCKS, 1 + 2 * len(cells))
    hidden = torch.zeros(len(stream), *cells, dtype=torch.bool)
    for item in range(len(stream)):
        for volume, *rest in draws[item].tolist():
            left = min(float(wanted[item]), total - 1.0) - int(hidden[item].sum())
            if left < 1.0:
                break
            ratios = [math.log(_ASPECT) * (1.0 - 2.0 * drawn) for drawn in rest[: len(free) - 1]]
            stretched = [*ratios, -sum(ratios)]
            edge = max(1.0, min(least, left) + (left - min(least, left)) * volume) ** (1 / len(free))
            size, start = [1, 1, 1], [0, 0, 0]
            for axis, stretch, place in zip(free, stretched, rest[-len(free) :], strict=True):
                size[axis] = min(max(1, round(edge * math.exp(stretch / len(free)))), cells[axis])
                start[axis] = int(place * (cells[axis] - size[axis] + 1))
            block = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
            if 0 < int((~hidden[item][block]).sum()) <= left:
                hidden[item][block] = True
        if not hidden[item].any():
            hidden[item].view(-1)[int(draws[item, 0, 1] * total)] = True
    return hidden


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
