"""The encoder of MONAI's Swin UNETR behind the contract; published weights load by name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medssl.encoders.blocks import check_input_size
from medssl.encoders.contract import Encoder
from medssl.encoders.settings.swin import SwinSettings

__all__ = ["SwinEncoder", "SwinSettings"]


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
        return pyramid, before_norm


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
