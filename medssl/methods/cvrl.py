"""CVRL for volumes: two windows of one patient, some millimetres (or a phase) apart, attract each other.

Reference:
    Qian et al., "Spatiotemporal contrastive video representation learning", CVPR 2021, arXiv:2008.03800.

A clip of a video becomes a window of a scan, and time an axis (z as a rule): two windows lie at a distance in mm whose
density falls linearly to 0 at the largest (``gap_mm``), at one place on the other axes. For series of frames (cine)
``apart: frame`` takes the second window from another frame of the patient, where phases are known at a cyclic distance
drawn likewise (``data.phases``). A window is changed as a whole, by one draw: the paper's temporally consistent
augmentation. Then SimCLR's contrast.

Differs from the authors' code: windows of one patient never repel each other; the loss is the mean over anchors, theirs
the sum over the two clips of their means, twice as much; augmentation is that of volumes; AdamW in place of SGD.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.methods.contract import Losses
from medssl.methods.crop_views import CropViews
from medssl.methods.parts.contract import seeds
from medssl.methods.settings.cvrl import CVRLSettings
from medssl.methods.simclr import SimCLR
from medssl.randomness import Stream
from medssl.views.random_crops import random_crops
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["CVRL", "CVRLSettings"]

_PAIR = 2


class CVRL(SimCLR):
    """Contrast of pairs of windows.

    Args:
        settings: See ``CVRLSettings``.
        encoder: What is pretrained.

    Raises:
        ValueError: If a view does not fit the encoder or the window.
    """

    windows_per_item = _PAIR

    def __init__(self, settings: CVRLSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.pair_settings = settings

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As all methods of crops, along an axis in which a small scan holds two windows."""
        return {**super().smallest(), "crop": (16, 16, 12), "gap_mm": 4.0}

    @property
    def plan(self) -> WindowPlan:
        """Two windows a scan, at a drawn distance."""
        chosen = self.pair_settings
        return WindowPlan(
            size=chosen.window,
            placement="body",
            count=_PAIR,
            relation=chosen.apart,
            axis=chosen.axis,
            gap_mm=chosen.gap_mm,
            gap_power=chosen.gap_power,
        )

    def views(self, batch: WindowBatch, stream: Stream) -> CropViews:
        """Cut and change one view of each window; rows 2 i and 2 i + 1 are a pair, ``item`` that of the first."""
        chosen = self.pair_settings
        crops = random_crops(
            batch, stream, size=chosen.crop, count=1, spatial=chosen.spatial, intensity=chosen.intensity
        )
        item = batch.item[::_PAIR].repeat_interleave(_PAIR)
        own = seeds(stream) if self.draws else None
        return CropViews(crops=crops, local=None, item=item, patient=batch.patient, seeds=own)

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the contrast of all pairs of the batch."""
        return super().forward(_paired(views), progress)

    def pictures(self, views: CropViews) -> dict[str, Tensor]:
        """Return the views of the first pairs, side by side."""
        return super().pictures(_paired(views))

    def probe(self, views: CropViews) -> dict[str, Tensor]:
        """Return how often a window finds the other of its pair, and whether features have collapsed."""
        return super().probe(_paired(views))

    def chance(self, views: CropViews) -> dict[str, Tensor]:
        """Return the share that is found by guessing."""
        return super().chance(_paired(views))


def _paired(views: CropViews) -> CropViews:
    """Return the views with a row a pair."""
    crops = views.crops.view(-1, _PAIR, *views.crops.shape[2:])
    own = None if views.seeds is None else views.seeds[::_PAIR]
    return dataclasses.replace(views, crops=crops, item=views.item[::_PAIR], patient=views.patient[::_PAIR], seeds=own)
