"""DINO and iBOT: a student follows a slow teacher over prototypes, from small views, and at masked patches.

References:
    Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), ICCV 2021, arXiv:2104.14294;
    Zhou et al., "iBOT: image BERT pre-training with online tokenizer", ICLR 2022, arXiv:2111.07832; Oquab et al.,
    "DINOv2", 2023, arXiv:2304.07193 (Sinkhorn in place of the centre, KoLeo).

Differs from the papers: the centre moves after the step and only in training; masked patches are hidden in the input,
by one learned value, so that any encoder can be trained: patches are the places of its coarsest level. For a
convolutional encoder the features at a hidden place still see what is around it. Class and patch features share one
head, as in iBOT. Views keep the scan's voxel size, where the papers cut boxes of 40 to 100 % (small ones 5 to 40 %) and
resize them: a photograph has no scale, a scan has one in mm; ``spatial.scale`` zooms a little. iBOT masks blocks, as
published (on three axes), a share of ``mask_ratio`` +- ``mask_spread`` in half of the large views, and its loss at
patches is a mean over all large views, masked or not. Our presets put batch norms into the head (``head_norm``; an
option of the authors' code): features of encoders with instance norms differ by so little beside what all share that
the teacher otherwise gives every item the same, even, probabilities within 100 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.heads import PrototypeHead
from medssl.methods.contract import Losses, summed
from medssl.methods.crop_views import CropMethod, CropViews
from medssl.methods.fitting import Room
from medssl.methods.prototypes import assigned, coupling, distilled, prototype_head, teacher_of
from medssl.methods.settings.dino import DINOSettings, IBOTSettings
from medssl.objectives.prototypes import Centre, patch_distillation
from medssl.randomness import Stream
from medssl.views.masking import sample_block_mask, sample_patch_mask, to_voxels
from medssl.windows import WindowBatch

__all__ = ["DINO", "IBOT", "DINOSettings", "IBOTSettings", "MaskedCropViews"]

Triple = tuple[int, int, int]


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
        pyramid, pooled = self.encoder(images, pooled=True)
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

    coupled = "with assign=sinkhorn and with koleo_weight, items are compared with those of their own part"

    def __init__(self, settings: DINOSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.settings = settings
        self.student = _Backbone(encoder, prototype_head(settings, encoder.embedding_dim))
        self.teacher = teacher_of(settings, self.student)
        self.centre = Centre(settings.prototypes, momentum=settings.centre_momentum)
        self.coupled = coupling(settings)

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Small crops and few prototypes beside two crops."""
        return {
            "window": (16, 24, 16),
            "crop": (12, 16, 12),
            "local_crop": (8, 8, 8),
            "local_views": 2,
            "hidden": 32,
            "bottleneck": 16,
            "prototypes": 12,
            "freeze_prototypes": 0,
        }

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Take crops of 0.7 of the window, and small ones of 0.4."""
        return {**super().fit(room), "local_crop": room.share(0.4)}

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
        teacher_TNK = assigned(chosen, seen["scores"], self.centre, progress).view(chosen.views, batch, -1)
        pooled = large["pooled"].view(chosen.views, batch, -1)
        return *distilled(chosen, student_SNK, teacher_TNK, pooled), large

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

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As DINO's, and every large view is masked."""
        return {**super().smallest(), "mask_probability": 1.0}

    def __init__(self, settings: IBOTSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        if encoder.embedding_dim != encoder.channels[-1]:
            raise ValueError(
                f"iBOT's head takes images and places alike, so that both need the {encoder.channels[-1]} features of "
                f"the coarsest level; with encoder.pool={encoder.pooling.kind} an image has {encoder.embedding_dim}. "
                "Set encoder.pool to mean, prenorm or attention."
            )
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
        low, high = chosen.mask_ratio - chosen.mask_spread, chosen.mask_ratio + chosen.mask_spread
        masks = [
            sample_block_mask(stream, shape=chosen.crop, patch=self.patch, share=(low, high))
            if chosen.mask == "block"
            else sample_patch_mask(stream, shape=chosen.crop, patch=self.patch, ratio=chosen.mask_ratio)
            for _ in range(chosen.views)
        ]
        masked = stream.chance(chosen.mask_probability, chosen.views)
        if chosen.patch_mean == "masked":  # each item has a masked view, or its mean would be of nothing
            masked[:, 0] |= ~masked.any(dim=1)
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
        targets = assigned(self.settings, seen["places"], self.patch_centre, progress)
        at_patches = patch_distillation(
            large["places"], targets, hidden.flatten(1), temperature=chosen.temperature, over=chosen.patch_mean
        )
        parts["patches"] = chosen.patch_weight * at_patches
        return summed(parts, signals)

    def counted(self, views: MaskedCropViews) -> dict[str, Tensor]:
        """Return how many large views have a masked patch, where the loss at patches is their mean."""
        if self.mask_settings.patch_mean == "all":
            return {}
        return {"patches": views.hidden.flatten(2).any(dim=2).sum()}

    def after_step(self, progress: float) -> None:
        """Move the teacher and both centres."""
        super().after_step(progress)
        self.patch_centre.move()

    def pictures(self, views: MaskedCropViews) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the views, and the large ones as the student sees them."""
        shown = super().pictures(views.crops)
        crops, hidden = views.crops.crops[:4].flatten(0, 1), views.hidden[:4].flatten(0, 1)
        shown["masked views"] = self.displayed(crops.masked_fill(to_voxels(hidden, self.patch), 0.0))
        return shown

    def probe(self, views: MaskedCropViews) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the measurements of the whole views."""
        return super().probe(views.crops)

    def chance(self, views: MaskedCropViews) -> dict[str, Tensor]:  # type: ignore[override]
        """Return what guessing is worth on the whole views."""
        return super().chance(views.crops)
