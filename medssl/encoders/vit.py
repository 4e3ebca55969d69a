"""The plain vision transformer over volumes: tokens of patches, one scale, attention over the whole window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medssl.encoders.settings.sizes import Triple
from medssl.encoders.settings.vit import ViTSettings
from medssl.encoders.tokens import TokenEncoder
from medssl.encoders.transformer import LAYER_NORM_EPS, Block, initialise_transformer, sincos_positions

__all__ = ["ViTEncoder", "ViTSettings"]


class ViTEncoder(TokenEncoder):
    """Patches to tokens, positions, pre-norm blocks; a level of the pyramid for each layer that is taken.

    All levels have the patch as their stride; a decoder brings the earlier ones to finer strides, as UNETR does (see
    ``medssl/decoder.py``). The last is normed; the embedding is pooled from tokens. Without ``class_token`` there is
    none: the mean serves as well (He et al., section A.1 of arXiv:2111.06377), and does without a token that no volume
    task uses; weights that were trained with one need it, for every token looks at it. Modules bear timm's names, whose
    ``VisionTransformer`` this is for windows of one slice; a class token's place is within ``cls_token``.

    Args:
        settings: The sizes.

    Reference:
        Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, arXiv:2010.11929; for volumes Hatamizadeh et
        al., "UNETR", WACV 2022, arXiv:2103.10504.
    """

    cls_token: nn.Parameter | None

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Two blocks."""
        return {"width": 24, "depth": 2, "heads": 2, "patch": 4}

    def __init__(self, settings: ViTSettings) -> None:
        width, depth, heads = settings.dimensions
        super().__init__(
            settings,
            width=width,
            blocks=[Block(width, heads, mlp_ratio=settings.mlp_ratio) for _ in range(depth)],
            eps=LAYER_NORM_EPS,
        )
        initialise_transformer(self)
        self.draw_projection()
        self.register_parameter("cls_token", None)
        if settings.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            nn.init.normal_(self.cls_token, std=0.02)
        self.pool_by(settings.pool)

    def run(self, tokens: Tensor, grid: Triple) -> tuple[list[Tensor], Tensor | None]:
        """Return the tokens (B, N, width) of all places after each taken layer, and the class token."""
        levels: list[Tensor] = self.blocks(self._with_class(tokens))
        return self._apart(levels)

    def encode(self, tokens: Tensor) -> list[Tensor]:
        """Return the tokens (B, N, width) after each taken layer, the last normed; any number of tokens will do."""
        levels, _ = self._apart(self.blocks(self._with_class(tokens)))
        return [*levels[:-1], self.norm(levels[-1])]

    def fixed_positions(self, grid: Triple) -> Tensor:
        """Return the sine and cosine code of a grid, (1, N, width)."""
        return sincos_positions(grid, self.width, self.norm.weight.device)[None]

    def _with_class(self, tokens: Tensor) -> Tensor:
        if self.cls_token is None:
            return tokens
        return torch.cat((self.cls_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens), dim=1)

    def _apart(self, levels: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        if self.cls_token is None:
            return levels, None
        return [level[:, 1:] for level in levels], levels[-1][:, 0]
