"""From a feature pyramid to one vector an image: what of the features an embedding keeps.

An instance norm sets each channel's mean over space, so that behind it the mean of the coarsest level is all but the
same for every image: what it distinguishes is what the activation made of the rest. The other ways keep more.

============  =============================================================================  ====================
pool          the vector                                                                     length
============  =============================================================================  ====================
mean          mean over space of the coarsest level, as tasks see it                         channels[-1]
prenorm       mean over space of what enters the encoder's last normalisation                channels[-1]
grid          means of the coarsest level in 2 x 2 x 2 cells; see ``Pooling``                up to 8 channels[-1]
levels        means over space of all levels of the pyramid, finest first                    sum(channels)
cells         the same cells of the three coarsest levels, finest first; see ``Pooling``       up to 8 sum of three
attention     gated attention over the places of the coarsest level, with weights to train   channels[-1]
class         the normed class token of a transformer that has one                           channels[-1]
============  =============================================================================  ====================

What enters the last normalisation: of encoders of stages the last convolution that a norm follows (of a residual block
that of its branch, the skip left out); of ``swin`` the second convolution of its coarsest residual block; of ``vit``
and ``primus`` the tokens that the last layer norm takes. A ``timm`` model does not say which norm is its last.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.encoders.settings.input import POOL_WORDS, Pool
from medssl.heads import AttentionPooling

_COARSEST = 3
__all__ = ["POOL_WORDS", "Pool", "Pooling", "finer_levels"]


class Pooling(nn.Module):
    """Pools a pyramid.

    A grid has two cells along an axis along which the encoder strides, and one along others, so that slices have
    2 x 2; of an odd length the middle is in both cells, as adaptive average pooling has it.

    Args:
        kind: How.
        channels: Channels of each level, finest first.
        strides: Cumulative stride of each level, (z, y, x).

    Attributes:
        kind: How.
        dim: Length of the vector.
    """

    def __init__(self, kind: Pool, channels: tuple[int, ...], strides: tuple[tuple[int, int, int], ...]) -> None:
        super().__init__()
        self.kind: Pool = kind
        self._halved = tuple(axis for axis, stride in enumerate(strides[-1], start=2) if stride > 1)
        self.dim = {"levels": sum(channels), "cells": sum(channels[-_COARSEST:])}.get(kind, channels[-1])
        if kind in ("grid", "cells"):
            self.dim *= 2 ** len(self._halved)
        if kind == "attention":
            self.attention = AttentionPooling(channels[-1])

    def forward(self, pyramid: list[Tensor], before_norm: Tensor | None) -> Tensor:
        """Return the vectors, (B, dim), float32.

        Args:
            pyramid: Levels (B, channels[i], z, y, x), finest first.
            before_norm: What enters the last normalisation, (B, channels[-1], z, y, x), for ``prenorm``; the class
                token (B, channels[-1], 1, 1, 1), for ``class``; None for the others.
        """
        coarsest = pyramid[-1].float()
        if self.kind in ("prenorm", "class"):
            assert before_norm is not None
            return _mean(before_norm)
        if self.kind == "levels":
            return torch.cat([_mean(level) for level in pyramid], dim=1)
        if self.kind in ("grid", "cells"):
            levels = pyramid[-_COARSEST:] if self.kind == "cells" else [coarsest]
            return torch.cat([self._in_cells(level.float()) for level in levels], dim=1)
        if self.kind == "attention":
            pooled, _ = self.attention(coarsest.flatten(2).transpose(1, 2))
            vectors: Tensor = pooled.float()
            return vectors
        return _mean(coarsest)

    def _in_cells(self, level: Tensor) -> Tensor:
        for axis in (2, 3, 4):
            level = _cells(level, axis, halved=axis in self._halved)
        return level.flatten(1)


def finer_levels(pooling: Pooling, pyramid: list[Tensor]) -> list[Tensor]:
    """Return the levels that whoever joins all levels adds to the embedding: none where it holds them already."""
    return {"levels": [], "cells": pyramid[:-_COARSEST]}.get(pooling.kind, pyramid[:-1])


def _mean(level: Tensor) -> Tensor:
    return torch.mean(level.float(), dim=(2, 3, 4))


def _cells(values: Tensor, axis: int, *, halved: bool) -> Tensor:
    """Return means over both halves of an axis, or over all of it; the axis stays, of length 2 or 1."""
    if not halved:
        return values.mean(dim=axis, keepdim=True)
    length = values.shape[axis]
    size = (length + 1) // 2
    first, second = values.narrow(axis, 0, size), values.narrow(axis, length - size, size)
    return torch.cat([first.mean(dim=axis, keepdim=True), second.mean(dim=axis, keepdim=True)], dim=axis)
