"""The plain vision transformer over volumes: tokens of patches, one scale, attention over the whole window."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.encoders.blocks import Triple, check_input_size, run_stage
from medssl.encoders.contract import Encoder
from medssl.encoders.settings.vit import ViTSettings
from medssl.encoders.transformer import LAYER_NORM_EPS, Block, initialise_transformer, sincos_positions

__all__ = ["ViTEncoder", "ViTSettings"]


class Blocks(nn.ModuleList):
    """The blocks of a transformer one after the other.

    Args:
        blocks: The blocks.
        taken: Numbers of the blocks, from 1, after which tokens are taken.
        checkpointing: Whether blocks are computed again in the backward pass.

    Attributes:
        compiles: ``train.compile`` compiles it.
    """

    compiles: ClassVar[bool] = True

    def __init__(self, blocks: Iterable[Block], *, taken: tuple[int, ...], checkpointing: bool) -> None:
        super().__init__(blocks)
        self.taken = taken
        self.checkpointing = checkpointing

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Return the tokens (B, N, width) after each taken block."""
        levels = []
        for number, block in enumerate(self, start=1):
            tokens = run_stage(block, tokens, checkpointing=self.checkpointing and self.training)
            if number in self.taken:
                levels.append(tokens)
        return levels


class ViTEncoder(Encoder):
    """Patches to tokens, positions, pre-norm blocks; a level of the pyramid for each layer that is taken.

    All levels have the patch as their stride; a decoder brings the earlier ones to finer strides, as UNETR does (see
    ``medssl/decoder.py``). The last is normed; the embedding is pooled from tokens. There is no class token: the mean
    serves as well (He et al., section A.1 of arXiv:2111.06377), and does without a token that no volume task uses.
    Modules bear timm's names, whose ``VisionTransformer`` without class token this is for windows of one slice.

    Args:
        settings: The sizes.

    Reference:
        Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, arXiv:2010.11929; for volumes Hatamizadeh et
        al., "UNETR", WACV 2022, arXiv:2103.10504.
    """

    compiles = False  # methods that hide tokens call its parts, never the whole; of these the blocks are compiled
    pos_embed: nn.Parameter | None

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Two blocks."""
        return {"width": 24, "depth": 2, "heads": 2, "patch": 4}

    def __init__(self, settings: ViTSettings) -> None:
        super().__init__()
        width, depth, heads = settings.dimensions
        self.settings = settings
        self.width = width
        self.patch = settings.patch_size
        self.in_channels = settings.input_channels
        self.channels = (width,) * len(settings.taken)
        self.strides = (self.patch,) * len(settings.taken)
        self.size_multiple = self.patch
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(settings.input_channels, width, self.patch, self.patch)})
        self.blocks = Blocks(
            (Block(width, heads, mlp_ratio=settings.mlp_ratio) for _ in range(depth)),
            taken=settings.taken,
            checkpointing=settings.checkpointing,
        )
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.register_parameter("pos_embed", None)
        if settings.grid is not None:
            z, y, x = settings.grid
            self.pos_embed = nn.Parameter(torch.zeros(1, z * y * x, width))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        initialise_transformer(self)
        projection = self.patch_embed["proj"]
        assert isinstance(projection, nn.Conv3d)
        assert projection.bias is not None
        nn.init.xavier_uniform_(projection.weight.view(width, -1))
        nn.init.zeros_(projection.bias)
        self.pool_by(settings.pool)

    def levels(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return one (B, width, z, y, x) tensor a taken layer of ``images`` (B, C, z, y, x), all of the patch's stride.

        Raises:
            ConfigError: A size is no multiple of the patch, or the channels differ.
        """
        tokens, grid = self.embed_patches(images)
        taken: list[Tensor] = self.blocks(tokens + self.positions(grid))
        pyramid = [self.as_map(level, grid) for level in (*taken[:-1], self.norm(taken[-1]))]
        return pyramid, self.as_map(taken[-1], grid) if self.pooling.kind == "prenorm" else None

    def embed_patches(self, images: Tensor) -> tuple[Tensor, Triple]:
        """Return the tokens of images (B, C, z, y, x), without positions, (B, N, width), and their grid (z, y, x).

        Raises:
            ConfigError: As ``forward``.
        """
        check_input_size(images, in_channels=self.in_channels, size_multiple=self.size_multiple)
        embedded: Tensor = self.patch_embed["proj"](images)
        return embedded.flatten(2).transpose(1, 2), (embedded.shape[2], embedded.shape[3], embedded.shape[4])

    def positions(self, grid: Triple) -> Tensor:
        """Return the code of every place of a grid, (1, N, width); the learnt table is interpolated to other grids."""
        if self.pos_embed is None or self.settings.grid is None:
            return sincos_positions(grid, self.width, self.norm.weight.device)[None]
        if grid == self.settings.grid:
            return self.pos_embed
        table = self.as_map(self.pos_embed, self.settings.grid)
        return functional.interpolate(table, grid, mode="trilinear", align_corners=False).flatten(2).transpose(1, 2)

    def encode(self, tokens: Tensor) -> list[Tensor]:
        """Return the tokens (B, N, width) after each taken layer, the last normed; any number of tokens will do."""
        levels: list[Tensor] = self.blocks(tokens)
        return [*levels[:-1], self.norm(levels[-1])]

    @staticmethod
    def as_map(tokens: Tensor, grid: Triple) -> Tensor:
        """Return tokens (B, N, width) as (B, width, z, y, x)."""
        return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)
