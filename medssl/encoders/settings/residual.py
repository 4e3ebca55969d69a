"""Settings of `medssl.encoders.residual`."""

from __future__ import annotations

from typing import ClassVar, Literal

from medssl.encoders.settings.staged import StagedSettings

__all__ = ["ResidualSettings"]


class ResidualSettings(StagedSettings):
    """A residual encoder. The defaults are nnU-Net's ResEnc-L for 3D: 1, 3, 4, 6, 6, 6 blocks.

    For a CPU or a first try: ``channels: [8, 16, 32, 64]``, ``blocks: 1``.
    """

    name: Literal["residual"] = "residual"
    usual_blocks: ClassVar[tuple[int, ...]] = (1, 3, 4, 6)
