"""DirectPred: a predictor that is computed from what it sees, and not trained.

Reference:
    Tian, Chen, Ganguli, "Understanding self-supervised learning dynamics without contrastive pairs", ICML 2021,
    arXiv:2102.06810; facebookresearch/luckmatters 625b5f7.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medssl.gathering import added
from medssl.methods.settings.parts import DirectPredSettings

__all__ = ["DirectPredictor", "direct_weight"]

_LEAST = 1e-4  # of a weight, as in their code


def direct_weight(correlation: Tensor, *, eps: float) -> Tensor:
    """Return the predictor of a correlation matrix.

    With F = U diag(s) U^T it is U diag(p) U^T, p = sqrt(s / max s) + eps.

    Args:
        correlation: F, the mean of f f^T of features that are neither centred nor normed, (D, D).
        eps: What every direction gets beside its share; 0 or more.
    """
    values, vectors = torch.linalg.eigh((correlation.double() + correlation.double().T) / 2)
    values = values.clamp_min(0.0)
    shares = (values / values.max().clamp_min(torch.finfo(torch.float64).tiny)).sqrt() + eps
    weight: Tensor = (vectors * shares.clamp_min(_LEAST)) @ vectors.T
    return weight.float()


class DirectPredictor(nn.Module):
    """A linear predictor without a gradient: the eigenvectors of the features' running correlation, reweighted.

    It is the identity until the first step has ended, where theirs is drawn; the correlation starts as that of the
    first batch, as theirs.

    Args:
        width: D, of the features.
        settings: See `DirectPredSettings`.
    """

    correlation: Tensor
    weight: Tensor
    steps: Tensor

    def __init__(self, width: int, settings: DirectPredSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("correlation", torch.zeros(width, width))
        self.register_buffer("weight", torch.eye(width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._seen: Tensor | None = None  # of the step: the sum of f f^T, and how many features

    def forward(self, features: Tensor) -> Tensor:
        """Return the predictions of features (N, D); in training they are remembered until the step ends."""
        if self.training:
            own = features.detach().float()
            with torch.autocast(own.device.type, enabled=False):
                seen = torch.cat([(own.T @ own).flatten(), own.new_full((1,), len(own))])
            self._seen = seen if self._seen is None else self._seen + seen
        return features @ self.weight.to(features.dtype)

    def after_step(self) -> None:
        """Take in what the step has seen, on all processes, and compute the predictor anew."""
        if self._seen is None:
            return
        seen, self._seen = added(self._seen), None
        batch = seen[:-1].view_as(self.correlation) / seen[-1]
        share = self.settings.rho if bool(self.steps > 0) else 0.0
        self.correlation.copy_(share * self.correlation + (1.0 - share) * batch)
        self.steps += 1
        if int(self.steps) % self.settings.every == 0:
            self.weight.copy_(direct_weight(self.correlation, eps=self.settings.eps))
