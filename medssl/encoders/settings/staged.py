"""Settings of `medssl.encoders.staged`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from medssl.encoders.settings.input import POOL_WORDS, InputSettings, Pool
from medssl.encoders.settings.sizes import Triple, as_triples

__all__ = ["Positive", "StagedSettings", "Stride"]

Positive = Annotated[int, Field(ge=1)]


Stride = Positive | tuple[Positive, Positive, Positive]


class StagedSettings(InputSettings):
    """The stages of a convolutional encoder, finest first."""

    usual_blocks: ClassVar[tuple[int, ...]] = (2,)  # where ``blocks`` is unset; the last number goes on

    pool: Pool = Field(default="prenorm", description=POOL_WORDS)  # the mean behind their instance norms hides most
    dims: Literal[2, 3] = Field(
        default=3, description="2 for networks of slices: single numbers in strides and kernels then leave z alone."
    )
    channels: tuple[Positive, ...] = Field(
        default=(32, 64, 128, 256, 320, 320), min_length=1, description="Channels of each stage, finest first."
    )
    blocks: Positive | tuple[Positive, ...] | None = Field(
        default=None, description="Blocks of each stage; one number stands for every stage. None: as nnU-Net has them."
    )
    strides: tuple[Stride, ...] | None = Field(
        default=None,
        description="Stride with which each stage begins, a number or [z,y,x]. None: 1, then 2 for every further "
        "stage. Thick slices want [1,2,2] in the first stages.",
    )
    kernels: Positive | tuple[Stride, ...] = Field(
        default=3, description="Kernel size of each stage, a number or [z,y,x], odd; one number stands for every stage."
    )
    checkpointing: bool = Field(
        default=False, description="Recompute each stage in the backward pass: less memory, about a third more time."
    )

    @model_validator(mode="after")
    def _slices_stay_apart(self) -> Self:
        if self.dims == 2 and any(triple[0] != 1 for triple in (*self.stage_strides, *self.stage_kernels)):
            raise ValueError("With dims: 2 every stride and kernel along z must be 1. Leave dims at 3, or fix these.")
        return self

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        stages = len(self.channels)
        for name in ("blocks", "strides", "kernels"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != stages:
                raise ValueError(
                    f"{name} has {len(value)} entries and channels has {stages}; both count the stages. "
                    f"Give {stages} entries" + ("." if name == "strides" else ", or one number for all stages.")
                )
        even = [kernel for kernel in self.stage_kernels if any(size % 2 == 0 for size in kernel)]
        if even:
            raise ValueError(f"kernels must be odd, so that padding keeps the size. Got {even[0]}.")
        return self

    @property
    def stage_blocks(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        stages = len(self.channels)
        if self.blocks is None:
            return (self.usual_blocks + self.usual_blocks[-1:] * stages)[:stages]
        return (self.blocks,) * stages if isinstance(self.blocks, int) else self.blocks

    @property
    def stage_strides(self) -> tuple[Triple, ...]:
        """Stride of each stage against the one before, (z, y, x)."""
        return self._triples((1, *(2,) * (len(self.channels) - 1)) if self.strides is None else self.strides)

    @property
    def stage_kernels(self) -> tuple[Triple, ...]:
        """Kernel size of each stage, (z, y, x)."""
        return self._triples((self.kernels,) * len(self.channels) if isinstance(self.kernels, int) else self.kernels)

    def _triples(self, values: Sequence[Stride]) -> tuple[Triple, ...]:
        return as_triples([(1, v, v) if self.dims == 2 and isinstance(v, int) else v for v in values])
