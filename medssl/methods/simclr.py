"""SimCLR: two views of a scan attract each other, views of other patients are pushed away. DCL and DCLW by a setting.

References:
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, arXiv:2002.05709;
    Yeh et al., "Decoupled contrastive learning", ECCV 2022, arXiv:2110.06848, whose gain is largest at the small
    batches that volumes allow.

Differs from the papers: crops of one patient never repel each other; AdamW in place of LARS; the head has three layers,
as in SimCLR v2.
"""

from __future__ import annotations

from medssl.encoders.contract import Encoder
from medssl.gathering import gathered
from medssl.heads import Projection
from medssl.methods.contract import Losses
from medssl.methods.crop_views import CropMethod, CropViews
from medssl.methods.embedder import Embedder, InEmbedder
from medssl.methods.settings.simclr import SimCLRSettings
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.infonce import dclw_weights, info_nce, pairs_of_views, score_statistics

__all__ = ["SimCLR", "SimCLRSettings"]


class SimCLR(InEmbedder, CropMethod):
    """Contrast of the views of a batch.

    Args:
        settings: See ``SimCLRSettings``.
        encoder: What is pretrained.
    """

    coupled = "items are told from those of their own part alone"

    def __init__(self, settings: SimCLRSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        if settings.decoupled == "dclw" and settings.views != 2:
            raise ValueError(f"dclw weighs pairs: it takes two views, not {settings.views}.")
        self.settings = settings
        self.network = Embedder(encoder, Projection(encoder.embedding_dim, settings.hidden, settings.projected))

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the contrast of all views of the batch."""
        chosen = self.settings
        crops = views.crops.transpose(0, 1)
        _, projected = self.network(crops.flatten(0, 1))
        features_VBD = gathered(projected.view(*crops.shape[:2], -1), dim=1)
        pairs = pairs_of_views(features_VBD, gathered(views.item), gathered(views.patient))
        weight = None
        if chosen.decoupled == "dclw":
            weight = dclw_weights(features_VBD[0], features_VBD[1], sigma=chosen.sigma).repeat(2)
        loss = info_nce(
            pairs,
            temperature=chosen.temperature,
            positive_in_denominator=chosen.decoupled == "no",
            positive_weight=weight,
        ).mean()
        signals = {"spread": feature_spread(projected.detach(), over_all=True), **score_statistics(pairs)}
        return Losses(loss, {"contrast": loss.detach()}, signals)
