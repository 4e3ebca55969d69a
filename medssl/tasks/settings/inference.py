"""Settings of `medssl.tasks.inference`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings

__all__ = ["InferenceSettings"]


class InferenceSettings(Settings):
    """How whole scans are segmented."""

    overlap: float = Field(default=0.5, ge=0, lt=1, description="Share of a window that its neighbour covers too.")
    steps: Literal["fixed", "even"] = Field(
        default="fixed",
        description="Where windows lie: 'fixed' puts all but the last one step apart, as MONAI does, 'even' spreads "
        "them evenly, weighs them and sums in half precision as nnU-Net does, and logits, not probabilities, go back "
        "to the scan's grid.",
    )
    batch_size: int = Field(default=2, ge=1, description="Windows that go through the network at once.")
    mirror: tuple[Literal["z", "y", "x"], ...] = Field(
        default=(), description="Axes to mirror for averaging; x swaps left and right, which structures may not bear."
    )
