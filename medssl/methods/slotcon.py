"""SlotCon: places of two views are grouped by prototypes, alike where both show the same; groups are contrasted.

Reference:
    Wen, Zhao, Zheng, Zhang, Qi, "Self-supervised visual representation learning with semantic grouping" (SlotCon),
    NeurIPS 2022, arXiv:2205.15288.

The student's and the teacher's coarsest map is projected at each place. Cosines with K prototypes say to which group a
place belongs; the teacher has prototypes of its own, which follow the student's. Two losses: where both views show the
same, the student's groups in one are to be the teacher's in the other (with the teacher's centre subtracted); and the
slot that both views have, the mean of a group's features, is to be found among all slots of the other view.

Differs from the authors' code: volumes; views are regions of one shape, resized by one factor (``edge``) in place of
8 to 100 % of an image at random aspect, trilinear, with a change of intensity that both views draw alike (no blur of
the first alone, no solarisation); where ten draws do not overlap, the second view is moved, where theirs may share
nothing; slots of other scans of a patient are no negatives; a view of fewer than two shared slots in a process counts
none of them in the contrast, since the predictor's batch norm has no batch there; AdamW in place of LARS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.gathering import added, gathered, mean_of_all, own_of, processes, ratio
from medssl.heads import gelu_perceptron
from medssl.methods.contract import Losses, Method, summed
from medssl.methods.fitting import Room
from medssl.methods.settings.slotcon import SlotConSettings
from medssl.objectives.diagnostics import effective_rank, feature_spread
from medssl.objectives.infonce import info_nce, score_statistics
from medssl.objectives.prototypes import Centre, distillation, sharpened
from medssl.objectives.slots import grouped, slot_pairs, slots_of, used
from medssl.randomness import Stream
from medssl.teacher import EMATeacher
from medssl.views.overlapping_crops import OverlappingCrops, aligned, overlapping_crops
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["SlotCon", "SlotConSettings", "SlotViews"]


@dataclass(frozen=True)
class SlotViews:
    """Two overlapping views of each window, and whose they are: ``item`` and ``patient``, (B,)."""

    pair: OverlappingCrops
    item: Tensor
    patient: Tensor


class _Grouping(nn.Module):
    """Encoder, projector of places and prototypes."""

    def __init__(self, settings: SlotConSettings, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = gelu_perceptron(
            encoder.channels[-1], settings.hidden, settings.projected, layers=3, norm="batch"
        )
        self.prototypes = nn.Parameter(torch.randn(settings.prototypes, settings.projected))  # as nn.Embedding draws

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of the places (N, D, L) and their cosines (N, K, z', y', x')."""
        coarse = self.encoder(images)[-1]
        places = coarse.flatten(2).transpose(1, 2).flatten(0, 1).float()
        features = self.projector(places).view(len(images), -1, self.prototypes.shape[1]).transpose(1, 2)
        cosines = grouped(features, self.prototypes)
        return features, cosines.view(*cosines.shape[:2], *coarse.shape[2:])


class SlotCon(Method):
    """Semantic grouping.

    Args:
        settings: See ``SlotConSettings``.
        encoder: What is pretrained; views must fit its ``size_multiple``.

    Raises:
        ValueError: If a view does not fit the encoder or the window, or leaves one place alone.
    """

    coupled = "slots are told from those of their own part"

    def __init__(self, settings: SlotConSettings, encoder: Encoder) -> None:
        super().__init__()
        if any(s % m for s, m in zip(settings.crop, encoder.size_multiple, strict=True)):
            raise ValueError(f"crop {settings.crop} must be a multiple of {encoder.size_multiple} (the encoder's).")
        if any(w < s for w, s in zip(settings.window, settings.crop, strict=True)):
            raise ValueError(f"The window {settings.window} is smaller than crop {settings.crop}.")
        if all(c == s for c, s in zip(settings.crop, encoder.strides[-1], strict=True)):
            raise ValueError(
                f"A view of {settings.crop} is one place of the encoder's coarsest level ({encoder.strides[-1]}), and "
                "SlotCon groups several. Take a larger crop or an encoder with a smaller stride."
            )
        self.settings = settings
        self.student = _Grouping(settings, encoder)
        self.teacher = EMATeacher(
            self.student, momentum=settings.momentum, final_momentum=settings.final_momentum, train_mode=True
        )
        self.predictor = gelu_perceptron(
            settings.projected, settings.hidden, settings.projected, layers=3, norm="batch"
        )
        self.centre = Centre(settings.prototypes, momentum=settings.centre_momentum)

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Small views and few prototypes."""
        return {"window": (16, 24, 16), "crop": (12, 16, 12), "hidden": 32, "projected": 16, "prototypes": 8}

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Take views of 0.7 of the window."""
        return {"window": list(room.window), "crop": room.share(0.7)}

    def check(self) -> None:
        """See that the encoder takes views of this size."""
        self.encoder.check_size(self.settings.crop)

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.student.encoder

    @property
    def plan(self) -> WindowPlan:
        """One window a scan, in its body."""
        return WindowPlan(size=self.settings.window, placement="body")

    def views(self, batch: WindowBatch, stream: Stream) -> SlotViews:
        """Cut and change the two views of each window."""
        chosen = self.settings
        pair = overlapping_crops(
            batch,
            stream,
            size=chosen.crop,
            edge=chosen.edge,
            least=chosen.overlap,
            flip=chosen.flip,
            intensity=chosen.intensity,
        )
        return SlotViews(pair, batch.item, batch.patient)

    def forward(self, views: SlotViews, progress: float) -> Losses:
        """Return the distillation of groups and the contrast of slots, both ways."""
        chosen = self.settings
        crops = views.pair.crops.transpose(0, 1).flatten(0, 1)
        features, cosines = self.student(crops)
        taught_features, taught = self.teacher(crops)
        self.centre.see(taught.flatten(2).transpose(1, 2))
        ours, theirs = self._rows(cosines, views), self._rows(taught, views)
        targets = sharpened(theirs, self.centre.value, temperature=chosen.teacher_temperature)
        parts = {"groups": 2 * chosen.group_weight * distillation(ours, targets, temperature=chosen.temperature)}
        contrast, signals = self._contrast(features, cosines, taught_features, taught, views)
        parts["slots"] = (1 - chosen.group_weight) * contrast
        shares = mean_of_all(targets, (0, 1))
        signals["spread"] = feature_spread(targets.flatten(0, 1), over_all=True)
        signals["prototypes_used"] = torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum())
        return summed(parts, signals)

    def _rows(self, cosines: Tensor, views: SlotViews) -> Tensor:
        """Return both views' cosines where both show the same, place by place, (2, B * L, K)."""
        boxes, flips = (given.transpose(0, 1).flatten(0, 1) for given in (views.pair.boxes, views.pair.flips))
        places = aligned(cosines, boxes, flips).flatten(2).transpose(1, 2)
        return places.reshape(2, -1, cosines.shape[1])

    def _contrast(
        self, features: Tensor, cosines: Tensor, taught_features: Tensor, taught: Tensor, views: SlotViews
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the contrast of the slots that both views have, the sum of both ways, and its signals."""
        chosen, batch, number = self.settings, len(views.item), self.settings.prototypes
        maps = [given.flatten(2) for given in (features, cosines, taught_features, taught)]
        own = slots_of(maps[0], maps[1], temperature=chosen.teacher_temperature).view(2, batch * number, -1)
        keys = slots_of(maps[2], maps[3], temperature=chosen.teacher_temperature).view(2, batch * number, -1)
        shown, known = (used(maps[i]).reshape(2, batch * number) for i in (1, 3))
        block = number * self.rows_per_item
        item, patient = (
            gathered(given.repeat_interleave(number), block=block) for given in (views.item, views.patient)
        )
        mine = own_of(
            torch.arange(len(item), device=item.device), batch * number, block=block
        )  # rows among those of all
        losses, signals = [], {}
        shared = torch.zeros((), device=item.device)
        for view in (0, 1):
            both = shown[view] & known[1 - view]
            places = both.nonzero()[:, 0]
            weight = torch.ones(len(places), device=item.device)
            if len(places) < 2:  # a batch norm takes two rows and more; these count nothing
                places = torch.arange(2, device=item.device)
                weight = torch.zeros(2, device=item.device)
            queries = self.predictor(own[view][places])
            every = gathered(keys[1 - view], block=block)
            there = gathered(known[1 - view], block=block)
            pairs = slot_pairs(queries, mine[places], every, there, item, patient)
            loss = info_nce(pairs, temperature=chosen.slot_temperature)
            losses.append(2 * chosen.slot_temperature * ratio((loss * weight).sum(), weight.sum()))
            shared = shared + added(weight.sum())
            if view == 0 and processes() == 1:
                signals = score_statistics(pairs, temperature=chosen.slot_temperature)
            elif view == 0:  # of all processes
                rows, anchors, counts = gathered(queries.detach()), gathered(mine[places]), gathered(weight) > 0
                counts = counts | ~counts.any()
                seen = slot_pairs(rows[counts], anchors[counts], every, there, item, patient)
                signals = score_statistics(seen, temperature=chosen.slot_temperature)
        signals["slots_shared"] = shared / (2 * len(item) / number)
        return torch.stack(losses).sum(), signals

    def after_step(self, progress: float) -> None:
        """Move the teacher and the centre."""
        self.teacher.update(self.student, progress)
        self.centre.move()

    def pictures(self, views: SlotViews) -> dict[str, Tensor]:
        """Return the views of the first scans, and the group of each place in a shade of its own over them."""
        crops = views.pair.crops[:4].flatten(0, 1)
        training = self.training
        self.eval()  # running statistics stay as they are
        with torch.no_grad():
            nearest = self.student(crops)[1].argmax(dim=1)
        self.train(training)
        _, shades = torch.unique(nearest, return_inverse=True)
        shade = (shades + 1) / (shades.max() + 1)
        drawn = torch.nn.functional.interpolate(shade[:, None].float(), size=crops.shape[2:], mode="nearest")
        shown = self.displayed(crops)
        return {"views": shown, "groups": (0.5 * shown + 0.5 * drawn).clamp(0, 1)}

    def probe(self, views: SlotViews) -> dict[str, Tensor]:
        """Return on held-out scans how often both views put a place into one group, and whether features collapsed."""
        first, second = self._groups(views)
        pooled = self.encoder.embed(views.pair.crops.transpose(0, 1).flatten(0, 1))
        return {"group_agreement": (first == second).float().mean(), "effective_rank": effective_rank(pooled)}

    def chance(self, views: SlotViews) -> dict[str, Tensor]:
        """Return how often groups of these sizes agree that have nothing to do with each other."""
        shares = [
            torch.bincount(groups, minlength=self.settings.prototypes).float() / len(groups)
            for groups in self._groups(views)
        ]
        return {"group_agreement": (shares[0] * shares[1]).sum()}

    @torch.no_grad()
    def _groups(self, views: SlotViews) -> tuple[Tensor, Tensor]:
        """Return the group of each place that both views show, in one view and in the other."""
        cosines = self.student(views.pair.crops.transpose(0, 1).flatten(0, 1))[1]
        first, second = self._rows(cosines, views).argmax(dim=2)
        return first, second
