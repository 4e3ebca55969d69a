"""What the convolutional encoders share: settings of their stages, and the pass through them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.encoders.blocks import Triple, as_triples, check_input_size, cumulative_strides, initialise, run_stage
from medssl.encoders.contract import Encoder, InputSettings
from medssl.encoders.pooling import POOL_WORDS, Pool

__all__ = ["StagedEncoder", "StagedSettings"]

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
            raise ValueError("With dims: 2 every stride and kernel along z must be 1. Leave dims at 3, or mend these.")
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


class StagedEncoder(Encoder):
    """A stem, then stages each of which gives one level of the pyramid.

    Attributes:
        settings: The stages.
        kernels: Kernel size of each level, (z, y, x); a decoder that is to fit nnU-Net takes the same.

    Args:
        settings: The stages.
        stem: What runs before the first stage, at full resolution.
        stages: One module a stage.
    """

    def __init__(self, settings: StagedSettings, *, stem: nn.Module, stages: list[nn.Module]) -> None:
        super().__init__()
        self.settings: StagedSettings = settings
        self.in_channels = settings.input_channels
        self.channels = settings.channels
        self.strides = cumulative_strides(settings.stage_strides)
        self.kernels = settings.stage_kernels
        self.size_multiple = self.strides[-1]
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        initialise(self)
        self.pool_by(settings.pool)

    def levels(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Return one (B, channels[i], z, y, x) tensor a stage of ``images`` (B, C, z, y, x), finest first.

        Raises:
            ConfigError: A size is no multiple of ``size_multiple``, or the channels differ.
        """
        check_input_size(images, in_channels=self.in_channels, size_multiple=self.size_multiple)
        checkpointing = self.settings.checkpointing and self.training
        features = self.stem(images)
        pyramid = []
        before_norm: Tensor | None = None
        for number, stage in enumerate(self.stages, start=1):
            if number == len(self.stages) and self.pooling.kind == "prenorm":
                features, before_norm = run_stage(partial(_last_stage, stage), features, checkpointing=checkpointing)
            else:
                features = run_stage(stage, features, checkpointing=checkpointing)
            pyramid.append(features)
        return pyramid, before_norm


def _last_stage(stage: Any, features: Tensor) -> tuple[Tensor, Tensor]:
    """Run a stage, and keep what enters its last norm."""
    *blocks, last = stage
    for block in blocks:
        features = block(features)
    both: tuple[Tensor, Tensor] = last.with_convolved(features)
    return both
