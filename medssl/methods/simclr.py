"""SimCLR: two views of a scan attract each other, views of other patients are pushed away. DCL and DCLW by a setting.

References:
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, arXiv:2002.05709;
    Yeh et al., "Decoupled contrastive learning", ECCV 2022, arXiv:2110.06848, whose gain is largest at the small
    batches that volumes allow.

Differs from the papers: crops of one patient never repel each other; AdamW in place of LARS; the head has three layers,
as in SimCLR v2. Parts of other systems plug in by ``method.parts``; see them with: medssl list parts.
"""

from __future__ import annotations

from medssl.encoders.contract import Encoder
from medssl.methods.batch_contrast import BatchContrast
from medssl.methods.contract import Losses
from medssl.methods.crop_views import CropMethod, CropViews
from medssl.methods.embedder import Embedder, InEmbedder
from medssl.methods.settings.simclr import SimCLRSettings

__all__ = ["SimCLR", "SimCLRSettings"]


class SimCLR(InEmbedder, BatchContrast, CropMethod):
    """Contrast of the views of a batch.

    Args:
        settings: See ``SimCLRSettings``.
        encoder: What is pretrained.
    """

    def __init__(self, settings: SimCLRSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.contrast_by(settings)
        self.settings = settings
        self.network = Embedder(encoder, self.head_of(settings, encoder.embedding_dim))

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the contrast of all views of the batch."""
        crops = views.crops.transpose(0, 1)
        _, projected = self.network(crops.flatten(0, 1))
        return self.contrasted(projected.view(*crops.shape[:2], -1), views.item, views.patient, views.seeds, progress)
