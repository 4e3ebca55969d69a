"""What transformers over the tokens of patches share: the patches' projection, a table of places, the pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from medssl.encoders.blocks import Triple, check_input_size, run_stage
from medssl.encoders.contract import Encoder
from medssl.encoders.settings.vit import TokenSettings

__all__ = ["Blocks", "TokenEncoder"]

_OFFSET = 0.1  # of DINOv2, against rounding


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

    def __init__(self, blocks: Iterable[nn.Module], *, taken: tuple[int, ...], checkpointing: bool) -> None:
        super().__init__(blocks)
        self.taken = taken
        self.checkpointing = checkpointing

    def forward(self, tokens: Tensor, *shared: Tensor) -> list[Tensor]:
        """Return the tokens (B, N, width) after each taken block; all blocks see what is shared."""
        levels = []
        for number, block in enumerate(self, start=1):
            called = partial(_called, block, shared) if shared else block
            tokens = run_stage(called, tokens, checkpointing=self.checkpointing and self.training)
            if number in self.taken:
                levels.append(tokens)
        return levels


class TokenEncoder(Encoder):
    """Patches to tokens, positions, blocks; a level of the pyramid for each layer that is taken.

    Args:
        settings: Patch, positions and layers.
        width: Channels of a token.
        blocks: The blocks.
        eps: Of the last norm.
    """

    compiles = False  # methods that hide tokens call its parts, never the whole; of these the blocks are compiled
    pos_embed: nn.Parameter | None

    def __init__(self, settings: TokenSettings, *, width: int, blocks: Iterable[nn.Module], eps: float) -> None:
        super().__init__()
        self.settings = settings
        self.width = width
        self.patch = settings.patch_size
        self.in_channels = settings.input_channels
        self.channels = (width,) * len(settings.taken)
        self.strides = (self.patch,) * len(settings.taken)
        self.size_multiple = self.patch
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(settings.input_channels, width, self.patch, self.patch)})
        self.blocks = Blocks(blocks, taken=settings.taken, checkpointing=settings.checkpointing)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.register_parameter("pos_embed", None)
        if settings.grid is not None:
            z, y, x = settings.grid
            self.pos_embed = nn.Parameter(torch.zeros(1, z * y * x, width))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    @abstractmethod
    def run(self, tokens: Tensor, grid: Triple) -> tuple[list[Tensor], Tensor | None]:
        """Return placed tokens (B, N, width) after each taken block, and the class token (B, width) where one is."""

    @abstractmethod
    def fixed_positions(self, grid: Triple) -> Tensor:
        """Return the code of every place of a grid, (1, N, width), where no table is learnt."""

    def draw_projection(self) -> None:
        """Draw the patches' projection as a linear layer is drawn."""
        projection = self.patch_embed["proj"]
        assert isinstance(projection, nn.Conv3d)
        assert projection.bias is not None
        nn.init.xavier_uniform_(projection.weight.view(self.width, -1))
        nn.init.zeros_(projection.bias)

    def levels(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return one (B, width, z, y, x) tensor a taken layer of ``images`` (B, C, z, y, x), all of the patch's stride.

        Raises:
            ConfigError: A size is no multiple of the patch, or the channels differ.
        """
        tokens, grid = self.embed_patches(images)
        taken, class_token = self.run(tokens + self.positions(grid), grid)
        pyramid = [self.as_map(level, grid) for level in (*taken[:-1], self.norm(taken[-1]))]
        if self.pooling.kind == "class" and class_token is not None:
            return pyramid, self.norm(class_token)[:, :, None, None, None]
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
        # While a network is traced sizes are tensors, and interpolation takes numbers; its window is fixed.
        if torch.jit.is_tracing():  # type: ignore[no-untyped-call, attr-defined]
            grid = (int(grid[0]), int(grid[1]), int(grid[2]))
        if self.pos_embed is None or self.settings.grid is None:
            return self.fixed_positions(grid)
        if grid == self.settings.grid:
            return self.pos_embed
        table = self.as_map(self.pos_embed, self.settings.grid)
        if self.settings.interpolation == "offset":
            factors = [(length + _OFFSET) / own for length, own in zip(grid, self.settings.grid, strict=True)]
            placed = functional.interpolate(table, scale_factor=factors, mode="trilinear", align_corners=False)
        else:
            placed = functional.interpolate(table, grid, mode="trilinear", align_corners=False)
        return placed.flatten(2).transpose(1, 2)

    @staticmethod
    def as_map(tokens: Tensor, grid: Triple) -> Tensor:
        """Return tokens (B, N, width) as (B, width, z, y, x)."""
        return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


def _called(block: nn.Module, shared: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
    output: Tensor = block(tokens, *shared)
    return output
