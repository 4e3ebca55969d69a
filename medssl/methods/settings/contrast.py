"""Settings of `medssl.methods.batch_contrast` and `medssl.methods.momentum_contrast`, whatever the views are of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.methods.settings.parts import WithParts

__all__ = ["BatchContrastSettings", "MomentumContrastSettings"]


class BatchContrastSettings(WithParts):
    """Contrast of the views of a batch."""

    temperature: float = Field(0.1, gt=0, description="Temperature of the contrast.")
    decoupled: Literal["no", "dcl", "dclw"] = Field(
        "no", description="no: NT-Xent; dcl: the positive leaves the denominator; dclw: and hard positives weigh more."
    )
    sigma: float = Field(0.5, gt=0, description="Sharpness of the weights of dclw.")
    hidden: int = Field(512, ge=8, description="Width of the projection head.")
    projected: int = Field(128, ge=8, description="Length of the projected features.")

    @property
    def offers(self) -> frozenset[str]:
        """Negatives of the batch; pairs, where there are two views."""
        pairs = {"two views"} if getattr(self, "views", 2) == 2 else set()
        return frozenset({"contrast", "batch", "head"} | pairs | ({"decoupled"} if self.decoupled != "no" else set()))


class MomentumContrastSettings(WithParts):
    """Contrast of a student's queries with a teacher's keys."""

    version: Literal["v2", "v3"] = Field("v2", description="v2: a queue of keys; v3: the batch's keys and a predictor.")
    temperature: float = Field(0.2, gt=0, description="Temperature of the contrast.")
    queue: int = Field(4096, ge=1, description="Keys in the queue (v2); 65536 in the paper, for a million images.")
    batch_keys: bool = Field(False, description="Whether the batch's own keys are negatives beside the queue's (v2).")
    momentum: float = Field(0.99, ge=0, le=1, description="Momentum of the teacher; .999 in the paper, for long runs.")
    final_momentum: float = Field(0.999, ge=0, le=1, description="Momentum at the end; cosine between the two.")
    hidden: int = Field(512, ge=8, description="Width of the heads.")
    projected: int = Field(128, ge=8, description="Length of the projected features.")
    head_norm: Literal["none", "batch_plain"] = Field(
        "none",
        description="Norm between the head's layers (v2), which has none; v3 always normalises by the batch. Encoders "
        "that normalise each item by itself need 'batch_plain', or all items become one point.",
    )

    @property
    def offers(self) -> frozenset[str]:
        """Two views; a queue (v2), or the keys of the batch (v3)."""
        return frozenset({"contrast", "two views"} | ({"batch", "predictor"} if self.version == "v3" else {"queue"}))
