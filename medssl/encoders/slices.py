"""2D networks of timm as encoders of slices: windows (1, y, x), or every slice of a volume by itself."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from medssl.encoders.blocks import Triple, check_input_size
from medssl.encoders.contract import Encoder
from medssl.encoders.settings.slices import SliceSettings
from medssl.errors import ConfigError

__all__ = ["SliceEncoder", "SliceSettings"]

Positive = Annotated[int, Field(ge=1)]


class SliceEncoder(Encoder):
    """The pyramid of a timm model, slice by slice: (B, C, z, y, x) goes through it as B * z slices of C channels.

    Strides are (1, s, s), and an embedding is pooled over slices too. Weights are drawn anew: nothing is
    downloaded.

    Reference:
        Wightman, "PyTorch image models", 2019; He et al., CVPR 2016, arXiv:1512.03385 (ResNet).

    Args:
        settings: Which model.

    Raises:
        ConfigError: timm has no such model, or it gives no pyramid, or not the levels that are asked for.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Timm's own model of tests."""
        return {"model": "test_resnet"}

    def __init__(self, settings: SliceSettings) -> None:
        super().__init__()
        import timm

        if not timm.is_model(settings.model):
            near = timm.list_models(f"*{settings.model[:6]}*")[:5]
            hint = f"Near it: {', '.join(near)}. " if near else ""
            raise ConfigError(f"timm has no model '{settings.model}'. {hint}Take resnet18, or test_resnet for a CPU.")
        chosen: dict[str, Any] = {} if settings.features is None else {"out_indices": settings.features}
        if settings.tokens:
            chosen = {"dynamic_img_size": True, "num_classes": 0}
        try:
            self.network = timm.create_model(
                settings.model,
                pretrained=False,
                features_only=not settings.tokens,
                in_chans=settings.input_channels,
                **chosen,
            )
            levels = _token_levels(self.network, settings) if settings.tokens else self.network.feature_info
        except (RuntimeError, AssertionError, IndexError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"The timm model '{settings.model}' gives no feature pyramid, or not the levels {settings.features}. "
                f"Take a convolutional one such as resnet18. timm says: {error}"
            ) from error
        self.settings = settings
        self.in_channels = settings.input_channels
        self.channels = tuple(levels.channels())
        self.strides = tuple((1, s, s) for s in levels.reduction())
        self.size_multiple: Triple = self.strides[-1]
        self.kernels: tuple[Triple, ...] = ((1, 3, 3),) * len(self.channels)
        if settings.checkpointing:
            for module in self.network.modules():  # what is computed again must find its input as it was
                if getattr(module, "inplace", False):
                    module.inplace = False  # type: ignore[assignment]
            self.network.set_grad_checkpointing(True)
        self.pool_by(settings.pool)

    def levels(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return one (B, channels[i], z, y', x') tensor a level of ``images`` (B, C, z, y, x), finest first.

        Raises:
            ConfigError: A size is no multiple of ``size_multiple``, or the channels differ.
        """
        check_input_size(images, in_channels=self.in_channels, size_multiple=self.size_multiple)
        batch, _, depth = images.shape[:3]
        slices = images.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        found = self.network(slices) if not self.settings.tokens else self._tokens(slices)
        return [level.unflatten(0, (batch, depth)).transpose(1, 2) for level in found], None

    def _tokens(self, slices: Tensor) -> list[Tensor]:
        """Return a transformer's normed tokens after the blocks that are taken, each (B * z, C, y', x')."""
        found: list[Tensor] = self.network.forward_intermediates(
            slices, indices=self._taken, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return found

    @property
    def _taken(self) -> list[int]:
        return list(self.settings.features or (len(self.network.blocks) - 1,))


class _Levels:
    """What timm's ``feature_info`` says, of levels that all have the patch as their stride."""

    def __init__(self, count: int, width: int, patch: int) -> None:
        self._channels, self._reduction = [width] * count, [patch] * count

    def channels(self) -> list[int]:
        return self._channels

    def reduction(self) -> list[int]:
        return self._reduction


def _token_levels(network: Any, settings: SliceSettings) -> _Levels:
    """Return the levels of a transformer that are taken: the last block's where none are named.

    Raises:
        IndexError: It has no such block.
    """
    blocks = len(network.blocks)
    if any(number >= blocks for number in settings.features or ()):
        raise IndexError(f"it has {blocks} blocks")
    (height, width) = network.patch_embed.patch_size
    if height != width:
        raise RuntimeError(f"its patches are {height} x {width}")
    return _Levels(len(settings.features or (0,)), network.embed_dim, height)
