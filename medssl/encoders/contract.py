"""What every encoder gives: a feature pyramid, and one pooled embedding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medssl.encoders.blocks import check_input_size
from medssl.encoders.pooling import Pool, Pooling
from medssl.encoders.settings.input import InputSettings
from medssl.errors import ConfigError

__all__ = ["Encoder", "InputSettings", "lay_channels_last"]


class Encoder(nn.Module, ABC):
    """A network from images to a pyramid of features.

    Attributes:
        in_channels: Channels of the input.
        channels: Channels of each level, finest first.
        strides: Cumulative stride of each level as (z, y, x), finest first; the first is (1, 1, 1) where the encoder
            keeps full resolution.
        size_multiple: Input sizes must be multiples of this, (z, y, x).
        pooling: From its features to one vector an image.
        compiles: ``train.compile`` compiles it.
    """

    compiles: ClassVar[bool] = True
    in_channels: int
    channels: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    size_multiple: tuple[int, int, int]
    pooling: Pooling

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Return the settings of its smallest network, beside its name: of tests, and of a first try on a laptop."""
        raise NotImplementedError(f"{cls.__name__} lacks its smallest settings")

    def check_size(self, size: tuple[int, int, int]) -> None:
        """Refuse a size of images, (z, y, x), that ``forward`` would refuse; it computes nothing.

        Raises:
            ConfigError: The size is no multiple of ``size_multiple``, or leaves a single voxel.
        """
        images = torch.empty((1, self.in_channels, *size), device="meta")
        check_input_size(images, in_channels=self.in_channels, size_multiple=self.size_multiple)

    def check_window(self, window: tuple[int, int, int], *, key: str) -> None:
        """Refuse a window of a task, (z, y, x), that ``forward`` would refuse, before anything is trained.

        Args:
            window: The window.
            key: The setting that it is.

        Raises:
            ConfigError: It is no multiple of ``size_multiple``, or leaves a single voxel; the message names one near
                it that fits.
        """
        pairs = list(zip(window, self.size_multiple, strict=True))
        if any(n < m or n % m for n, m in pairs):
            near = tuple(max(m, round(n / m) * m) for n, m in pairs)
            if near == tuple(self.size_multiple):  # a single voxel at the coarsest level, which no norm can take
                near = tuple(m if m == 1 else 2 * m for m in near)
            raise ConfigError(
                f"{key} must be a multiple of {self.size_multiple}, as the encoder needs. Got {window}. Try {near}."
            )
        try:
            self.check_size(window)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None

    @abstractmethod
    def levels(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return the pyramid of images (B, C, z, y, x), and what ``Pooling`` takes beside it."""

    def forward(self, images: Tensor, *, pooled: bool = False) -> Any:
        """Return the pyramid of ``images`` (B, C, z, y, x): one (B, channels[i], ...) tensor a level, finest first.

        Args:
            images: A size that the encoder takes.
            pooled: Whether to return the embedding too: (pyramid, (B, embedding_dim) float32).
        """
        pyramid, before_norm = self.levels(images)
        return (pyramid, self.pooling(pyramid, before_norm)) if pooled else pyramid

    @property
    def embedding_dim(self) -> int:
        """Length of the vector that ``embed`` returns."""
        return self.pooling.dim

    def embed(self, images: Tensor) -> Tensor:
        """Return one float32 vector an image, (B, embedding_dim), pooled as the settings say."""
        vectors: Tensor = self(images, pooled=True)[1]
        return vectors

    def pool_by(self, kind: Pool) -> None:
        """Pool as ``kind`` says from now on; encoders call it once their channels and strides are known."""
        self.pooling = Pooling(kind, self.channels, self.strides)


def lay_channels_last(module: nn.Module) -> None:
    """Lay the kernels of a module's convolutions out channels last, those of volumes and those of slices alike."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.dim() in layouts:
            tensor.data = tensor.data.contiguous(memory_format=layouts[tensor.dim()])
