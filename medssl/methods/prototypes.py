"""What the methods share whose student follows a slow teacher over prototypes, be their views volumes or clouds.

References:
    Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), ICCV 2021, arXiv:2104.14294;
    Oquab et al., "DINOv2", 2023, arXiv:2304.07193 (Sinkhorn in place of the centre, KoLeo).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.gathering import gathered, mean_of_all, own_of
from medssl.heads import PrototypeHead
from medssl.methods.settings.prototypes import PrototypeSettings
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.koleo import koleo
from medssl.objectives.prototypes import Centre, distillation, sharpened, sinkhorn, warmed_up
from medssl.teacher import EMATeacher

__all__ = ["PrototypeSettings", "assigned", "coupling", "distilled", "prototype_head", "teacher_of"]


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
