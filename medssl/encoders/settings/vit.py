"""Settings of `medssl.encoders.vit`, and what transformers over tokens share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from medssl.encoders.settings.input import InputSettings
from medssl.encoders.settings.sizes import Triple, as_triples

__all__ = ["Positive", "Size", "TokenSettings", "ViTSettings"]

Positive = Annotated[int, Field(ge=1)]


class Size(NamedTuple):
    """A usual size of a transformer: channels of a token, blocks, heads."""

    width: int
    depth: int
    heads: int


class TokenSettings(InputSettings):
    """Patches, places and layers of a transformer over tokens; ``size`` names usual ones, which the rest override."""

    sizes: ClassVar[dict[str, Size]]

    size: str = Field(description="Name of a usual size.")
    width: Positive | None = Field(default=None, description="Channels of a token. None: as the size has it.")
    depth: Positive | None = Field(default=None, description="Blocks. None: as the size has it.")
    heads: Positive | None = Field(default=None, description="Attention heads. None: as the size has it.")
    mlp_ratio: float = Field(default=4.0, gt=0, description="Hidden channels of a block as a multiple of the width.")
    patch: Positive | tuple[Positive, Positive, Positive] = Field(
        default=16, description="Voxels of a token, a number or [z,y,x]; 1 along z for windows of one slice."
    )
    grid: tuple[Positive, Positive, Positive] | None = Field(
        default=None, description="Tokens of the learnt table, [z,y,x]; interpolated for windows of other sizes."
    )
    interpolation: Literal["size", "offset"] = Field(
        default="size",
        description="How the table is interpolated: 'size', to the tokens of the window; 'offset', by (tokens + 0.1) / "
        "table, as DINOv2 and 3DINO do.",
    )
    layers: tuple[Positive, ...] | None = Field(
        default=None,
        description="Blocks after which a task takes the tokens, ending with the last. None: evenly spread, one for "
        "each halving of the patch, as UNETR has them.",
    )
    checkpointing: bool = Field(
        default=False, description="Recompute each block in the backward pass: less memory, about a third more time."
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        width, depth, heads = self.dimensions
        if width % heads:
            raise ValueError(f"heads must divide the width, {width}. Got {heads}. Try {max(1, width // 64)}.")
        most = max(1, self.halvings)
        layers = self.taken
        if list(layers) != sorted(set(layers)) or layers[-1] != depth or len(layers) > most:
            raise ValueError(
                f"layers must rise and end with the last block, {depth}, and be {most} at most, one for each halving "
                f"of the patch. Got {list(layers)}."
            )
        return self

    @property
    def dimensions(self) -> Size:
        """Channels of a token, blocks and heads."""
        usual = self.sizes[self.size]
        return Size(self.width or usual.width, self.depth or usual.depth, self.heads or usual.heads)

    @property
    def patch_size(self) -> Triple:
        """Voxels of a token, (z, y, x)."""
        return as_triples([self.patch])[0]

    @property
    def halvings(self) -> int:
        """How often the patch can be halved until it is a voxel: the steps of a decoder."""
        return max(_halvings(length) for length in self.patch_size)

    @property
    def taken(self) -> tuple[int, ...]:
        """Blocks after which tokens are taken, from 1."""
        if self.layers is not None:
            return self.layers
        depth = self.dimensions.depth
        count = min(max(1, self.halvings), depth)
        return tuple(depth * (step + 1) // count for step in range(count))


class ViTSettings(TokenSettings):
    """A plain vision transformer. ``size`` names the usual ones; ``width``, ``depth``, ``heads`` override it.

    For a CPU: ``size: tiny``, and patches so large that a window has a few hundred tokens.
    """

    sizes: ClassVar[dict[str, Size]] = {
        "tiny": Size(192, 12, 3),
        "small": Size(384, 12, 6),
        "base": Size(768, 12, 12),
        "large": Size(1024, 24, 16),
    }

    name: Literal["vit"] = "vit"
    size: Literal["tiny", "small", "base", "large"] = Field(
        default="small",
        description="ViT-Ti (192 channels, 3 heads), ViT-S (384, 6), ViT-B (768, 12); 12 blocks; ViT-L (1024, 16, 24 "
        "blocks).",
    )
    positions: Literal["sincos", "learned"] = Field(
        default="sincos", description="Fixed sine and cosine code, or a learnt table of 'grid' tokens."
    )
    class_token: bool = Field(
        default=False, description="A token of no patch that all look at, as weights need that were trained with one."
    )

    @model_validator(mode="after")
    def _table_has_a_grid(self) -> Self:
        if (self.positions == "learned") != (self.grid is not None):
            raise ValueError(
                "positions: learned needs 'grid', the tokens of its table along z, y, x (window / patch); "
                f"'sincos' needs none. Got positions {self.positions} and grid {self.grid}."
            )
        return self


def _halvings(length: int) -> int:
    """Return the steps from ``length`` to 1; an odd length takes one."""
    steps = 0
    while length > 1:
        steps, length = steps + 1, length // 2 if length % 2 == 0 else 1
    return steps
