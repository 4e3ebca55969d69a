"""Parts of plain vision transformers, with the names and arithmetic of timm's, so that weights carry over by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LAYER_NORM_EPS", "Block", "initialise_transformer", "sincos_positions"]

LAYER_NORM_EPS = 1e-6
Triple = tuple[int, int, int]


class Attention(nn.Module):
    """Multi-head self-attention of all tokens.

    Args:
        width: Channels of a token.
        heads: Heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, width) from (B, N, width)."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return output


class Perceptron(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, width) from (B, N, width)."""
        output: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return output


class Block(nn.Module):
    """A pre-norm transformer block: attention and perceptron, each a residual branch behind a layer norm.

    Args:
        width: Channels of a token.
        heads: Attention heads; divides ``width``.
        mlp_ratio: Hidden channels of the perceptron as a multiple of ``width``.

    Reference:
        Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, arXiv:2010.11929.
    """

    def __init__(self, width: int, heads: int, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Perceptron(width, int(width * mlp_ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, width) from (B, N, width)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output


def sincos_positions(grid: Triple, width: int, device: torch.device | None = None) -> Tensor:
    """Return the fixed sine and cosine code of every place of a grid, float32 (places in (z, y, x) order, width).

    Each axis has a third of the channels, ``width // 6`` frequencies as sines and then as cosines, z first; channels
    that are left over are zero. Frequencies fall from 1 to nearly 1 / 10000. Places count tokens, so that windows of
    any size share one code.
    """
    bands = width // 6
    frequencies = 10_000.0 ** -(torch.arange(bands, dtype=torch.float32, device=device) / max(bands, 1))
    parts = []
    for axis, length in enumerate(grid):
        angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequencies
        shape = [1, 1, 1, 2 * bands]
        shape[axis] = length
        parts.append(torch.cat((angles.sin(), angles.cos()), dim=1).view(shape).expand(*grid, 2 * bands))
    code = torch.cat(parts, dim=3).flatten(0, 2)
    return functional.pad(code, (0, width - 6 * bands))


def initialise_transformer(network: nn.Module) -> None:
    """Set fresh linear layers as the authors of MAE do: Xavier-uniform weights and zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
