"""SogCLR and iSogCLR: each item keeps an estimate of its denominator over all items, and its own temperature.

References:
    Yuan et al. (SogCLR), ICML 2022, arXiv:2202.12387; Qiu et al. (iSogCLR), ICML 2023, arXiv:2305.11965; and the code,
    LibAUC 2.0.1 and zhqiu/contrastive-learning-iSogCLR c20903b.

Differs from the code: an item's first visit takes the batch's mean as its estimate, item by item (theirs looks at the
sum over the batch, so that new items among known ones start near 0); an item that is several times in a batch takes the
mean over its anchors; every process moves the state of all items of the whole batch, so that ranks agree; the loss is
the mean over anchors, half of theirs, which adds the two views; all is kept in logarithms and in the checkpoint; crops
of one patient do not repel each other; AdamW in place of LARS.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medssl.methods.parts.contract import Anchors, Part
from medssl.methods.settings.parts import SogCLRSettings
from medssl.objectives.infonce import PairSet
from medssl.objectives.running_contrast import log_mean_negative, running_contrast, temperature_gradient

__all__ = ["SogCLR"]


class SogCLR(Part):
    """A running denominator an item and, where ``individual``, a temperature.

    Attributes:
        log_u: Logarithm of each item's estimate, float32, (items,); -inf before its first visit.
        temperature: Of each item, float32, (items,); 0 before its first visit, which takes the method's.
        slope: Running gradient of each temperature, float32, (items,).

    Args:
        settings: See ``SogCLRSettings``.
    """

    log_u: Tensor
    temperature: Tensor
    slope: Tensor

    def __init__(self, settings: SogCLRSettings) -> None:
        super().__init__()
        self.settings = settings
        self._fresh: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self.begin(0)

    def begin(self, items: int) -> None:
        """Make the state of items that were never seen."""
        self.register_buffer("log_u", torch.full((items,), -math.inf))
        self.register_buffer("temperature", torch.zeros(items))
        self.register_buffer("slope", torch.zeros(items))

    def losses(self, pairs: PairSet, anchors: Anchors, temperature: float) -> Tensor:
        """Return each anchor's loss, and note where the state of its item goes.

        Raises:
            ValueError: Nothing said how many items there are, or an item is none of them.
        """
        if not len(self.log_u):
            raise ValueError("SogCLR keeps state of each item: call the method's begin(items) before its first step.")
        chosen, item = self.settings, anchors.item
        before = self.log_u[item]
        t = torch.full_like(before, temperature)
        if chosen.individual:
            own = self.temperature[item]
            t = torch.where(own > 0, own, t)
        log_g = log_mean_negative(pairs, t)
        keep = math.log1p(-chosen.gamma) if chosen.gamma < 1 else -math.inf
        moved = torch.logaddexp(before + keep, log_g + math.log(chosen.gamma))
        log_u = torch.where(torch.isinf(before), log_g, moved)
        log_u = torch.where(torch.isinf(log_g), before, log_u)  # nothing to learn from where nothing counts
        usable = log_u.nan_to_num(neginf=0.0)
        loss = running_contrast(pairs, t, usable)
        if self.training:
            learnt = ~torch.isinf(log_g)
            slope = temperature_gradient(pairs, t, usable, rho=chosen.rho)
            self._note(item[learnt], log_u[learnt], t[learnt], slope[learnt])
        return loss

    def _note(self, item: Tensor, log_u: Tensor, t: Tensor, slope: Tensor) -> None:
        """Keep for `after_step` what anchors say of their items: the mean where one has several."""
        chosen = self.settings
        known, place = torch.unique(item, return_inverse=True)
        number = torch.zeros(len(known), device=item.device).index_add_(0, place, torch.ones_like(t))

        def mean(values: Tensor) -> Tensor:
            return torch.zeros_like(number).index_add_(0, place, values) / number

        most = torch.full_like(number, -math.inf).scatter_reduce_(0, place, log_u, "amax")
        estimate = most + mean((log_u - most[place]).exp()).log()
        pace = (1 - chosen.beta) * self.slope[known] + chosen.beta * mean(slope)
        now = mean(t)
        if chosen.individual:
            now = (now - chosen.eta * pace).clamp(*chosen.temperatures)
        self._fresh.append((known, estimate, now, pace))

    def after_step(self) -> None:
        """Move the state of the items that the step saw."""
        for known, log_u, temperature, slope in self._fresh:
            self.log_u[known], self.temperature[known], self.slope[known] = log_u, temperature, slope
        self._fresh = []

    def signals(self) -> dict[str, Tensor]:
        """Return how many items were seen and, of these, mean and spread of the temperatures."""
        seen = self.temperature > 0
        number = seen.sum().clamp(min=1)
        mean = self.temperature.sum() / number
        spread = (((self.temperature - mean).square() * seen).sum() / number).sqrt()
        return {"items_seen": seen.float().mean(), "temperature": mean, "temperature_spread": spread}
