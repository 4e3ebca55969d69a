"""Parts that make other negatives: MoCHi, and feature transformation, which moves positives too.

References:
    Kalantidis et al., "Hard negative mixing for contrastive learning" (MoCHi), NeurIPS 2020, arXiv:2010.01028;
    Zhu et al., "Improving contrastive learning by visualizing feature transformation", ICCV 2021, arXiv:2108.02982,
    and its code, DTennant/CL-Visualizing-Feature-Transformation c53d1be.

Differs from the papers. MoCHi: fewer mixtures, for queues of thousands; negatives of the anchor's own patient are never
mixed; both kinds begin at one share of the run. Feature transformation: each anchor draws its own extrapolation, as an
option of theirs does, where by default one is drawn a step; the interpolation is one a step, as there; a mixture that
holds a feature of the anchor's own patient does not count, the feature by itself stands in.
"""

from __future__ import annotations

import numpy as np
import torch

from medssl.methods.parts.contract import Anchors, Part
from medssl.methods.settings.parts import FeatureMixSettings, MoCHiSettings
from medssl.objectives.infonce import PairSet
from medssl.objectives.mixing import drawn_apart, mixed_negatives, with_hard_mixtures

__all__ = ["FeatureMix", "MoCHi"]


class FeatureMix(Part):
    """Extrapolated positives, interpolated negatives.

    Args:
        settings: See ``FeatureMixSettings``.
    """

    def __init__(self, settings: FeatureMixSettings) -> None:
        super().__init__()
        self.settings = settings

    def change(self, pairs: PairSet, anchors: Anchors, draws: np.random.Generator) -> PairSet:
        """Return the transformed pairs."""
        chosen, device = self.settings, pairs.anchor.device
        if chosen.positive_alpha:
            share = 1 + draws.beta(chosen.positive_alpha, chosen.positive_alpha, len(pairs.anchor))
            pairs = drawn_apart(pairs, torch.from_numpy(share).to(device))
        if chosen.negative_alpha:
            partner = torch.from_numpy(draws.permutation(pairs.negative.shape[0])).to(device)
            pairs = mixed_negatives(pairs, draws.beta(chosen.negative_alpha, chosen.negative_alpha), partner)
        return pairs


class MoCHi(Part):
    """Mixtures of hard negatives.

    Args:
        settings: See ``MoCHiSettings``.
    """

    def __init__(self, settings: MoCHiSettings) -> None:
        super().__init__()
        self.settings = settings

    def change(self, pairs: PairSet, anchors: Anchors, draws: np.random.Generator) -> PairSet:
        """Return the pairs with the mixtures besides."""
        chosen = self.settings
        count = chosen.mixed + chosen.with_anchor
        if not count or anchors.progress < chosen.start:
            return pairs
        drawn = torch.from_numpy(draws.random((3, len(pairs.anchor), count), dtype=np.float32))
        first, second, share = drawn.to(pairs.anchor.device)
        share[:, chosen.mixed :] /= 2
        return with_hard_mixtures(
            pairs,
            hardest=chosen.hardest,
            first_AS=first,
            second_AS=second,
            share_AS=share,
            with_anchor=chosen.with_anchor,
        )
