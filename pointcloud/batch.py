"""What travels from a store of clouds to a method: points, each cloud with as many as it has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.batch import Batch

__all__ = ["CloudBatch", "CloudPlan", "inside"]


@dataclass(frozen=True, kw_only=True)
class CloudPlan:
    """Which points a method wants of each cloud.

    Attributes:
        points: How many, drawn anew at every step without replacement; a cloud that has fewer gives all it has. None
            takes all of every cloud.
        labels: Whether the labels of the points are read too.
    """

    points: int | None = 1024
    labels: bool = False


@dataclass(frozen=True, kw_only=True)
class CloudBatch(Batch):
    """Points of clouds as they lie in the store, ready to be moved to a device. B clouds, padded to the longest.

    Attributes:
        points: float32, (B, N, 3), in the unit of each cloud; 0 in the rows of padding.
        count: int64, (B,), how many rows of each cloud are points; those after them are padding.
        centre: float32, (B, 3), the mean of the whole cloud.
        radius: float32, (B,), the distance from there to the farthest point of the whole cloud; above 0.
        label: int64, (B,), the class of each cloud; -1 where it has none.
        labels: int64, (B, N), the class of each point; -1 where padded or unknown. None where the plan wants none.
        item, patient, slot: See `medssl.batch.Batch`.
    """

    points: Tensor
    count: Tensor
    centre: Tensor
    radius: Tensor
    label: Tensor
    labels: Tensor | None = None

    def network_input(self) -> Tensor:
        """Return the points as the network sees them: about their cloud's mean, in its unit sphere; 0 where padded."""
        placed = (self.points - self.centre[:, None]) / self.radius[:, None, None]
        return torch.where(inside(self.count, placed.shape[1])[..., None], placed, 0.0)


def inside(count: Tensor, length: int) -> Tensor:
    """Return which rows of a padded batch are points, bool, (B, length).

    Example:
        >>> inside(torch.tensor([1, 2]), 2).tolist()
        [[True, False], [True, True]]
    """
    return torch.arange(length, device=count.device)[None] < count[:, None]
