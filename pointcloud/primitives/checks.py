"""What every primitive asks of the tensors it is given."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medssl.errors import DataError

__all__ = ["batch_of_points", "cleared", "valid_rows"]


def batch_of_points(points_BN3: Tensor, what: str) -> Tensor:
    """Return points as they are, once they are known to be a batch of finite ones.

    Args:
        points_BN3: Shape (clouds, points, 3).
        what: Their name, for messages.

    Raises:
        DataError: The shape or the type is wrong, or a value is NaN or infinite.
    """
    if points_BN3.ndim != 3 or points_BN3.shape[-1] != 3 or 0 in points_BN3.shape:
        raise DataError(f"{what} have shape {tuple(points_BN3.shape)}; (clouds, points, 3) was expected.")
    if not points_BN3.is_floating_point():
        raise DataError(f"{what} are of type {points_BN3.dtype}; floating point was expected.")
    # A sum is one pass; only where it is not finite (or overflows) is every value looked at.
    if not math.isfinite(points_BN3.detach().sum().item()) and not bool(torch.isfinite(points_BN3).all()):
        raise DataError(f"{what} hold NaN or infinite values. Leave such points out first, or mark them by lengths.")
    return points_BN3


def valid_rows(points_BN3: Tensor, lengths: Tensor | None, what: str) -> list[int]:
    """Return how many points of each cloud count; the rows after them are padding.

    Args:
        points_BN3: Shape (clouds, points, 3).
        lengths: Whole numbers (clouds,) from 1 to ``points``, or None where every row counts.
        what: Their name, for messages.

    Raises:
        DataError: The lengths do not fit the points.
    """
    clouds, points = points_BN3.shape[:2]
    if lengths is None:
        return [points] * clouds
    counts = [int(length) for length in lengths.tolist()]
    if len(counts) != clouds or min(counts) < 1 or max(counts) > points:
        raise DataError(f"lengths of the {what} are {counts[:8]}; {clouds} numbers of 1 to {points} were expected.")
    return counts


def cleared(points_BN3: Tensor, lengths: Tensor | None) -> Tensor:
    """Return points with 0 in the rows of padding, whatever was there (NaN too)."""
    if lengths is None:
        return points_BN3
    row = torch.arange(points_BN3.shape[1], device=points_BN3.device)
    return torch.where((row < lengths.to(points_BN3.device)[:, None])[..., None], points_BN3, 0.0)
