"""A queue of past features, with who they are of: many negatives for small batches.

Reference:
    He et al., "Momentum contrast for unsupervised visual representation learning", CVPR 2020, arXiv:1911.05722.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["FeatureQueue"]

_EMPTY = -1


class FeatureQueue(nn.Module):
    """The last ``length`` features, first in, first out; all of it in buffers, so a checkpoint holds it.

    Unlike in the usual code no tail of a batch is dropped where the length is no multiple of the batch, places that
    hold nothing yet never count as negatives (instead of random vectors that do), and every feature keeps its item and
    its group, so that crops of one patient are not distinguished.

    Attributes:
        features: (length, D), float32.
        keys: Item of each place; -1 where it holds nothing.
        groups: Group (patient) of each place.

    Args:
        length: Number of places.
        width: D.
    """

    features: Tensor
    keys: Tensor
    groups: Tensor
    next: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"A queue needs at least one place. Got {length}.")
        self.register_buffer("features", torch.zeros(length, width))
        self.register_buffer("keys", torch.full((length,), _EMPTY))
        self.register_buffer("groups", torch.full((length,), _EMPTY))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, features_BD: Tensor, key_B: Tensor, group_B: Tensor) -> None:
        """Put rows in, over the oldest; of more rows than places the last stay."""
        length = self.features.shape[0]
        rows = features_BD.shape[0]
        kept = min(rows, length)
        place = (self.next + rows - kept + torch.arange(kept, device=self.features.device)) % length
        self.features[place] = features_BD[rows - kept :].float()
        self.keys[place] = key_B[rows - kept :]
        self.groups[place] = group_B[rows - kept :]
        self.next.copy_((self.next + rows) % length)
