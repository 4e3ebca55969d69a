"""DINO and iBOT: a student follows a slow teacher over prototypes, from small views, and at masked patches.

References:
    Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), ICCV 2021, arXiv:2104.14294;
    Zhou et al., "iBOT: image BERT pre-training with online tokenizer", ICLR 2022, arXiv:2111.07832; Oquab et al.,
    "DINOv2", 2023, arXiv:2304.07193 (Sinkhorn in place of the centre, KoLeo).

Differs from the papers: the centre moves after the step and only in training; masked patches are hidden in the input,
by one learned value, so that any encoder can be trained: patches are the places of its coarsest level. For a
convolutional encoder the features at a hidden place still see what is around it. Class and patch features share one
head, as in iBOT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.heads import PrototypeHead
from medssl.methods.contract import Losses
from medssl.methods.crop_views import CropMethod, CropSettings, CropViews, summed
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.koleo import koleo
from medssl.objectives.prototypes import (
    Centre,
    distillation,
    patch_distillation,
    sharpened,
    sinkhorn,
    warmed_up,
)
from medssl.randomness import Stream
from medssl.teacher import EMATeacher
from medssl.views.masking import sample_patch_mask, to_voxels
from medssl.windows import WindowBatch

__all__ = ["DINO", "IBOT", "DINOSettings", "IBOTSettings", "MaskedCropViews"]

Triple = tuple[int, int, int]


class DINOSettings(CropSettings):
    """Settings of DINO."""

    name: Literal["dino"] = "dino"
    local_views: int = Field(4, ge=0, description="Small views a window, for the student alone.")
    prototypes: int = Field(4096, ge=2, description="Prototypes; 65536 in the paper, for a million images.")
    hidden: int = Field(1024, ge=8, description="Width of the head; 2048 in the paper.")
    bottleneck: int = Field(256, ge=4, description="Length of the normalised vector before the prototypes.")
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


class IBOTSettings(DINOSettings):
    """Settings of iBOT: those of DINO, and the masks."""

    name: Literal["ibot"] = "ibot"  # type: ignore[assignment]
    mask_ratio: float = Field(0.3, gt=0, lt=1, description="Share of the patches that are hidden in a masked view.")
    mask_probability: float = Field(0.5, gt=0, le=1, description="Share of the large views that are masked.")
    patch_weight: float = Field(1.0, ge=0, description="Weight of the loss at masked patches.")


@dataclass(frozen=True)
class MaskedCropViews:
    """Views and, for iBOT, which patches of the large ones are hidden: bool, (B, V, z', y', x')."""

    crops: CropViews
    hidden: Tensor


class _Backbone(nn.Module):
    """An encoder with a head over prototypes for its pooled feature and for each place of its coarsest level."""

    def __init__(self, encoder: Encoder, head: PrototypeHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor, *, frozen: bool = False, places: bool = False) -> dict[str, Tensor]:
        """Return ``pooled`` (N, D), ``scores`` (N, K) and, where asked for, ``places`` (N, L, K)."""
        pyramid = self.encoder(images)
        pooled: Tensor = self.encoder.pool(pyramid)  # type: ignore[operator]
        found = {"pooled": pooled, "scores": self.head(pooled, frozen=frozen)}
        if places:
            coarse = pyramid[-1].flatten(2).transpose(1, 2)
            found["places"] = self.head(coarse.float(), frozen=frozen)
        return found


class DINO(CropMethod):
    """Self-distillation without labels.

    Args:
        settings: See ``DINOSettings``; the teacher sees the large views, the student all.
        encoder: What is pretrained.
    """

    def __init__(self, settings: DINOSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.settings = settings
        head = PrototypeHead(
            encoder.embedding_dim,
            hidden=settings.hidden,
            bottleneck=settings.bottleneck,
            prototypes=settings.prototypes,
        )
        self.student = _Backbone(encoder, head)
        self.teacher = EMATeacher(self.student, momentum=settings.momentum, final_momentum=settings.final_momentum)
        self.centre = Centre(settings.prototypes, momentum=settings.centre_momentum)

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.student.encoder

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the cross-entropy of the student's views with the teacher's."""
        crops = views.crops.transpose(0, 1).flatten(0, 1)
        seen = self.teacher(crops)
        return summed(*self._distil(views, crops, seen, progress)[:2])

    def _distil(
        self, views: CropViews, shown: Tensor, seen: dict[str, Tensor], progress: float, *, places: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Return parts, signals and the student's output on the large views."""
        chosen = self.settings
        batch = views.crops.shape[0]
        frozen = progress < chosen.freeze_prototypes
        large = self.student(shown, frozen=frozen, places=places)
        scores = [large["scores"]]
        if views.local is not None:
            scores.append(self.student(views.local.transpose(0, 1).flatten(0, 1), frozen=frozen)["scores"])
        student_SNK = torch.cat(scores).view(-1, batch, chosen.prototypes)
        teacher_TNK = self._assign(seen["scores"], self.centre, progress).view(chosen.views, batch, -1)
        parts = {"distillation": distillation(student_SNK, teacher_TNK, temperature=chosen.temperature)}
        if chosen.koleo_weight:
            by_view = large["pooled"].view(chosen.views, batch, -1)
            parts["koleo"] = chosen.koleo_weight * torch.stack([koleo(rows) for rows in by_view]).mean()
        used = teacher_TNK.mean(dim=(0, 1))
        signals = {
            "spread": feature_spread(large["pooled"].detach()),
            "teacher_entropy": -(teacher_TNK * teacher_TNK.clamp(min=1e-12).log()).sum(dim=-1).mean(),
            "prototypes_used": torch.exp(-(used * used.clamp(min=1e-12).log()).sum()),
        }
        return parts, signals, large

    @torch.no_grad()
    def _assign(self, scores_NK: Tensor, centre: Centre, progress: float) -> Tensor:
        """Return the teacher's probabilities, and note its scores for the centre."""
        chosen = self.settings
        temperature = warmed_up(
            progress,
            start=chosen.teacher_temperature,
            end=chosen.final_teacher_temperature,
            share=chosen.temperature_warmup,
        )
        if chosen.assign == "sinkhorn":
            flat = scores_NK.flatten(0, -2)
            return sinkhorn(flat, epsilon=temperature).view_as(scores_NK)
        centre.see(scores_NK)
        return sharpened(scores_NK, centre.value, temperature=temperature)

    def after_step(self, progress: float) -> None:
        """Move the teacher and the centre."""
        self.teacher.update(self.student, progress)
        self.centre.move()


class IBOT(DINO):
    """DINO, and the same distillation at the masked patches of the student's large views.

    Args:
        settings: See ``IBOTSettings``.
        encoder: What is pretrained; patches have the size of its coarsest stride.

    Raises:
        ValueError: If the encoder leaves one place only, so that there is nothing to mask.
    """

    def __init__(self, settings: IBOTSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.mask_settings = settings
        self.patch: Triple = encoder.strides[-1]
        if all(c == p for c, p in zip(settings.crop, self.patch, strict=True)):
            raise ValueError(
                f"A view of {settings.crop} is one single patch of the encoder ({self.patch}); iBOT masks some of "
                "several. Take a larger crop or an encoder with a smaller stride."
            )
        self.hidden_value = nn.Parameter(torch.zeros(encoder.in_channels))
        self.patch_centre = Centre(settings.prototypes, momentum=settings.centre_momentum)

    def views(self, batch: WindowBatch, stream: Stream) -> MaskedCropViews:  # type: ignore[override]
        """Cut the views and draw the masks of the large ones."""
        crops = super().views(batch, stream)
        chosen = self.mask_settings
        masks = [
            sample_patch_mask(stream, shape=chosen.crop, patch=self.patch, ratio=chosen.mask_ratio)
            for _ in range(chosen.views)
        ]
        masked = stream.chance(chosen.mask_probability, chosen.views)
        masked[:, 0] |= ~masked.any(dim=1)  # each item has a masked view, so that every step trains what hides patches
        hidden = torch.stack(masks, dim=1) & masked[:, :, None, None, None]
        return MaskedCropViews(crops, hidden.to(crops.crops.device))

    def forward(self, views: MaskedCropViews, progress: float) -> Losses:  # type: ignore[override]
        """Return the loss over whole views and that at masked patches."""
        chosen = self.mask_settings
        crops = views.crops.crops.transpose(0, 1).flatten(0, 1)
        hidden = views.hidden.transpose(0, 1).flatten(0, 1)
        fill = self.hidden_value.view(1, -1, 1, 1, 1).to(crops.dtype)
        shown = torch.where(to_voxels(hidden, self.patch), fill, crops)
        seen = self.teacher(crops, places=True)
        parts, signals, large = self._distil(views.crops, shown, seen, progress, places=True)
        targets = self._assign(seen["places"], self.patch_centre, progress)
        at_patches = patch_distillation(
            large["places"], targets, hidden.flatten(1), temperature=self.settings.temperature
        )
        parts["patches"] = chosen.patch_weight * at_patches
        return summed(parts, signals)

    def after_step(self, progress: float) -> None:
        """Move the teacher and both centres."""
        super().after_step(progress)
        self.patch_centre.move()

    def pictures(self, views: MaskedCropViews) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the views, and the large ones as the student sees them."""
        shown = super().pictures(views.crops)
        crops, hidden = views.crops.crops[:4].flatten(0, 1), views.hidden[:4].flatten(0, 1)
        shown["masked views"] = crops.masked_fill(to_voxels(hidden, self.patch), 0.0).clamp(0, 1)
        return shown

    def probe(self, views: MaskedCropViews) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the measurements of the whole views."""
        return super().probe(views.crops)
