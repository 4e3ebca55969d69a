"""Point-JEPA: from the features of one stretch of a cloud's patches, foretell a teacher's features of others.

Reference:
    Saito et al., "Point-JEPA: a joint embedding predictive architecture for self-supervised learning on point cloud",
    WACV 2025, arXiv:2404.16432, and the authors' code. Patches are put in a row from near to near; targets are
    stretches of that row, the context a stretch of what is left. No negatives, nothing is drawn again.

Differs from the authors' code: ratios and stretches are drawn for each cloud, not once a batch; clouds of one batch may
have different numbers of patches; where targets leave nothing, the first patch of the row is the context and no target
(the code then takes a patch that is also a target); the momentum rises along half a cosine to the end of the run, not
linearly (to its end in the released configuration, over 200 passes by default); no dropout (there 0.1, and 0.05 of
attention), and no blocks of the predictor are left out (there 0.25); clouds are stretched by up to 1.25, evenly in the
logarithm, and not put into the unit sphere again (there 0.8 to 1.2, before that).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.gathering import mean_of_all, processes
from medssl.methods.contract import Losses
from medssl.objectives.diagnostics import feature_spread
from medssl.randomness import Stream
from medssl.teacher import EMATeacher
from pointcloud.batch import CloudBatch, inside
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.patches import to_points
from pointcloud.encoders.transformer import Transformer, position_mlp
from pointcloud.encoders.vit import Patches, PointViT
from pointcloud.methods.contract import CloudMethod, picture_of, with_tokens
from pointcloud.methods.settings.point_jepa import PointJEPASettings
from pointcloud.views.masks import Chosen
from pointcloud.views.orders import nearest_order, stretch
from pointcloud.views.spatial import apply_spatial, sample_spatial

__all__ = ["PointJEPA", "PointJEPASettings", "PointJEPAViews"]


@dataclass(frozen=True)
class PointJEPAViews:
    """Augmented clouds, and the draws of what is foretold from what.

    Attributes:
        points: (B, N, 3).
        count: (B,).
        target_share: (B, 1), of the patches.
        context_share: (B, 1), of those left.
        starts: (B, targets + 1), in [0, 1): where the stretches begin; the context's last.
    """

    points: Tensor
    count: Tensor
    target_share: Tensor
    context_share: Tensor
    starts: Tensor


class PointJEPA(CloudMethod):
    """Foretell features of patches from features of other patches.

    Args:
        settings: See ``PointJEPASettings``.
        encoder: What is pretrained: a ``PointViT`` with positions.

    Raises:
        ValueError: The encoder has no tokens, or is not told where they lie.
    """

    coupled = "the mean is over the foretold patches of a part"

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Few points, one block of a predictor."""
        return {
            "points": 96,
            "predictor_width": 16,
            "predictor_depth": 1,
            "predictor_heads": 2,
            "momentum": 0.9,
        }

    def __init__(self, settings: PointJEPASettings, encoder: CloudEncoder) -> None:
        super().__init__(encoder, settings.points)
        self.settings = settings
        vit = with_tokens(encoder, "Point-JEPA")
        if vit.position is None:
            raise ValueError("Point-JEPA foretells patches by where they lie: set the encoder's positions to 'every'.")
        # As in the authors' code, tokens and positions are the student's own; only the blocks have a teacher.
        self.teacher = EMATeacher(vit.blocks, momentum=settings.momentum, final_momentum=settings.final_momentum)
        width = settings.predictor_width
        self.enter, self.leave = nn.Linear(vit.settings.width, width), nn.Linear(width, vit.settings.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = position_mlp(width)
        self.predictor = Transformer(width, settings.predictor_depth, settings.predictor_heads, every=False)

    def views(self, batch: CloudBatch, stream: Stream) -> PointJEPAViews:
        """Augment each cloud and draw its stretches."""
        chosen = self.settings
        spatial = sample_spatial(chosen.spatial, stream, length=chosen.points)
        points, count = apply_spatial(batch.network_input(), batch.count, spatial)
        drawn = [
            stream.uniform(1, low=chosen.target_ratio[0], high=chosen.target_ratio[1]),
            stream.uniform(1, low=chosen.context_ratio[0], high=chosen.context_ratio[1]),
            stream.uniform(chosen.targets + 1),
        ]
        return PointJEPAViews(points, count, *(values.to(points.device) for values in drawn))

    def forward(self, views: PointJEPAViews, progress: float) -> Losses:
        """Return the smooth absolute difference of foretold and true features."""
        error, signals = self._foretell(views)
        return Losses(error, {"prediction": error.detach()}, signals)

    def after_step(self, progress: float) -> None:
        """Move the teacher."""
        self.teacher.update(self._vit().blocks, progress)

    def pictures(self, views: PointJEPAViews) -> dict[str, Tensor]:
        """Return the clouds with the context bright, and with the targets bright."""
        patches = self._vit().patches(views.points, views.count)
        targets, context = self._stretches(patches, views)
        kinds = {"cloud, context bright": context, "cloud, what is foretold bright": targets.any(dim=1)}
        return {
            name: picture_of(views.points, views.count, to_points(kind, patches.members, views.points.shape[1]))
            for name, kind in kinds.items()
        }

    def probe(self, views: PointJEPAViews) -> dict[str, Tensor]:
        """Return the error on clouds that are not trained on, and whether features have collapsed."""
        error, signals = self._foretell(views)
        return {"prediction": error, **signals, **self.health(self.encoder.embed(views.points, views.count))}

    def _vit(self) -> PointViT:
        return with_tokens(self.encoder, "Point-JEPA")

    def _foretell(self, views: PointJEPAViews) -> tuple[Tensor, dict[str, Tensor]]:
        vit, settings = self._vit(), self.settings
        patches = vit.patches(views.points, views.count)
        targets, context = self._stretches(patches, views)
        with torch.no_grad():
            wanted = F.layer_norm(self._targets(vit, patches).float(), (vit.settings.width,))

        shown = Chosen(context)
        places = shown.of(patches.places)
        seen, embedding = vit.encode(shown.of(patches.tokens), places, shown.count)
        each = Chosen(targets.flatten(0, 1))  # every stretch for itself
        known = self.enter(seen).repeat_interleave(settings.targets, dim=0)
        asked = each.of(patches.places.repeat_interleave(settings.targets, dim=0))
        tokens = torch.cat([known, self.mask_token.expand(*asked.shape[:2], -1).to(known.dtype)], dim=1)
        where = torch.cat([places.repeat_interleave(settings.targets, dim=0), asked], dim=1)
        there = torch.cat([shown.there.repeat_interleave(settings.targets, dim=0), each.there], dim=1)
        told = self.leave(self.predictor(tokens, there, self.position(where))[:, known.shape[1] :])

        truth = each.of(wanted.repeat_interleave(settings.targets, dim=0))[each.there]
        told = told.float()[each.there]
        some = len(told) > 0 or processes() > 1  # several take the same steps, whatever each holds
        each_error = F.smooth_l1_loss(told, truth, beta=settings.beta, reduction="none")
        error = (mean_of_all(each_error) if some else told.sum()) + (0.0 if len(told) else seen.sum() * 0.0)
        signals = {
            **self.health(embedding),
            "prediction_spread": feature_spread(told.detach(), over_all=True) if some else error.detach(),
            "target_spread": feature_spread(truth, over_all=True) if some else error.detach(),
        }
        return error, signals

    def _targets(self, vit: PointViT, patches: Patches) -> Tensor:
        """Return the teacher's tokens after its last block, before the last norm, (B, T, width)."""
        tokens, there, positions = vit.tokens_in(patches.tokens, patches.places, patches.count)
        blocks = self.teacher.module
        assert isinstance(blocks, Transformer)
        seen = blocks.before_norm(tokens, there, positions)
        return seen[:, seen.shape[1] - patches.tokens.shape[1] :]

    def _stretches(self, patches: Patches, views: PointJEPAViews) -> tuple[Tensor, Tensor]:
        """Return which patches are targets, bool, (B, targets, T), and which are the context, bool, (B, T)."""
        count, size = patches.count, patches.places.shape[1]
        order = nearest_order(patches.places, count)
        number = (views.target_share * count[:, None]).long().clamp_min(1)
        in_row = stretch(views.starts[:, :-1], number, count[:, None], size)
        left = inside(count, size) & ~in_row.any(dim=1)
        alone = ~left.any(dim=1)
        left[alone, 0] = True
        in_row[alone, :, 0] = False
        # Which of those left, by their rank among them, make one stretch of what is left.
        free = left.sum(dim=1)
        some = (views.context_share[:, 0] * free).long().clamp_min(1)
        ranks = stretch(views.starts[:, -1], some, free, size)
        context = left & ranks.gather(1, (left.cumsum(dim=1) - 1).clamp_min(0))
        back = order.argsort(dim=1)
        return in_row.gather(2, back[:, None].expand_as(in_row)), context.gather(1, back)
