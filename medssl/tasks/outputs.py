"""What a segmenter's channels mean: classes that exclude each other, or regions that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.regions import Region

__all__ = ["ClassOutput", "Output", "RegionOutput", "membership"]

_LEAST = 1e-38  # about the least that float32 holds in full


@dataclass(frozen=True)
class ClassOutput:
    """Channel k is the k-th class, 0 the background; the likeliest wins.

    Attributes:
        numbers: Label value of each channel.
    """

    numbers: tuple[int, ...]
    key: str = ""  # tells outputs of equal weights apart

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits (B, C, ...): they sum to 1 over the channels."""
        return torch.softmax(logits.float(), dim=1)

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return logits of probabilities (C, ...), each voxel's up to a number that all its channels share."""
        return probabilities.clamp_min(_LEAST).log()

    def decide(self, probabilities: Tensor) -> Tensor:
        """Return the place in ``numbers`` of each voxel, int64, of probabilities (C, ...)."""
        return probabilities.argmax(dim=0)


@dataclass(frozen=True)
class RegionOutput:
    """Channel k is the k-th region, on its own; there is no channel of the background.

    Attributes:
        regions: In the order in which they are written.
    """

    regions: tuple[Region, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Label values that a prediction may have: 0, then what each region writes."""
        return (0, *(region.written for region in self.regions))

    @property
    def key(self) -> str:
        """What the decision depends on, besides the weights."""
        return repr(self.regions)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits (B, C, ...), each channel by itself."""
        return torch.sigmoid(logits.float())

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return logits of probabilities (C, ...), within -88 and 17: float32 tells no number from 1 beyond."""
        return torch.logit(probabilities.clamp(_LEAST, 1.0 - torch.finfo(torch.float32).eps / 2.0))

    def decide(self, probabilities: Tensor) -> Tensor:
        """Return the place in ``numbers`` of each voxel, int64, of probabilities (C, ...).

        Regions are written one after the other where they are likelier than not, and a later one covers the earlier,
        as nnU-Net's ``regions_class_order`` has it.
        """
        place = torch.zeros(probabilities.shape[1:], dtype=torch.int64, device=probabilities.device)
        for channel in range(len(self.regions)):
            place = torch.where(probabilities[channel] > 0.5, channel + 1, place)
        return place


Output = ClassOutput | RegionOutput


def membership(regions: Sequence[Region], values: Sequence[int]) -> Tensor:
    """Return which region holds which label value, bool, (values, regions)."""
    rows = [[value in region.values for region in regions] for value in values]
    return torch.tensor(rows, dtype=torch.bool)
