"""Distillation with contrast: a student follows a slow teacher over prototypes, from many views of a cloud.

References:
    Fu et al., "Distillation with Contrast is All You Need for Self-Supervised Point Cloud Representation Learning"
    (DCGLR), 2022, arXiv:2202.04241, and the code of its successor POS-BERT, since its own was not published;
    Abou Zeid et al., AsymDSD, NeurIPS 2025 (4096 prototypes, warm-up of the teacher's temperature, masked targets,
    KoLeo): settings here, off by default.

loss = distillation + contrast_weight * n_pair + koleo_weight * KoLeo + patch_weight * distillation at hidden patches,
where n_pair asks which cloud of the batch a student's view belongs to (`medssl.objectives.prototypes.n_pair`); with
``contrast: bottleneck`` it is InfoNCE of the vectors before the prototypes, which is ours and takes parts
(``method.parts``; `medssl.methods.parts`). With ``contrast_weight`` 0
it is distillation alone.

Differs from that code: its contrastive branch cannot run (the centre is updated with an argument missing) and its
weight beside the distillation, 0.01, is taken from there; clouds of one patient are no negatives of each other; the
teacher's buffers follow the student's; the centre moves after the step; what hides a patch and where the views come
from is a function of the step and the slot alone; the encoder that is kept is the student's. Its loss is this one
divided by three. Its scores are divided by the student's temperature before the factor of 64, so that they are
multiplied by 640 here. See `pointcloud.views.multi_crop` for the views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medssl.gathering import gathered
from medssl.methods.contract import Losses, summed
from medssl.methods.parts.contract import Anchors, Contrast, seed_of, seeds
from medssl.methods.prototypes import assigned, coupling, distilled, prototype_head, teacher_of
from medssl.objectives.diagnostics import effective_rank
from medssl.objectives.infonce import PairSet, countable
from medssl.objectives.prototypes import Centre, n_pair, patch_distillation
from medssl.randomness import Stream
from pointcloud.batch import CloudBatch
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.transformer import position_mlp
from pointcloud.encoders.vit import Groups, PointViT
from pointcloud.methods.contract import CloudMethod, picture_of, with_tokens
from pointcloud.methods.pair_views import view_chance, view_signals
from pointcloud.methods.settings.point_distil import PointDistilSettings
from pointcloud.views.masks import random_mask
from pointcloud.views.multi_crop import MultiCropViews, multi_crop

__all__ = ["MaskedViews", "PointDistil", "PointDistilSettings"]


@dataclass(frozen=True)
class MaskedViews:
    """``crops``, and what decides which patches of the large ones are hidden: ``keys`` (B, V, T), ``ratio`` (B, V).

    ``seeds`` (B,) where parts of the contrast draw.
    """

    crops: MultiCropViews
    keys: Tensor
    ratio: Tensor
    seeds: Tensor | None = None


class _Backbone(nn.Module):
    """An encoder with a head over prototypes for its embedding and, where patches are hidden, for each patch.

    Patches have the embedding's head where both are as long, as published, and else one of their own.
    """

    def __init__(self, settings: PointDistilSettings, encoder: CloudEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = prototype_head(settings, encoder.embedding_dim)
        self.patch_head = self.position = None
        if settings.patch_weight:
            chosen = with_tokens(encoder, "A masked target").settings
            self.mask_token = nn.Parameter(torch.zeros(1, 1, chosen.width))
            nn.init.trunc_normal_(self.mask_token, std=0.02)
            if encoder.embedding_dim != chosen.width:
                self.patch_head = prototype_head(settings, chosen.width)
            if chosen.positions == "none":  # a hidden patch must say at least where it lies
                self.position = position_mlp(chosen.width)

    def forward(
        self,
        points: Tensor,
        count: Tensor,
        *,
        groups: Groups | None = None,
        hidden: Tensor | None = None,
        frozen: bool = False,
        places: bool = False,
    ) -> dict[str, Tensor]:
        """Return ``pooled`` (N, D), ``bottleneck`` (N, C), ``scores`` (N, K) and, where asked, ``places`` (N, T, K)."""
        if groups is None:
            return self._scored(self.encoder.embed(points, count), frozen=frozen)
        assert isinstance(self.encoder, PointViT)
        patches = self.encoder.patches(points, count, groups)
        tokens = patches.tokens
        if hidden is not None:
            fill = self.mask_token if self.position is None else self.mask_token + self.position(patches.places)
            tokens = torch.where(hidden[..., None], fill.to(tokens.dtype), tokens)
        tokens, pooled = self.encoder.encode(tokens, patches.places, patches.count)
        found = self._scored(pooled, frozen=frozen)
        if places:
            head = self.head if self.patch_head is None else self.patch_head
            found["places"] = head(tokens.float(), frozen=frozen)
        return found

    def _scored(self, pooled: Tensor, *, frozen: bool) -> dict[str, Tensor]:
        bottleneck = self.head.bottleneck(pooled)
        return {"pooled": pooled, "bottleneck": bottleneck, "scores": self.head.scores(bottleneck, frozen=frozen)}


class PointDistil(CloudMethod):
    """Self-distillation of clouds, with contrast and masked targets where they have a weight.

    Args:
        settings: See ``PointDistilSettings``; the teacher sees the large views, the student all.
        encoder: What is pretrained; a ``PointViT`` where patches are hidden.

    Raises:
        ValueError: Patches are to be hidden and the encoder has none.
    """

    coupled = "with contrast_weight, assign=sinkhorn and koleo_weight, clouds are compared with those of their own part"

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Few points, few prototypes, two small views."""
        return {
            "points": 96,
            "prototypes": 32,
            "hidden": 32,
            "bottleneck": 16,
            "momentum": 0.9,
            "small": {"number": 2, "share": (0.2, 0.5)},
            "freeze_prototypes": 0,
            "contrast_weight": 0.1,
        }

    def __init__(self, settings: PointDistilSettings, encoder: CloudEncoder) -> None:
        super().__init__(encoder, settings.points)
        del self.encoder  # it is the student's; named once, so that it is saved once
        self.settings = settings
        self.student = _Backbone(settings, encoder)
        self.teacher = teacher_of(settings, self.student, train_mode=settings.teacher_statistics == "batch")
        self.between = Contrast(settings.parts, temperature=1 / settings.scale)
        self.centre = Centre(settings.prototypes, momentum=settings.centre_momentum)
        self.patch_centre = Centre(settings.prototypes, momentum=settings.centre_momentum)
        found = ["clouds are told from those of their own part alone"] if settings.contrast_weight else []
        found += ["the mean at hidden patches is over a part"] if settings.patch_weight else []
        self.coupled = "; ".join([*found, *filter(None, [coupling(settings)])])
        if settings.patch_weight and not settings.fill:  # filled clouds have as many patches, and no padding
            self.alone = (
                "the head and the targets of patches (method.patch_weight) go over the padding of the clouds at hand, "
                "which differs between processes. Train with one, or with method.fill=true or method.patch_weight=0."
            )

    @property
    def encoder(self) -> CloudEncoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.student.encoder

    def views(self, batch: CloudBatch, stream: Stream) -> MaskedViews:
        """Cut and change the views, and draw the masks of the large ones."""
        chosen = self.settings
        large, small = multi_crop(chosen, batch.network_input(), batch.count, stream)
        number, tokens = chosen.large.number, 1
        if chosen.patch_weight:
            vit = with_tokens(self.encoder, "A masked target").settings
            tokens = -(-chosen.large.length(chosen.points) // vit.points_per_token)
        keys = stream.uniform(number, tokens).to(batch.points.device)
        low, high = chosen.mask_ratio
        ratio = stream.uniform(number, low=low, high=high).to(batch.points.device)
        own = seeds(stream) if chosen.parts.chosen() else None
        return MaskedViews(MultiCropViews(large, small, batch.item, batch.patient), keys, ratio, own)

    def forward(self, views: MaskedViews, progress: float) -> Losses:
        """Return the cross-entropy of the student's views with the teacher's, and what has a weight beside it."""
        chosen, crops = self.settings, views.crops
        batch, masked = len(crops.item), bool(chosen.patch_weight)
        points, count = crops.large.flat()
        groups = self.encoder.groups(points, count) if isinstance(self.encoder, PointViT) else None
        hidden = self._hidden(views, groups) if masked else None
        frozen = progress < chosen.freeze_prototypes

        seen = self.teacher(points, count, groups=groups, places=masked)
        large = self.student(points, count, groups=groups, hidden=hidden, frozen=frozen, places=masked)
        students = [large]
        for kind in crops.small:
            points, count = kind.flat()
            groups = self.encoder.groups(points, count) if isinstance(self.encoder, PointViT) else None
            students.append(self.student(points, count, groups=groups, frozen=frozen))
        student_SNK = torch.cat([each["scores"] for each in students]).view(-1, batch, chosen.prototypes)
        teacher_TNK = assigned(chosen, seen["scores"], self.centre, progress).view(chosen.large.number, batch, -1)

        pooled = large["pooled"].view(chosen.large.number, batch, -1)
        parts, signals = distilled(chosen, student_SNK, teacher_TNK, pooled)
        if chosen.contrast_weight:
            item, patient = gathered(crops.item), gathered(crops.patient)
            counted = countable(item, item, patient, patient)
            if chosen.contrast == "scores":
                contrast = n_pair(
                    gathered(student_SNK, dim=1),
                    gathered(teacher_TNK, dim=1),
                    scale=chosen.scale,
                    counted_NN=counted,
                )
            else:
                student_SND = torch.cat([each["bottleneck"] for each in students]).view(-1, batch, chosen.bottleneck)
                teacher_TND = seen["bottleneck"].view(-1, batch, chosen.bottleneck)
                student_SND, teacher_TND = gathered(student_SND, dim=1), gathered(teacher_TND, dim=1)
                sets = _cross_view(student_SND, teacher_TND, counted)
                seed = seed_of(views.seeds, item.device)
                anchors = Anchors(item=item.repeat(len(student_SND) - 1), seed=seed, progress=progress)
                losses, scores = self.between(sets, anchors)
                contrast, signals = torch.stack([each.mean() for each in losses]).mean(), {**signals, **scores}
            parts["contrast"] = chosen.contrast_weight * contrast
        if hidden is not None:
            targets = assigned(chosen, seen["places"], self.patch_centre, progress)
            at_patches = patch_distillation(large["places"], targets, hidden, temperature=chosen.temperature)
            parts["patches"] = chosen.patch_weight * at_patches
        return summed(parts, {**signals, "effective_rank": effective_rank(gathered(large["pooled"].detach()))})

    def after_step(self, progress: float) -> None:
        """Move the teacher and the centres."""
        self.teacher.update(self.student, progress)
        self.centre.move()
        self.patch_centre.move()

    def pictures(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return the views of the first clouds, each kind in a row."""
        kinds = {"large views": views.crops.large}
        kinds |= {f"small views, {number}": kind for number, kind in enumerate(views.crops.small, 1)}
        return {name: picture_of(kind.points.flatten(0, 1), kind.count.flatten()) for name, kind in kinds.items()}

    def probe(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return how often a large view finds its other by the encoder's features, and whether they have collapsed."""
        return view_signals(self, views.crops.large)

    def chance(self, views: MaskedViews) -> dict[str, Tensor]:
        """Return the share of views whose other view is found by guessing."""
        return view_chance(views.crops.item)

    def _hidden(self, views: MaskedViews, groups: Groups | None) -> Tensor:
        assert groups is not None
        keys, ratio = views.keys.transpose(0, 1).flatten(0, 1), views.ratio.transpose(0, 1).flatten()
        return random_mask(keys, groups.count, ratio)


def _cross_view(student_SND: Tensor, teacher_TND: Tensor, counted_NN: Tensor) -> list[PairSet]:
    """Return, for each view of the teacher, each other view of the student with it, against its views of others."""
    found = []
    for view, teacher_ND in enumerate(teacher_TND):
        others = torch.cat([student_SND[:view], student_SND[view + 1 :]])
        positive = teacher_ND.expand(len(others), -1, -1).flatten(0, 1)[:, None]
        found.append(PairSet(others.flatten(0, 1), positive, teacher_ND, counted_NN.repeat(len(others), 1)))
    return found
