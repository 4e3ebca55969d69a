"""Masks of patches: which tokens of each cloud are hidden, and how the others are gathered."""

from __future__ import annotations

import torch
from torch import Tensor

from pointcloud.batch import inside
from pointcloud.encoders.patches import rows_at

__all__ = ["Chosen", "random_mask"]


def random_mask(keys: Tensor, count: Tensor, ratio: Tensor | float) -> Tensor:
    """Hide a share of each cloud's tokens, drawn evenly.

    Args:
        keys: Random numbers, (B, at least T); the tokens with the smallest are hidden.
        count: int64, (B,), tokens of each cloud; T is the largest.
        ratio: Share that is hidden, in (0, 1), one for all or (B,). Where a cloud has two tokens or more, at least one
            is hidden and one shown; a single token is shown.

    Returns:
        bool, (B, T), true where hidden; never where padded.
    """
    return _smallest(keys[:, : int(count.max())].to(count.device), count, _hidden(count, ratio))


class Chosen:
    """Some tokens of each cloud, in their order, padded to the cloud that has most.

    Args:
        wanted: bool, (B, T), which.

    Attributes:
        count: int64, (B,), how many.
        index: int64, (B, C), their rows among all tokens.
    """

    def __init__(self, wanted: Tensor) -> None:
        self.count = wanted.sum(dim=1)
        most = max(int(self.count.max()), 1)
        self.index = (~wanted).long().argsort(dim=1, stable=True)[:, :most]

    @property
    def there(self) -> Tensor:
        """Which are not padding, bool, (B, C)."""
        return inside(self.count, self.index.shape[1])

    def of(self, values: Tensor) -> Tensor:
        """Return their rows of (B, T, ...) values, (B, C, ...)."""
        return rows_at(values, self.index)


def _hidden(count: Tensor, ratio: Tensor | float) -> Tensor:
    share = torch.as_tensor(ratio, device=count.device, dtype=torch.float64)
    return torch.minimum((share * count + 1e-6).long().clamp_min(1), count - 1)


def _smallest(keys: Tensor, count: Tensor, number: Tensor) -> Tensor:
    """Mark the ``number`` (B,) smallest keys of each row among its first ``count``."""
    outside = ~inside(count, keys.shape[1])
    rank = keys.masked_fill(outside, torch.inf).argsort(dim=1).argsort(dim=1)
    return (rank < number[:, None]) & ~outside
