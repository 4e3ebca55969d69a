"""Reconstruction of hidden patches.

References:
    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377 (normalised targets);
    Wald et al., "Revisiting MAE pre-training for 3D medical image segmentation", CVPR 2025, arXiv:2410.23132.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["masked_reconstruction", "patchify"]

Triple = tuple[int, int, int]


def patchify(images: Tensor, patch: Triple) -> Tensor:
    """Return the patches of images (B, C, z, y, x) as rows, (B, patches in (z, y, x) order, C * voxels)."""
    batch, channels, *size = images.shape
    cz, cy, cx = (n // p for n, p in zip(size, patch, strict=True))
    split = images.reshape(batch, channels, cz, patch[0], cy, patch[1], cx, patch[2])
    return split.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(batch, cz * cy * cx, -1)


def masked_reconstruction(
    predicted: Tensor,
    target: Tensor,
    hidden: Tensor,
    *,
    patch: Triple,
    normalise: bool = False,
    counted: Tensor | None = None,
) -> Tensor:
    """Return the mean squared error over hidden voxels.

    Args:
        predicted: (B, C, z, y, x).
        target: (B, C, z, y, x).
        hidden: True for hidden patches, (B, z / patch, y / patch, x / patch).
        patch: Patch size, (z, y, x).
        normalise: Whether each patch of the target is first shifted and scaled to mean 0 and deviation 1 (unbiased
            variance, epsilon 1e-6), so that faint structure counts as much as strong edges.
        counted: True for voxels that count, (B, 1, z, y, x); None counts all. Padding and defaced voxels do not.

    Returns:
        Float32 scalar; 0 where nothing is hidden.
    """
    wanted = patchify(target.float(), patch)
    if normalise:
        centred = wanted - wanted.mean(dim=2, keepdim=True)
        wanted = centred / torch.sqrt(wanted.var(dim=2, keepdim=True) + 1e-6)
    squared = (patchify(predicted.float(), patch) - wanted) ** 2
    weight = hidden.flatten(1)[:, :, None].to(squared.dtype)
    if counted is not None:
        inside = patchify(counted.to(squared.dtype), patch)
        weight = weight * inside.repeat(1, 1, squared.shape[2] // inside.shape[2])
    weight = weight.expand_as(squared)
    return (squared * weight).sum() / weight.sum().clamp(min=1.0)
