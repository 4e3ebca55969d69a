"""Settings of `medssl.encoders.segres`."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from medssl.encoders.settings.input import POOL_WORDS, Pool
from medssl.encoders.settings.staged import Positive, StagedSettings

__all__ = ["FIXED_WORDS", "SegResSettings"]

FIXED_WORDS = (
    "By what batch norms go in training: 'batch', as random initialization needs; 'fixed', the statistics that the "
    "weights came with, as batches of few windows need."
)


class SegResSettings(StagedSettings):
    """A SegResNet encoder. The defaults are CT-FM's.

    For a CPU or a first try: ``channels: [8, 16, 32]``, ``blocks: 1``, ``norm: group``.
    """

    name: Literal["segres"] = "segres"
    usual_blocks: ClassVar[tuple[int, ...]] = (1, 2, 2, 4)
    pool: Pool = Field(default="mean", description=POOL_WORDS)  # no norm stands behind its last block
    channels: tuple[Positive, ...] = Field(
        default=(32, 64, 128, 256, 512), min_length=1, description="Channels of each stage, finest first."
    )
    norm: Literal["batch", "group"] = Field(default="batch", description="Normalisation before each convolution.")
    groups: Positive = Field(default=8, description="Groups of channels that a group norm takes together.")
    statistics: Literal["batch", "fixed"] = Field(default="batch", description=FIXED_WORDS)
    beyond: tuple[Literal["z", "y", "x"], ...] = Field(
        default=(),
        description="Axes along which strided convolutions see one voxel more after the end and not before the start: "
        "what a network trained on flipped axes is, with its kernels flipped.",
    )

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        wrong = [width for width in self.channels if width % self.groups]
        if self.norm == "group" and wrong:
            raise ValueError(
                f"groups must divide the channels of every stage. Got {self.groups} and {wrong[0]} channels; "
                "take fewer groups, or other channels."
            )
        return self
