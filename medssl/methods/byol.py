"""BYOL and SimSiam: predict the features of one view from another, without negatives.

References:
    Grill et al., "Bootstrap your own latent" (BYOL), NeurIPS 2020, arXiv:2006.07733; Chen, He, "Exploring simple
    Siamese representation learning" (SimSiam), CVPR 2021, arXiv:2011.10566.

Differs from the papers: AdamW in place of LARS or SGD; the predictor has the rate of everything else (SimSiam keeps it
constant); the norm at the end of SimSiam's projector has a weight and a bias, which theirs has not. A computed
predictor plugs into BYOL by ``method.parts=directpred``.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from medssl.encoders.contract import Encoder
from medssl.heads import Projection
from medssl.methods.contract import Losses
from medssl.methods.crop_views import CropMethod, CropViews
from medssl.methods.embedder import Embedder, InEmbedder
from medssl.methods.parts.direct_predictor import DirectPredictor
from medssl.methods.settings.byol import BYOLSettings, SimSiamSettings
from medssl.objectives.agreement import cosine_distance
from medssl.objectives.diagnostics import feature_spread
from medssl.teacher import EMATeacher

__all__ = ["BYOL", "BYOLSettings", "SimSiam", "SimSiamSettings"]


class BYOL(CropMethod):
    """A student with a predictor follows a slow teacher, each seeing another view.

    Args:
        settings: See ``BYOLSettings``; takes two views.
        encoder: What is pretrained.
    """

    def __init__(self, settings: BYOLSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder, pairs_only=True)
        width, hidden, projected = encoder.embedding_dim, settings.hidden, settings.projected
        self.student = Embedder(encoder, Projection(width, hidden, projected, layers=2, norm="batch"))
        direct = settings.parts.directpred
        self.predictor: nn.Module = (
            DirectPredictor(projected, direct)
            if direct is not None
            else Projection(projected, hidden, projected, layers=2, norm="batch")
        )
        self.teacher = EMATeacher(
            self.student, momentum=settings.momentum, final_momentum=settings.final_momentum, train_mode=True
        )

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.student.encoder

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the distance of each view's prediction from the teacher's features of the other."""
        both = views.crops[:, :2].transpose(0, 1).flatten(0, 1)
        _, projected = self.student(both)
        first, second = self.predictor(projected).chunk(2)
        target_first, target_second = self.teacher(both)[1].chunk(2)
        loss = cosine_distance(first, target_second) + cosine_distance(second, target_first)
        return Losses(loss, {"distance": loss.detach()}, {"spread": feature_spread(projected.detach(), over_all=True)})

    def after_step(self, progress: float) -> None:
        """Move the teacher; before that a predictor that is computed."""
        if isinstance(self.predictor, DirectPredictor):
            self.predictor.after_step()
        self.teacher.update(self.student, progress)


class SimSiam(InEmbedder, CropMethod):
    """A predictor and a stopped gradient, no teacher.

    Args:
        settings: See ``SimSiamSettings``; takes two views.
        encoder: What is pretrained.
    """

    def __init__(self, settings: SimSiamSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder, pairs_only=True)
        projector = Projection(
            encoder.embedding_dim, settings.hidden, settings.projected, layers=3, norm="batch", last_norm=True
        )
        self.network = Embedder(encoder, projector)
        self.predictor = Projection(settings.projected, settings.bottleneck, settings.projected, layers=2, norm="batch")

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As all methods of crops, with a narrow bottleneck."""
        return {**super().smallest(), "bottleneck": 8}

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the negative cosine of predictions and the other view's features, in [-1, 1]."""
        both = views.crops[:, :2].transpose(0, 1).flatten(0, 1)
        _, projected = self.network(both)
        first, second = self.predictor(projected).chunk(2)
        target_first, target_second = projected.chunk(2)
        distance = cosine_distance(first, target_second) + cosine_distance(second, target_first)
        loss = distance / 4 - 1
        return Losses(
            loss, {"negative_cosine": loss.detach()}, {"spread": feature_spread(projected.detach(), over_all=True)}
        )
