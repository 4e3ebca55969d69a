"""GroCo: an anchor's positives are to be nearer than its nearest negatives, as sorted by a soft network.

Reference:
    Shvetsova et al., "Learning by sorting", ICCV 2023, arXiv:2301.02009, and its code, ninatu/learning_by_sorting
    47c074e. As there the gradient goes through the anchor alone, and negatives are of the anchor's own view.

Differs from the code: where an anchor of the batch has fewer negatives than ``nearest``, all take as many as that one;
crops of one patient are no negatives; AdamW in place of SGD; our head, of three layers without a norm at its end.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from medssl.methods.parts.contract import Anchors, Part
from medssl.methods.settings.parts import GroCoSettings
from medssl.objectives.infonce import PairSet
from medssl.objectives.ordering import group_order

__all__ = ["GroCo"]


class GroCo(Part):
    """Order of groups in place of InfoNCE.

    Args:
        settings: See ``GroCoSettings``.
    """

    def __init__(self, settings: GroCoSettings) -> None:
        super().__init__()
        self.settings = settings

    def losses(self, pairs: PairSet, anchors: Anchors, temperature: float) -> Tensor:
        """Return each anchor's loss; 0 without a gradient for one that has no negatives."""
        attract, repel = replace(pairs, positive=pairs.positive.detach(), negative=pairs.negative.detach()).cosines
        there = pairs.counted > 0
        if anchors.same_view is not None:
            there = there & anchors.same_view
        number = there.sum(dim=1)
        some = number > 0
        if not bool(some.any()):
            return 0.0 * attract.sum(dim=1)
        nearest = min(self.settings.nearest, int(number[some].min()))
        negative = repel.masked_fill(~there, -1.0).topk(nearest, dim=1).values
        with torch.autocast(repel.device.type, enabled=False):
            return group_order(attract, negative, steepness=self.settings.steepness) * some
