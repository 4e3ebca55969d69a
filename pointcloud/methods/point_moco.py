"""MoCo on clouds: contrast with the keys of a slow teacher, held in a queue (v2) or taken from the batch alone (v3).

References:
    He et al., CVPR 2020, arXiv:1911.05722; Chen et al., "Improved baselines with momentum contrastive learning" (v2),
    2020, arXiv:2003.04297; Chen, Xie, He, "An empirical study of training self-supervised vision transformers" (v3),
    ICCV 2021, arXiv:2104.02057.

The loss, the heads, the queue and the parts are those of `medssl.methods.moco`; views are crops of the cloud, moved as
`pointcloud.views.multi_crop` says. Differs from the papers as that does; they know images alone.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medssl.methods.momentum_contrast import MomentumContrast
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.methods.pair_views import CloudEmbedder, PairMethod, PairViews
from pointcloud.methods.settings.point_contrast import PointMoCoSettings
from pointcloud.views.multi_crop import CloudViews

__all__ = ["PointMoCo", "PointMoCoSettings"]


class PointMoCo(PairMethod, MomentumContrast):
    """Contrast of a student's queries with a teacher's keys, of clouds.

    Args:
        settings: See ``PointMoCoSettings``.
        encoder: What is pretrained.
    """

    student: CloudEmbedder

    def __init__(self, settings: PointMoCoSettings, encoder: CloudEncoder) -> None:
        super().__init__(settings, encoder)
        self.settings = settings
        self.contrast_by(settings, CloudEmbedder(encoder, self.head_of(settings, encoder.embedding_dim)))

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As all methods of pairs, with a short queue."""
        return {**super().smallest(), "queue": 7}

    @property
    def encoder(self) -> CloudEncoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.student.encoder

    def inputs(self, views: PairViews, which: slice) -> tuple[Tensor, ...]:
        """Return points and counts of the views."""
        return CloudViews(views.large.points[:, which], views.large.count[:, which]).flat()
