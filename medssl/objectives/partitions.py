"""Global contrast by position: slices (or sub-volumes) of different parts of the body are distinguished, across scans.

V versions of each image, M volumes, S partitions of each, D features.

Reference:
    Chaitanya, Erdil, Karani, Konukoglu, "Contrastive learning of global and local features for medical image
    segmentation with limited annotations", NeurIPS 2020, arXiv:2006.10511, section 3.1: the losses G^R, G^D- and G^D.

Differs from the authors' code: every pair of volumes of a batch is used once, not the neighbours of a ring that wraps;
no row of a batch is left empty (the released loop stopped one group early, so that a third of the images were zeros and
took part); partitions are counted by the S that is asked for, not by 4; every image draws its own change of intensity.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medssl.objectives.infonce import PairSet, info_nce, pairs_of_views

__all__ = ["partition_contrast"]

Variant = Literal["random", "negatives", "aligned"]
# The released code divides its sums by less than the number of terms: 2 x the mean for G^D-, 4 x for G^D.
_PUBLISHED = {"random": 1.0, "negatives": 2.0, "aligned": 4.0}


def partition_contrast(
    features_VMSD: Tensor,
    *,
    variant: Variant,
    temperature: float = 0.1,
    normalise: Literal["mean", "published"] = "mean",
) -> Tensor:
    """Return the global loss, float32 scalar, a mean over anchors and their positives.

    "random" (G^R): versions of an image attract each other, all other images of the batch repel. "negatives"
    (G^D-): all versions of an image attract each other, and only images of other partitions repel, whatever volume they
    come from. "aligned" (G^D): negatives are the same, and besides its own other versions an image attracts the same
    version of the same partition of every other volume; both kinds of positives weigh the same.

    Args:
        features_VMSD: Features, V >= 2. In the paper "random" compares two changed versions, "negatives" the image
            itself and two changed versions, "aligned" the image itself and a changed version.
        variant: Which loss.
        temperature: Of the contrast.
        normalise: "published" multiplies the mean as the released code does.

    Raises:
        ValueError: If there are too few versions or, for partitions, a single one.
    """
    versions, volumes, parts, width = features_VMSD.shape
    if versions < 2:
        raise ValueError(f"'{variant}' needs two versions of each image. Got {versions}.")
    scale = _PUBLISHED[variant] if normalise == "published" else 1.0
    if variant == "random":
        rows = torch.arange(volumes * parts, device=features_VMSD.device)
        views = features_VMSD.flatten(1, 2)
        return scale * info_nce(pairs_of_views(views, rows, rows), temperature=temperature).mean()
    if parts < 2:
        raise ValueError("Contrast of partitions needs at least two of them.")
    flat = features_VMSD.flatten(0, 2)
    part = torch.arange(parts, device=flat.device).repeat(versions * volumes)
    counted = part[:, None] != part[None]

    def against(positive: Tensor) -> Tensor:
        pairs = PairSet(flat, positive.reshape(len(flat), -1, width), flat, counted)
        return info_nce(pairs, temperature=temperature).mean()

    own = against(_others(features_VMSD, 0))
    if variant == "negatives" or volumes < 2:
        return scale * own
    return scale * (own + against(_others(features_VMSD, 1))) / 2


def _others(features_VMSD: Tensor, axis: int) -> Tensor:
    """Return for every image those that differ from it along one axis alone, (V, M, S, others, D)."""
    length = features_VMSD.shape[axis]
    index = torch.tensor([[j for j in range(length) if j != i] for i in range(length)], device=features_VMSD.device)
    picked = features_VMSD.movedim(axis, 0)[index]  # (length, others, rest...)
    return picked.movedim(1, -2).movedim(0, axis)
