"""MoCo: contrast with the keys of a slow teacher, held in a queue (v2) or taken from the batch alone (v3).

References:
    He et al., CVPR 2020, arXiv:1911.05722; Chen et al., "Improved baselines with momentum contrastive learning" (v2),
    2020, arXiv:2003.04297; Chen, Xie, He, "An empirical study of training self-supervised vision transformers" (v3),
    ICCV 2021, arXiv:2104.02057.

As published the negatives of v2 are the queue's keys alone (``batch_keys`` adds the batch's own).

Differs from the authors' code: keys of the query's own patient are no negatives; empty places of the queue, random
points there, are none either, so that at the first step the batch's own keys stand in; the queue is in the checkpoint.
Keys need no shuffling, since no encoder here normalises over the batch, and a head that does normalises over all
processes. v3: norms of the heads have no weights; the patches of a transformer are embedded by weights that train,
where theirs stay as they were drawn. v2 is not symmetrised, as published; v3 is, with a predictor and its factor 2 x
temperature. Parts of other
systems plug in by ``method.parts``; see them with: medssl list parts.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.methods.crop_views import CropMethod, CropViews
from medssl.methods.embedder import Embedder
from medssl.methods.momentum_contrast import MomentumContrast
from medssl.methods.settings.moco import MoCoSettings

__all__ = ["MoCo", "MoCoSettings"]


class MoCo(MomentumContrast, CropMethod):
    """Contrast of a student's queries with a teacher's keys.

    Args:
        settings: See ``MoCoSettings``; takes two views.
        encoder: What is pretrained.
    """

    student: Embedder

    def __init__(self, settings: MoCoSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder, pairs_only=True)
        self.settings = settings
        self.contrast_by(settings, Embedder(encoder, self.head_of(settings, encoder.embedding_dim)))

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As all methods of crops, with a short queue."""
        return {**super().smallest(), "queue": 7}

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.student.encoder

    def inputs(self, views: CropViews, which: slice) -> tuple[Tensor, ...]:
        """Return the crops."""
        return (views.crops[:, which].transpose(0, 1).flatten(0, 1),)
