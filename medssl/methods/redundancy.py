"""Barlow Twins and VICReg: two views agree, and statistics over the batch keep features from collapsing.

References:
    Zbontar et al., ICML 2021, arXiv:2103.03230; Bardes, Ponce, LeCun, ICLR 2022, arXiv:2105.04906.

Differs from the papers: AdamW in place of LARS; narrower projectors by default (8192 in the papers), since batches of
volumes are small. Several crops of one patient in a batch are counted as independent rows, as in the papers.
"""

from __future__ import annotations

from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.gathering import gathered
from medssl.heads import Projection
from medssl.methods.contract import Losses, summed
from medssl.methods.crop_views import CropMethod, CropViews
from medssl.methods.embedder import Embedder, InEmbedder
from medssl.methods.settings.redundancy import BarlowTwinsSettings, VICRegSettings
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.redundancy import barlow_twins, vicreg

__all__ = ["BarlowTwins", "BarlowTwinsSettings", "VICReg", "VICRegSettings"]


class _Twins(InEmbedder, CropMethod):
    """One network for two views."""

    coupled = "statistics are of a part"

    def __init__(self, settings: BarlowTwinsSettings | VICRegSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder, pairs_only=True)
        head = Projection(encoder.embedding_dim, settings.hidden, settings.projected, layers=3, norm="batch")
        self.network = Embedder(encoder, head)

    def compared(self, views: CropViews) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return what both views came to, (N, projected) each, of all processes; and what tells of a collapse."""
        _, projected = self.network(views.crops.transpose(0, 1).flatten(0, 1))
        first, second = (gathered(view) for view in projected.chunk(2))
        return first, second, {"spread": feature_spread(projected.detach(), over_all=True)}


class BarlowTwins(_Twins):
    """Make the cross-correlation of two views the identity.

    Args:
        settings: See ``BarlowTwinsSettings``; takes two views.
        encoder: What is pretrained.
    """

    def __init__(self, settings: BarlowTwinsSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.settings = settings

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the loss of the cross-correlation."""
        first, second, signals = self.compared(views)
        loss = barlow_twins(first, second, off_diagonal=self.settings.off_diagonal)
        return Losses(loss, {"correlation": loss.detach()}, signals)


class VICReg(_Twins):
    """Invariance, variance and covariance.

    Args:
        settings: See ``VICRegSettings``; takes two views.
        encoder: What is pretrained.
    """

    def __init__(self, settings: VICRegSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.settings = settings

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the sum of the three parts."""
        chosen = self.settings
        first, second, signals = self.compared(views)
        parts = vicreg(
            first, second, invariance=chosen.invariance, variance=chosen.variance, covariance=chosen.covariance
        )
        return summed(parts, signals)
