"""Primus, the transformer of nnssl and OpenMind: a rotary code of three axes, gated perceptrons, inner norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.encoders.blocks import Triple
from medssl.encoders.settings.primus import PrimusSettings
from medssl.encoders.tokens import TokenEncoder
from medssl.encoders.transformer import initialise_transformer

__all__ = ["PrimusEncoder", "PrimusSettings", "rotary_code"]

_EPS = 1e-5
_FIRST_SCALE = 0.1  # of a fresh branch


class RotaryAttention(nn.Module):
    """Multi-head self-attention whose queries and keys are turned by their place; keys have no bias.

    Args:
        width: Channels of a token.
        heads: Heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, code: Tensor) -> Tensor:
        """Return (B, N, width) from (B, N, width) and the code of their places, (2, N, width / heads)."""
        query, key, value = (
            project(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = (_turned(each, code).to(value.dtype) for each in (query, key))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.proj(self.norm(mixed.transpose(1, 2).flatten(2)))
        return output


class GatedPerceptron(nn.Module):
    """SwiGLU with a norm before its last layer (Shazeer, 2020, arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1_g = nn.Linear(width, hidden)
        self.fc1_x = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden, eps=_EPS)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, width) from (B, N, width)."""
        output: Tensor = self.fc2(self.norm(functional.silu(self.fc1_g(tokens)) * self.fc1_x(tokens)))
        return output


class PrimusBlock(nn.Module):
    """Attention and perceptron, each behind a norm and scaled a channel before it is added."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = RotaryAttention(width, heads)
        self.gamma_1 = nn.Parameter(torch.full((width,), _FIRST_SCALE))
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = GatedPerceptron(width, hidden)
        self.gamma_2 = nn.Parameter(torch.full((width,), _FIRST_SCALE))

    def forward(self, tokens: Tensor, code: Tensor) -> Tensor:
        """Return (B, N, width) from (B, N, width) and the code of their places."""
        tokens = tokens + self.gamma_1 * self.attn(self.norm1(tokens), code)
        output: Tensor = tokens + self.gamma_2 * self.mlp(self.norm2(tokens))
        return output


class PrimusEncoder(TokenEncoder):
    """Patches to tokens, a learnt table of places and a rotary code, gated pre-norm blocks, a last norm.

    Differs from dynamic_network_architectures' ``Primus`` in that branches are never dropped in training, and layers in
    between are given too, as to ``vit``.

    Reference:
        Wald et al., "Primus: enforcing attention usage for 3D medical image segmentation", 2025, arXiv:2503.01835; Fang
        et al., "EVA-02", 2023, arXiv:2303.11331.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Two blocks."""
        return {"width": 24, "depth": 2, "heads": 2, "patch": 4, "grid": (2, 2, 2)}

    def __init__(self, settings: PrimusSettings) -> None:
        width, depth, heads = settings.dimensions
        hidden = int(width * settings.mlp_ratio)
        super().__init__(
            settings, width=width, blocks=[PrimusBlock(width, heads, hidden) for _ in range(depth)], eps=_EPS
        )
        self.head_width = width // heads
        initialise_transformer(self)
        self.draw_projection()
        self.pool_by(settings.pool)

    def run(self, tokens: Tensor, grid: Triple) -> tuple[list[Tensor], Tensor | None]:
        """Return the tokens (B, N, width) after each taken layer; there is no class token."""
        code = rotary_code(grid, self.settings.grid or grid, self.head_width, tokens.device)
        levels: list[Tensor] = self.blocks(tokens, code)
        return levels, None

    def fixed_positions(self, grid: Triple) -> Tensor:
        """Return nothing to add, (1, 1, 1): the rotary code says the places."""
        return self.norm.weight.new_zeros(1, 1, 1)


def rotary_code(grid: Triple, counted: Triple, width: int, device: torch.device | None = None) -> Tensor:
    """Return sines and cosines of every place of a grid, float32 (2, places in (z, y, x) order, width).

    A third of the channels is of each axis, z first, two neighbours of one frequency; frequencies fall from 1 to nearly
    1 / 10000. Places count as those of the grid ``counted`` that lie as far along.
    """
    bands = width // 6
    frequencies = 10_000.0 ** -(torch.arange(bands, dtype=torch.float32, device=device) / bands)
    places = [
        torch.arange(length, dtype=torch.float32, device=device) / length * own
        for length, own in zip(grid, counted, strict=True)
    ]
    axes = torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1)
    angles = (axes[..., None] * frequencies).flatten(0, 2).flatten(1).repeat_interleave(2, dim=1)
    return torch.stack((angles.sin(), angles.cos()))


def _turned(values: Tensor, code: Tensor) -> Tensor:
    """Return pairs of neighbouring channels of (B, heads, N, width) turned by the angle of their place."""
    across = torch.stack((-values[..., 1::2], values[..., ::2]), dim=-1).flatten(-2)
    return values * code[1] + across * code[0]
