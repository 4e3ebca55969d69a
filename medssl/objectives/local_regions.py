"""Local contrast: regions of one feature map are distinguished, and the same region of other views or scans is found.

V versions of each image, M volumes, S partitions of each, R regions, D features, K neighbours of a region.

Reference:
    Chaitanya, Erdil, Karani, Konukoglu, "Contrastive learning of global and local features for medical image
    segmentation with limited annotations", NeurIPS 2020, arXiv:2006.10511, section 3.2: the losses L^R and L^D.

Differs from the authors' code: regions reach the last row and column of the map (theirs end one short) and are laid out
along z as well where a map has several slices; the neighbours that repel are the nearest by the distance of their
centres, where the code lists some by hand, and never such as overlap the anchor; every other volume of a batch is a
partner, however many there are, not the next two of a batch of three.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from medssl.objectives.infonce import PairSet, info_nce

__all__ = ["cut_regions", "local_contrast", "nearest_regions", "region_starts"]

Triple = tuple[int, int, int]
Variant = Literal["random", "aligned"]
# The released code divides the sum of L^D by less than the number of its terms.
_PUBLISHED = {"random": 1.0, "aligned": 1.5}


def region_starts(shape: Triple, size: Triple) -> list[Triple]:
    """Return the first voxel of each region of a map: begin, middle and end of every axis, and the quarter points.

    In a slice these are the 3 x 3 + 4 = 13 of the paper's code, in a sub-volume 27 + 8.

    Args:
        shape: Size of the map, (z, y, x).
        size: Size of a region.

    Raises:
        ValueError: If a region is larger than the map.

    Example:
        >>> len(region_starts((1, 24, 24), (1, 3, 3)))
        13
    """
    last = [length - wanted for length, wanted in zip(shape, size, strict=True)]
    if min(last) < 0:
        raise ValueError(f"Regions of {size} do not fit a map of {shape}.")
    grid = product(*((0, end // 2, end) for end in last))
    quarters = product(*((end // 4, end - end // 4) for end in last))
    return [(z, y, x) for z, y, x in dict.fromkeys([*grid, *quarters])]


def nearest_regions(starts: Sequence[Triple], size: Triple, count: int | None) -> Tensor:
    """Return which regions repel each, int64, (R, K): the nearest ones that do not overlap it; -1 where there is none.

    Args:
        starts: First voxels of the regions.
        size: Size of a region.
        count: K; None for all that do not overlap.

    Raises:
        ValueError: If every other region overlaps some region.
    """
    first = torch.tensor(starts)
    apart = (first[:, None] - first[None]).abs()
    clear = (apart >= torch.tensor(size)).any(dim=2)
    if not clear.any(dim=1).all():
        raise ValueError(f"Regions of {size} all overlap on so small a map. Take smaller regions or a larger window.")
    distance = (apart**2).sum(dim=2).double().masked_fill(~clear, float("inf"))
    order = distance.sort(dim=1, stable=True).indices
    order = order.masked_fill(~clear.gather(1, order), -1)
    most = int(clear.sum(dim=1).max())
    return order[:, : most if count is None else min(count, most)]


def cut_regions(maps_NCzyx: Tensor, starts: Sequence[Triple], size: Triple) -> Tensor:
    """Return the voxels of every region as one vector, (N, R, C * voxels)."""
    dz, dy, dx = size
    cut = [maps_NCzyx[:, :, z : z + dz, y : y + dy, x : x + dx].flatten(1) for z, y, x in starts]
    return torch.stack(cut, dim=1)


def local_contrast(
    features_VMSRD: Tensor,
    repels_RK: Tensor,
    *,
    variant: Variant,
    temperature: float = 0.1,
    normalise: Literal["mean", "published"] = "mean",
) -> Tensor:
    """Return the local loss, float32 scalar, a mean over all ordered pairs of maps and their regions.

    "random" (L^R): a region attracts the same region of the other versions of its image. "aligned" (L^D): and that of
    the same version and partition of every other volume; all positives weigh the same. In both, for each pair of maps
    the neighbours of the region repel, those in the anchor's own map and those in its partner's.

    Args:
        features_VMSRD: Features of regions; V >= 2 for "random".
        repels_RK: The neighbours of each region, see `nearest_regions`.
        variant: Which loss.
        temperature: Of the contrast.
        normalise: "published" multiplies the mean as the released code does.

    Raises:
        ValueError: If no image has a partner.
    """
    versions, volumes, width = *features_VMSRD.shape[:2], features_VMSRD.shape[-1]
    if versions < 2 and (variant == "random" or volumes < 2):
        raise ValueError(f"'{variant}' needs two versions of each image. Got {versions}.")
    index = torch.arange(features_VMSRD[..., 0, 0].numel(), device=features_VMSRD.device)
    index = index.view(features_VMSRD.shape[:3])
    axes = [(0, versions)] + ([(1, volumes)] if variant == "aligned" else [])
    pairs = [(index, index.roll(shift, axis)) for axis, length in axes for shift in range(1, length)]
    own, partner = (torch.stack(side).flatten() for side in zip(*pairs, strict=True))
    maps = features_VMSRD.flatten(0, 2)
    repels = repels_RK.to(maps.device)
    near = maps[:, repels.clamp(min=0)]  # (maps, R, K, D)
    negative = torch.cat([near[own], near[partner]], dim=2)
    counted = (repels >= 0).repeat(len(own), 2)
    pair_set = PairSet(
        maps[own].reshape(-1, width), maps[partner].reshape(-1, 1, width), negative.flatten(0, 1), counted
    )
    scale = _PUBLISHED[variant] if normalise == "published" else 1.0
    return scale * info_nce(pair_set, temperature=temperature).mean()
