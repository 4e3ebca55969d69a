"""Position contrast: how much a crop overlaps the base crops of a scan, predicted from features.

Shapes: B scans, R random crops a scan, G base crops a scan, D features.

Reference:
    Wu, Zhuang, Chen, "VoCo: A Simple-yet-Effective Volume Contrastive Learning Framework for 3D Medical Image
    Analysis", CVPR 2024, arXiv:2402.17300; and "Large-Scale 3D Medical Image Pre-training with Geometric Context
    Priors", 2024, arXiv:2410.09890 (version 2).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.gathering import mean_of_all, ratio

__all__ = ["base_regulariser", "clamped_cosine", "overlap_labels", "position_loss"]

_EPS = 1e-6


def overlap_labels(start_BR3: Tensor, base_start_BG3: Tensor, pitch_B3: Tensor) -> Tensor:
    """Return how much each crop overlaps each base crop, in closed form.

    y = prod over axes of max(0, 1 - |start - base start| / pitch). Where the pitch is the crop size this is the
    overlapping share of the volume; elsewhere it is the weight of linear interpolation between base crops. Over a
    lattice of base crops the labels of a crop inside it sum to 1.

    Args:
        start_BR3: First voxels of the crops, (B, R, 3).
        base_start_BG3: First voxels of the base crops, (B, G, 3).
        pitch_B3: Distance between neighbouring base crops along each axis, (B, 3), positive.

    Returns:
        Labels in [0, 1], (B, R, G).

    Example:
        >>> start, base = torch.tensor([[[0.0, 0.0, 8.0]]]), torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 16.0]]])
        >>> overlap_labels(start, base, torch.full((1, 3), 16.0))
        tensor([[[0.5000, 0.5000]]])
    """
    distance = (start_BR3[:, :, None] - base_start_BG3[:, None]).abs() / pitch_B3[:, None, None]
    return (1.0 - distance).clamp(min=0.0).prod(dim=-1)


def clamped_cosine(features_BRD: Tensor, base_features_BGD: Tensor) -> Tensor:
    """Return max(0, cosine) of every crop with every base crop, float32, (B, R, G)."""
    crops = F.normalize(features_BRD.float(), dim=-1)
    bases = F.normalize(base_features_BGD.float(), dim=-1)
    return torch.einsum("brd,bgd->brg", crops, bases).clamp(min=0.0)


def position_loss(
    similarity_BRG: Tensor,
    label_BRG: Tensor,
    *,
    positive: Literal["overlap", "equal", "all"] = "overlap",
    negative: Literal["square", "log"] = "log",
    by_scan: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the loss of the pairs that overlap and of those that do not.

    With d = |y - s|: L_pos = sum w * -ln(1 - d) / sum w over the pairs with y > 0, where w = y ("overlap") or 1
    ("equal"); L_neg = mean of s^2 ("square") or -ln(1 - s) ("log") over the pairs with y = 0. ``positive="all"`` is
    the paper's equation 3: mean of -ln(1 - d) over all pairs, and L_neg is zero. All sums run over all processes; or,
    ``by_scan``, over the pairs of one scan, and the losses are the mean over scans, as in the released code.

    Args:
        similarity_BRG: Similarities in [0, 1].
        label_BRG: Overlaps in [0, 1], of the same shape.
        positive: See above.
        negative: See above.
        by_scan: See above.

    Returns:
        Two float32 scalars, each at least 0; 0 where similarity equals label everywhere.
    """
    similarity, label = similarity_BRG.float(), label_BRG.float()
    # clamped, since 1 - d is 0 at d = 1 and its logarithm is then infinite
    negative_log_likelihood = -torch.log((1.0 - (label - similarity).abs()).clamp(min=_EPS))
    if positive == "all":
        return mean_of_all(negative_log_likelihood), negative_log_likelihood.new_zeros(())
    overlapping = (label > 0).float()
    weight = label if positive == "overlap" else overlapping
    if by_scan:
        apart, penalty = 1.0 - overlapping, similarity**2 if negative == "square" else negative_log_likelihood
        pos_B = (weight * negative_log_likelihood).sum(dim=(1, 2)) / (weight.sum(dim=(1, 2)) + _EPS)
        neg_B = (apart * penalty).sum(dim=(1, 2)) / (apart.sum(dim=(1, 2)) + _EPS)
        return mean_of_all(pos_B), mean_of_all(neg_B)
    pos = ratio((weight * negative_log_likelihood).sum(), weight.sum(), least=_EPS)
    apart = 1.0 - overlapping
    penalty = similarity**2 if negative == "square" else negative_log_likelihood
    neg = ratio((apart * penalty).sum(), apart.sum())
    return pos, neg


def base_regulariser(
    features_BGD: Tensor,
    *,
    apart_BGG: Tensor | None = None,
    power: Literal[1, 2] = 2,
    detach_second: bool = True,
) -> Tensor:
    """Push the features of crops that lie apart towards being orthogonal: mean of max(0, cosine)^power over pairs.

    The pairs are those of the scans of all processes.

    Args:
        features_BGD: Features of the crops of each scan, (B, G, D).
        apart_BGG: True where two crops do not overlap, (B, G, G); None takes every pair of different crops.
        power: 2 as released, 1 as printed in the paper.
        detach_second: Whether only the first of the two (i < j) gets the gradient, as released.

    Returns:
        Scalar in [0, 1], float32; 0 where no pair is apart.
    """
    features = F.normalize(features_BGD.float(), dim=-1)
    second = features.detach() if detach_second else features
    similarity = torch.einsum("bid,bjd->bij", features, second).clamp(min=0.0)
    number = features.shape[1]
    upper = torch.ones(number, number, dtype=torch.bool, device=features.device).triu(1)
    chosen = (upper if apart_BGG is None else upper & apart_BGG).expand_as(similarity).float()
    return ratio((chosen * similarity**power).sum(), chosen.sum())
