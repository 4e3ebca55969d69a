"""What the methods share whose student follows a slow teacher over prototypes, be their views volumes or clouds.

References:
    Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), ICCV 2021, arXiv:2104.14294;
    Oquab et al., "DINOv2", 2023, arXiv:2304.07193 (Sinkhorn in place of the centre, KoLeo).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.gathering import gathered, mean_of_all, own_of
from medssl.heads import PrototypeHead
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.koleo import koleo
from medssl.objectives.prototypes import Centre, distillation, sharpened, sinkhorn, warmed_up
from medssl.settings import Settings
from medssl.teacher import EMATeacher

__all__ = ["PrototypeSettings", "assigned", "coupling", "distilled", "prototype_head", "teacher_of"]


class PrototypeSettings(Settings):
    """The head, the two temperatures, what keeps the teacher from collapsing, and its momentum."""

    prototypes: int = Field(4096, ge=2, description="Prototypes; 65536 in the paper, for a million images.")
    hidden: int = Field(1024, ge=8, description="Width of the head; 2048 in the paper.")
    bottleneck: int = Field(256, ge=4, description="Length of the normalised vector before the prototypes.")
    head_norm: Literal["none", "batch_plain", "layer"] = Field(
        "none",
        description="Norm between the head's layers; DINO has none. 'batch_plain' normalises by the batch at hand, so "
        "that items are told apart from the first step on, however little their embeddings differ yet.",
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


def coupling(settings: PrototypeSettings) -> str:
    """Return what of the loss is among the items of a batch, empty where nothing is; see `Method.coupled`."""
    found = ["Sinkhorn shares prototypes out among the items of a part"] if settings.assign == "sinkhorn" else []
    found += ["KoLeo looks for the nearest item of a part"] if settings.koleo_weight else []
    return "; ".join(found)


def prototype_head(settings: PrototypeSettings, inputs: int) -> PrototypeHead:
    """Return the head for embeddings of length ``inputs``."""
    return PrototypeHead(
        inputs,
        hidden=settings.hidden,
        bottleneck=settings.bottleneck,
        prototypes=settings.prototypes,
        norm=settings.head_norm,
    )


def teacher_of(settings: PrototypeSettings, student: nn.Module, *, train_mode: bool = False) -> EMATeacher:
    """Return the student's teacher."""
    return EMATeacher(
        student, momentum=settings.momentum, final_momentum=settings.final_momentum, train_mode=train_mode
    )


@torch.no_grad()
def assigned(settings: PrototypeSettings, scores_NK: Tensor, centre: Centre, progress: float) -> Tensor:
    """Return the teacher's probabilities of its scores (..., K), and note the scores for the centre."""
    temperature = warmed_up(
        progress,
        start=settings.teacher_temperature,
        end=settings.final_teacher_temperature,
        share=settings.temperature_warmup,
    )
    if settings.assign == "sinkhorn":
        rows = scores_NK.flatten(0, -2)
        return own_of(sinkhorn(gathered(rows), epsilon=temperature), len(rows)).view_as(scores_NK)
    centre.see(scores_NK)
    return sharpened(scores_NK, centre.value, temperature=temperature)


def distilled(
    settings: PrototypeSettings, student_SNK: Tensor, teacher_TNK: Tensor, pooled_TND: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the parts of the loss over whole views, and the signals that tell a collapse.

    Args:
        settings: See ``PrototypeSettings``.
        student_SNK: Scores of the student's views; the first T are those of the teacher.
        teacher_TNK: Probabilities of the teacher.
        pooled_TND: Features of the student's first T views.
    """
    parts = {"distillation": distillation(student_SNK, teacher_TNK, temperature=settings.temperature)}
    if settings.koleo_weight:
        everywhere = gathered(pooled_TND, dim=1)
        parts["koleo"] = settings.koleo_weight * torch.stack([koleo(rows) for rows in everywhere]).mean()
    used = mean_of_all(teacher_TNK, (0, 1))
    signals = {
        "spread": feature_spread(teacher_TNK.flatten(0, 1), over_all=True),
        "teacher_entropy": mean_of_all(-(teacher_TNK * teacher_TNK.clamp(min=1e-12).log()).sum(dim=-1)),
        "prototypes_used": torch.exp(-(used * used.clamp(min=1e-12).log()).sum()),
    }
    return parts, signals
