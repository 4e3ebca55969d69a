"""Settings of `medssl.methods.spark`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medssl.methods.settings.masked_window import MaskedWindowSettings

__all__ = ["SparKSettings", "Triple"]

Triple = tuple[int, int, int]


class SparKSettings(MaskedWindowSettings):
    """Settings of SparK."""

    name: Literal["spark"] = "spark"
    patch: Triple | None = Field(
        None, description="Size of the patches that are hidden, in voxels. None: the encoder's total stride."
    )
    ratio: float = Field(0.6, gt=0, lt=1, description="Share of the patches that are hidden.")
    normalise: bool = Field(True, description="Normalise each patch of the target to mean 0 and deviation 1.")
    decoder: Literal["light", "unet"] = Field(
        "light",
        description="SparK's own light decoder, which is dropped after pretraining; or the U-Net decoder of "
        "segmentation (S3D), which is kept and carried over.",
    )
    projected: Literal["finer", "coarser"] | None = Field(
        None,
        description="Levels that are projected before the decoder by 3x3x3: all 'finer' than the coarsest (SparK), all "
        "'coarser' than the finest (S3D). None: as the decoder's paper has it.",
    )
    width: Annotated[int, Field(ge=8)] | None = Field(
        None, description="Channels of the light decoder at the coarsest level. None: those of the encoder."
    )
