"""Settings of `medssl.methods.prototypes`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings

__all__ = ["PrototypeSettings"]


class PrototypeSettings(Settings):
    """The head, the two temperatures, what keeps the teacher from collapsing, and its momentum."""

    prototypes: int = Field(4096, ge=2, description="Prototypes; 65536 in the paper, for a million images.")
    hidden: int = Field(1024, ge=8, description="Width of the head; 2048 in the paper.")
    bottleneck: int = Field(256, ge=4, description="Length of the normalised vector before the prototypes.")
    head_norm: Literal["none", "batch_plain", "layer"] = Field(
        "none",
        description="Norm between the head's layers; DINO has none. 'batch_plain' normalises by the batch at hand, so "
        "that items are distinguished from the first step on, however little their embeddings differ yet.",
    )
    temperature: float = Field(0.1, gt=0, description="Temperature of the student.")
    teacher_temperature: float = Field(0.04, gt=0, description="Temperature of the teacher at the start.")
    final_teacher_temperature: float = Field(0.07, gt=0, description="Temperature of the teacher after its warm-up.")
    temperature_warmup: float = Field(0.1, ge=0, le=1, description="Share of the run over which it rises.")
    assign: Literal["centre", "sinkhorn"] = Field("centre", description="What keeps the teacher from one prototype.")
    centre_momentum: float = Field(0.9, ge=0, le=1, description="Momentum of the centre.")
    freeze_prototypes: float = Field(0.01, ge=0, le=1, description="Share of the run in which prototypes stand still.")
    momentum: float = Field(0.99, ge=0, le=1, description="Momentum of the teacher at the start; .996 for long runs.")
    final_momentum: float = Field(1.0, ge=0, le=1, description="Momentum at the end; cosine between the two.")
    koleo_weight: float = Field(0.0, ge=0, description="Weight of KoLeo on the student's features; 0.1 in DINOv2.")
