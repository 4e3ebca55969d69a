"""Reconstruction of hidden patches.

References:
    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377 (normalised targets);
    Tian et al., "Designing BERT for convolutional networks", ICLR 2023, arXiv:2301.03580 (the same, for SparK);
    Xie et al., "SimMIM: a simple framework for masked image modeling", CVPR 2022, arXiv:2111.09886 (absolute error);
    Wald et al., "Revisiting MAE pre-training for 3D medical image segmentation", CVPR 2025, arXiv:2410.23132.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medssl.gathering import ratio

__all__ = ["masked_reconstruction", "patchify", "unpatchify"]

Triple = tuple[int, int, int]


def patchify(images: Tensor, patch: Triple) -> Tensor:
    """Return the patches of images (B, C, z, y, x) as rows, (B, patches in (z, y, x) order, C * voxels).

    Example:
        >>> patchify(torch.arange(4.0).view(1, 1, 1, 2, 2), (1, 1, 2)).tolist()
        [[[0.0, 1.0], [2.0, 3.0]]]
    """
    batch, channels, *size = images.shape
    cz, cy, cx = (n // p for n, p in zip(size, patch, strict=True))
    split = images.reshape(batch, channels, cz, patch[0], cy, patch[1], cx, patch[2])
    return split.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(batch, cz * cy * cx, -1)


def unpatchify(rows: Tensor, grid: Triple, patch: Triple) -> Tensor:
    """Return the images (B, C, z, y, x) whose patches are ``rows`` (B, patches, C * voxels): ``patchify`` undone."""
    z, y, x = (n * p for n, p in zip(grid, patch, strict=True))
    split = rows.reshape(len(rows), *grid, -1, *patch).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return split.reshape(len(rows), -1, z, y, x)


def masked_reconstruction(
    predicted: Tensor,
    target: Tensor,
    hidden: Tensor,
    *,
    patch: Triple,
    normalise: bool = False,
    error: Literal["squared", "absolute"] = "squared",
    counted: Tensor | None = None,
) -> Tensor:
    """Return the mean error over the hidden voxels of all processes.

    Args:
        predicted: (B, C, z, y, x).
        target: (B, C, z, y, x).
        hidden: True for hidden patches, (B, z / patch, y / patch, x / patch).
        patch: Patch size, (z, y, x).
        normalise: Whether each patch of the target is first shifted and scaled to mean 0 and deviation 1 (unbiased
            variance, epsilon 1e-6), so that faint structure counts as much as strong edges. Each channel by itself, as
            MultiMAE does for modalities (arXiv:2204.01678): the brightest one would set the scale of all. The papers
            on colour pictures take the three colours together.
        error: Whether differences are squared or taken absolutely.
        counted: True for voxels that count, (B, 1 or C, z, y, x); None counts all. Padding and defaced voxels do not.

    Returns:
        Float32 scalar; 0 where nothing is hidden.
    """
    wanted = patchify(target.float(), patch)
    if normalise:
        each = wanted.view(*wanted.shape[:2], target.shape[1], -1)
        centred = each - each.mean(dim=3, keepdim=True)
        wanted = (centred / torch.sqrt(each.var(dim=3, keepdim=True) + 1e-6)).flatten(2)
    difference = patchify(predicted.float(), patch) - wanted
    cost = difference.square() if error == "squared" else difference.abs()
    weight = hidden.flatten(1)[:, :, None].to(cost.dtype)
    if counted is not None:
        inside = patchify(counted.to(cost.dtype), patch)
        weight = weight * inside.repeat(1, 1, cost.shape[2] // inside.shape[2])
    weight = weight.expand_as(cost)
    return ratio((cost * weight).sum(), weight.sum())
