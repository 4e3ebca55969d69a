"""Dice and cross-entropy over the voxels that have a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medssl.gathering import added, mean_of_all, ratio

__all__ = ["DiceCrossEntropy", "SegmentationLoss"]

_SMOOTH = 1e-5


@dataclass(frozen=True)
class SegmentationLoss:
    """The weighted sum that is minimised and its two terms, scalars; ``terms`` are these weighed, with their graph."""

    total: Tensor
    dice: Tensor
    cross_entropy: Tensor
    terms: dict[str, Tensor]


class DiceCrossEntropy(nn.Module):
    """Weighted sum of soft Dice (softmax, no background) and cross-entropy, in float32.

    Dice of a class: 1 - (2 sum(p t) + 1e-5) / (sum(p) + sum(t) + 1e-5), then the mean over classes (and over items,
    unless ``batch_dice``), as in MONAI's ``DiceLoss``; importing MONAI takes longer than a short training, so the
    formula stands here and MONAI is its oracle in the tests.

    Voxels whose label is -1 count in neither term: their probabilities and targets are zero in the Dice, and the
    cross-entropy is a mean over the others. With deep supervision stage i (full resolution is 0) weighs 2^-i, the
    weights summing to one; its labels are those of the full grid at every stride-th voxel.

    All sums and means run over all processes, before any ratio.

    Args:
        dice_weight: Weight of the Dice term, >= 0.
        cross_entropy_weight: Weight of the cross-entropy, >= 0.
        batch_dice: Whether intersections and sums run over the batch before the ratio. With small batches a class is
            absent from many windows, where a Dice of its own is all noise.

    Reference:
        Milletari et al., "V-Net", 3DV 2016, arXiv:1606.04797; Isensee et al., "nnU-Net", Nature Methods 2021.
    """

    def __init__(self, *, dice_weight: float = 1.0, cross_entropy_weight: float = 1.0, batch_dice: bool = True) -> None:
        super().__init__()
        self.dice_weight, self.cross_entropy_weight = dice_weight, cross_entropy_weight
        self.batch_dice = batch_dice

    def forward(self, logits: Sequence[Tensor], labels: Tensor) -> SegmentationLoss:
        """Return the loss of one or several supervised stages.

        Args:
            logits: (B, C, ...) each, full resolution first; C >= 2, background is channel 0.
            labels: Class of every voxel of the full grid, int64, (B, z, y, x); -1 is ignored.
        """
        weights = [2.0**-stage for stage in range(len(logits))]
        dice, cross_entropy = labels.new_zeros((), dtype=torch.float32), labels.new_zeros((), dtype=torch.float32)
        for weight, stage in zip(weights, logits, strict=True):
            stage_dice, stage_entropy = self._stage(stage, _at_size(labels, stage))
            dice = dice + weight / sum(weights) * stage_dice
            cross_entropy = cross_entropy + weight / sum(weights) * stage_entropy
        terms = {"dice": self.dice_weight * dice, "cross_entropy": self.cross_entropy_weight * cross_entropy}
        return SegmentationLoss(terms["dice"] + terms["cross_entropy"], dice.detach(), cross_entropy.detach(), terms)

    def _stage(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        labelled = (labels >= 0)[:, None]
        classes = torch.arange(logits.shape[1], device=labels.device).view(1, -1, 1, 1, 1)
        target = (labels[:, None] == classes).float()  # all zero where the label is -1
        log_probability = torch.log_softmax(logits.float(), dim=1)
        cross_entropy = ratio(-(log_probability * target).sum(), labelled.sum())
        probability = log_probability[:, 1:].exp() * labelled
        over = (0, 2, 3, 4) if self.batch_dice else (2, 3, 4)
        shared = (probability * target[:, 1:]).sum(dim=over)
        volume = (probability + target[:, 1:]).sum(dim=over)
        if self.batch_dice:
            shared, volume = added(shared), added(volume)
            return 1.0 - ((2.0 * shared + _SMOOTH) / (volume + _SMOOTH)).mean(), cross_entropy
        return 1.0 - mean_of_all((2.0 * shared + _SMOOTH) / (volume + _SMOOTH)), cross_entropy


def _at_size(labels: Tensor, logits: Tensor) -> Tensor:
    z, y, x = (full // part for full, part in zip(labels.shape[1:], logits.shape[2:], strict=True))
    return labels[:, ::z, ::y, ::x]
