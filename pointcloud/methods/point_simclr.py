"""SimCLR on clouds: views of a cloud attract each other, those of others are pushed away. DCL and DCLW by a setting.

References:
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, arXiv:2002.05709;
    Yeh et al., "Decoupled contrastive learning", ECCV 2022, arXiv:2110.06848.

The loss, its head and its parts are those of `medssl.methods.simclr`; views are crops of the cloud, moved as
`pointcloud.views.multi_crop` says. Differs from the papers as that does; they know images alone.
"""

from __future__ import annotations

from dataclasses import replace

from medssl.methods.batch_contrast import BatchContrast
from medssl.methods.contract import Losses
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.methods.pair_views import CloudEmbedder, PairMethod, PairViews
from pointcloud.methods.settings.point_contrast import PointSimCLRSettings

__all__ = ["PointSimCLR", "PointSimCLRSettings"]


class PointSimCLR(BatchContrast, PairMethod):
    """Contrast of the views of a batch of clouds.

    Args:
        settings: See ``PointSimCLRSettings``.
        encoder: What is pretrained.
    """

    def __init__(self, settings: PointSimCLRSettings, encoder: CloudEncoder) -> None:
        super().__init__(settings, encoder)
        self.contrast_by(settings)
        self.settings = settings
        self.network = CloudEmbedder(encoder, self.head_of(settings, encoder.embedding_dim))

    @property
    def encoder(self) -> CloudEncoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.network.encoder

    def forward(self, views: PairViews, progress: float) -> Losses:
        """Return the contrast of all views of the batch."""
        pooled, projected = self.network(*views.large.flat())
        by_view = projected.view(2, len(views.item), -1)
        losses = self.contrasted(by_view, views.item, views.patient, views.seeds, progress)
        return replace(losses, signals=losses.signals | self.watched(pooled))
