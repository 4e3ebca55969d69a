"""The encoder of MONAI's Swin UNETR behind the contract; published weights load by name.

By name alone they load into another network. Until MONAI 1.4 patch merging joined the sub-grids 000, 100, 010, 001,
101, 010, 001 and 111: two twice, two never. From 1.5 on "merging" joins all eight, under the same names and shapes. And
all published files were trained on arrays (x, y, z), where ours are (z, y, x). ``merging`` and ``axes`` say which.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medssl.encoders.blocks import check_input_size
from medssl.encoders.contract import Encoder
from medssl.encoders.settings.swin import SwinSettings

__all__ = ["LegacyMerging", "SwinEncoder", "SwinSettings"]

# Of MONAI until 1.4, along the axes in their order; (0, 1, 0) and (0, 0, 1) stand twice.
_LEGACY_OFFSETS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))


class LegacyMerging(nn.Module):
    """Patch merging as MONAI had it until 1.4: eight sub-grids joined, normed and reduced, two of them twice.

    Names and shapes are those of ``monai.networks.nets.swin_unetr.PatchMerging``.

    Args:
        dim: Channels in; twice as many come out.
        norm_layer: Class of the norm.
        spatial_dims: 3.

    Reference:
        https://github.com/Project-MONAI/MONAI/issues/8284.
    """

    def __init__(self, dim: int, norm_layer: type[nn.LayerNorm] = nn.LayerNorm, spatial_dims: int = 3) -> None:
        super().__init__()
        assert spatial_dims == 3
        self.reduction = nn.Linear(8 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(8 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, a, b, c, C) as (B, a / 2, b / 2, c / 2, 2 C); odd sizes are padded with 0 at the end."""
        odd = [size % 2 for size in tokens.shape[1:4]]
        if any(odd):
            tokens = nn.functional.pad(tokens, (0, 0, 0, odd[2], 0, odd[1], 0, odd[0]))
        joined = torch.cat([tokens[:, i::2, j::2, k::2] for i, j, k in _LEGACY_OFFSETS], dim=-1)
        reduced: Tensor = self.reduction(self.norm(joined))
        return reduced


class SwinEncoder(Encoder):
    """A Swin transformer, and the convolution blocks that Swin UNETR puts on its skips.

    Modules bear the names they have in ``monai.networks.nets.SwinUNETR`` (``swinViT``, ``encoder1`` ... ``encoder4``,
    ``encoder10``), so state dicts carry over by name both ways. Levels: full resolution, then strides 2 to 32.

    Args:
        settings: The sizes.

    Reference:
        Hatamizadeh et al., "Swin UNETR: Swin transformers for semantic segmentation of brain tumors in MRI images",
        2022, arXiv:2201.01266; He et al., "SwinUNETR-V2", MICCAI 2023.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """One block a stage; its windows are of 64 voxels and more."""
        return {"feature_size": 12, "depths": (1, 1, 1, 1), "heads": (1, 1, 1, 1), "window": 4}

    def __init__(self, settings: SwinSettings) -> None:
        # MONAI takes seconds to import, and whoever lists or validates encoders imports this module
        from monai.networks.nets.swin_unetr import SwinTransformer

        super().__init__()
        width = settings.feature_size
        self.settings = settings
        self.in_channels = settings.input_channels
        self.channels = (width, width, 2 * width, 4 * width, 8 * width, 16 * width)
        self.strides = ((1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8), (16, 16, 16), (32, 32, 32))
        self.size_multiple = (32, 32, 32)
        self.swinViT = SwinTransformer(
            in_chans=settings.input_channels,
            embed_dim=width,
            window_size=(settings.window,) * 3,
            patch_size=(2, 2, 2),
            depths=settings.depths,
            num_heads=settings.heads,
            drop_path_rate=settings.drop_path,
            use_checkpoint=settings.checkpointing,
            use_v2=settings.use_v2,
            downsample="merging" if settings.merging == "monai" else LegacyMerging,  # type: ignore[arg-type]
        )
        self.encoder1 = _residual_block(settings.input_channels, width)
        self.encoder2 = _residual_block(width, width)
        self.encoder3 = _residual_block(2 * width, 2 * width)
        self.encoder4 = _residual_block(4 * width, 4 * width)
        self.encoder10 = _residual_block(16 * width, 16 * width)
        self.pool_by(settings.pool)

    def levels(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return six levels of ``images`` (B, C, z, y, x), finest first.

        Raises:
            ConfigError: A size is no multiple of 32, or the channels differ.
        """
        check_input_size(images, in_channels=self.in_channels, size_multiple=self.size_multiple)
        images = self.in_its_axes(images)
        hidden = self.swinViT(images.contiguous(), True)
        before_norm = None
        if self.pooling.kind == "prenorm":
            coarsest, before_norm = _with_convolved(self.encoder10.layer, hidden[4])
        else:
            coarsest = self.encoder10(hidden[4])
        pyramid = [
            self.encoder1(images),
            self.encoder2(hidden[0]),
            self.encoder3(hidden[1]),
            self.encoder4(hidden[2]),
            hidden[3],
            coarsest,
        ]
        if before_norm is not None:
            before_norm = self.in_its_axes(before_norm)
        return [self.in_its_axes(level) for level in pyramid], before_norm

    def in_its_axes(self, values: Tensor) -> Tensor:
        """Return values (..., z, y, x) with the axes that the weights have, or those back as (..., z, y, x)."""
        return values.transpose(-1, -3) if self.settings.axes == "xyz" else values


def _with_convolved(block: Any, features: Tensor) -> tuple[Tensor, Tensor]:
    """Run MONAI's residual block, whose channels stay the same, and keep what enters its last norm."""
    convolved = block.conv2(block.lrelu(block.norm1(block.conv1(features))))
    return block.lrelu(block.norm2(convolved) + features), convolved


def _residual_block(in_channels: int, out_channels: int) -> nn.Module:
    """Return the block that Swin UNETR puts on a skip."""
    from monai.networks.blocks import UnetrBasicBlock

    block: nn.Module = UnetrBasicBlock(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=3,
        stride=1,
        norm_name="instance",
        res_block=True,
    )
    return block
