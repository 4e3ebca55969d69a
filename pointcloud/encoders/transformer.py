"""A pre-norm transformer over tokens of clouds, each cloud with as many as it has.

Reference:
    Vaswani et al., "Attention is all you need", 2017, arXiv:1706.03762; Dosovitskiy et al. 2021, arXiv:2010.11929;
    Huang et al., "Deep networks with stochastic depth", 2016, arXiv:1603.09382.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Block", "Transformer", "position_mlp"]


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a layer norm and beside a shortcut.

    Args:
        width: Length of a token.
        heads: Attention heads; divides ``width``.
        ratio: Width of the perceptron, as a multiple of ``width``.
        drop_path: Chance that a branch is left out for a cloud, in training.
        cross: Whether tokens attend to a memory instead of to each other.
    """

    def __init__(self, width: int, heads: int, *, ratio: float, drop_path: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        self.heads, self.drop_path, self.cross = heads, drop_path, cross
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        hidden = round(width * ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor, there: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return new tokens, (B, T, width).

        Args:
            tokens: (B, T, width).
            there: bool, (B, T) or of the memory (B, M): which of those attended to are not padding.
            memory: (B, M, width), already normed; for a block with ``cross``.
        """
        query, key, value = self._heads(tokens, memory)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=there[:, None, None, :])
        tokens = tokens + self._dropped(self.out(mixed.transpose(1, 2).flatten(2)))
        result: Tensor = tokens + self._dropped(self.mlp(self.norm_mlp(tokens)))
        return result

    def attention(self, tokens: Tensor, there: Tensor) -> Tensor:
        """Return how much each token looks at each other, (B, heads, T, T), rows summing to 1."""
        query, key, _ = self._heads(tokens, None)
        score = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        weights: Tensor = score.masked_fill(~there[:, None, None, :], float("-inf")).softmax(dim=-1)
        return weights

    def _heads(self, tokens: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        normed = self.norm_attention(tokens)
        key, value = self.key_value(normed if memory is None else memory).chunk(2, dim=-1)
        return self._split(self.query(normed)), self._split(key), self._split(value)

    def _split(self, values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return branch
        kept = 1.0 - self.drop_path
        mask = torch.rand(len(branch), 1, 1, device=branch.device) < kept
        return branch * mask / kept


class Transformer(nn.Module):
    """Blocks one after another, and a last norm.

    Args:
        width: Length of a token.
        depth: Blocks.
        heads: Attention heads.
        ratio: Width of the perceptrons, as a multiple of ``width``.
        drop_path: Chance that a branch is left out in the last block; it rises from 0 in the first.
        every: Whether positions are added before every block, or before the first alone.
        cross: Whether tokens attend to a memory instead of to each other.

    Attributes:
        compiles: ``train.compile`` compiles it.
    """

    compiles: ClassVar[bool] = True

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        ratio: float = 4.0,
        drop_path: float = 0.0,
        every: bool = True,
        cross: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads must divide the width. Got {heads} heads for a width of {width}.")
        rates = [drop_path * number / max(depth - 1, 1) for number in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, ratio=ratio, drop_path=rate, cross=cross) for rate in rates)
        self.norm = nn.LayerNorm(width)
        self.every = every

    def forward(
        self, tokens: Tensor, there: Tensor, positions: Tensor | None = None, memory: Tensor | None = None
    ) -> Tensor:
        """Return normed tokens, (B, T, width); arguments as in ``Block.forward``, positions of the tokens' shape."""
        normed: Tensor = self.norm(self.before_norm(tokens, there, positions, memory))
        return normed

    def before_norm(
        self, tokens: Tensor, there: Tensor, positions: Tensor | None = None, memory: Tensor | None = None
    ) -> Tensor:
        """Return the tokens after the last block, before the last norm; arguments as in ``forward``."""
        for number, block in enumerate(self.blocks):
            tokens = block(self._placed(tokens, positions, number), there, memory)
        return tokens

    def last_attention(self, tokens: Tensor, there: Tensor, positions: Tensor | None = None) -> Tensor:
        """Return the attention of the last block, (B, heads, T, T)."""
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks[:last]):
            tokens = block(self._placed(tokens, positions, number), there)
        block = self.blocks[last]
        assert isinstance(block, Block)
        return block.attention(self._placed(tokens, positions, last), there)

    def _placed(self, tokens: Tensor, positions: Tensor | None, number: int) -> Tensor:
        return tokens if positions is None or (number and not self.every) else tokens + positions


def position_mlp(width: int) -> nn.Sequential:
    """Return the network from a place (3) to its embedding, as in Point-BERT and its heirs."""
    return nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
