"""Small networks between an encoder's embedding and an objective."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.gathering import number_of_all

__all__ = ["AttentionPooling", "FixedReweighting", "Projection", "PrototypeHead", "gelu_perceptron", "standardised"]

Norm = Literal["batch", "batch_plain", "layer", "none"]


class Projection(nn.Module):
    """A multi-layer perceptron with normalisation and ReLU between its layers.

    Args:
        inputs: Length of the embedding.
        hidden: Width of the hidden layers.
        outputs: Length of the result.
        layers: Linear layers, at least 1.
        norm: "batch"; "batch_plain" has no affine part and no running statistics (VoCo's), so it always normalises by
            the batch at hand; "layer"; or "none".
        last_norm: Whether the result is normalised too, without ReLU.
        bias: Whether layers without a norm have biases.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        layers: int = 3,
        norm: Norm = "batch_plain",
        last_norm: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        widths = [inputs, *([hidden] * (layers - 1)), outputs]
        parts: list[nn.Module] = []
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            last = number == layers - 1
            normed = norm != "none" and (not last or last_norm)
            parts.append(nn.Linear(before, after, bias=bias and not normed))
            if normed:
                parts.append(_norm(norm, after))
            if not last:
                parts.append(nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*parts)

    def forward(self, embedding: Tensor) -> Tensor:
        """Return the projection of (N, inputs), (N, outputs)."""
        projected: Tensor = self.layers(embedding)
        return projected


class FixedReweighting(nn.Module):
    """A head without weights: feature i of the embedding, from 0 on, is divided by kappa to the power i.

    Args:
        width: Length of the embedding and of the result.
        kappa: 1 or above; 1 is the identity. The sum of the weights' squares, squared, over that of their fourth powers
            says how many features count: about 100, 20 and 10 at 1.01, 1.05 and 1.1.

    Reference:
        Xue, Gan, Ni, Joshi, Mirzasoleiman, "Investigating the benefits of projection head for representation learning",
        ICLR 2024, arXiv:2403.11391. Their kappa is chosen for each task and not known to us; the default is ours.
    """

    weight: Tensor

    def __init__(self, width: int, *, kappa: float) -> None:
        super().__init__()
        powers = torch.arange(width, dtype=torch.float64) * -math.log(kappa)
        self.register_buffer("weight", powers.exp().float(), persistent=False)  # a setting, no state

    def forward(self, embedding: Tensor) -> Tensor:
        """Return the reweighted embedding, (N, width)."""
        return embedding * self.weight


def gelu_perceptron(inputs: int, hidden: int, outputs: int, *, layers: int = 3, norm: Norm = "none") -> nn.Sequential:
    """Return DINO's perceptron: GELU between linear layers, weights from a truncated normal of 0.02, biases 0.

    Args:
        inputs: Length of the embedding.
        hidden: Width of the hidden layers.
        outputs: Length of the result.
        layers: Linear layers, at least 1.
        norm: Between a linear layer and its GELU, as of `Projection`.
    """
    widths = [inputs, *([hidden] * (layers - 1)), outputs]
    parts: list[nn.Module] = []
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        parts.append(nn.Linear(before, after))
        if number < layers - 1:
            parts += [nn.GELU()] if norm == "none" else [_norm(norm, after), nn.GELU()]
    for module in parts:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return nn.Sequential(*parts)


class PrototypeHead(nn.Module):
    """DINO's head: a perceptron to a normalised bottleneck, and its cosines with prototypes of length 1.

    Where the authors' code cancels the gradients of the last layer during the first epoch, the caller says ``frozen``:
    then the prototypes get a gradient of zero (not none, so that data-parallel training goes on).

    Args:
        inputs: Length of the embedding.
        hidden: Width of the hidden layers.
        bottleneck: Length of the normalised vector.
        prototypes: K.
        layers: Linear layers before the prototypes.
        norm: As of `Projection`; DINO uses none.

    Reference:
        Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021, arXiv:2104.14294,
        section 3.2 and the code beside it (``weight_g`` fixed at 1, GELU, truncated normal 0.02).
    """

    def __init__(
        self,
        inputs: int,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        prototypes: int = 65536,
        layers: int = 3,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.perceptron = gelu_perceptron(inputs, hidden, bottleneck, layers=layers, norm=norm)
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def bottleneck(self, embedding: Tensor) -> Tensor:
        """Return the normalised bottleneck of (..., inputs), (..., bottleneck), float32."""
        return F.normalize(self.perceptron(embedding).float(), dim=-1)

    def scores(self, bottleneck: Tensor, *, frozen: bool = False) -> Tensor:
        """Return the cosines of normalised vectors with the prototypes, (..., K), float32."""
        weight = self.prototypes.detach() + 0.0 * self.prototypes if frozen else self.prototypes
        with torch.autocast(bottleneck.device.type, enabled=False):
            return F.linear(bottleneck.float(), F.normalize(weight.float(), dim=-1))

    def forward(self, embedding: Tensor, *, frozen: bool = False) -> Tensor:
        """Return the scores of embeddings, (..., inputs) to (..., K)."""
        return self.scores(self.bottleneck(embedding), frozen=frozen)


class AttentionPooling(nn.Module):
    """Gated attention over the instances of a bag: one embedding a bag, and how much each instance gave to it.

    a_k = softmax_k(w (tanh(V h_k) * sigmoid(U h_k))), z = sum_k a_k h_k, equations 7 to 9 of the paper; V and U have
    biases, as in the authors' code.

    Args:
        inputs: Length of an instance's embedding.
        hidden: Width of V and U.

    Reference:
        Ilse, Tomczak, Welling, "Attention-based deep multiple instance learning", ICML 2018, arXiv:1802.04712.
    """

    def __init__(self, inputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.value = nn.Linear(inputs, hidden)
        self.gate = nn.Linear(inputs, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)  # a bias would cancel in the softmax

    def forward(self, instances_BKD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bags' embeddings (B, D) and the weights (B, K), which sum to 1 in each bag."""
        gated = torch.tanh(self.value(instances_BKD)) * torch.sigmoid(self.gate(instances_BKD))
        weights = torch.softmax(self.score(gated).squeeze(-1), dim=1)
        return (weights[:, :, None] * instances_BKD).sum(dim=1), weights


def standardised(norm: nn.Module, rows: Tensor) -> Tensor:
    """Return features through a batch norm; a single row has no spread, so there the running statistics serve.

    Rows are counted over all processes, since the norm is over all of them.

    Args:
        norm: An `nn.BatchNorm1d` without weights, or what it became for several processes.
        rows: float32, (N, D).
    """
    normed: Tensor
    if norm.training and number_of_all(len(rows), rows.device) == 1:
        normed = norm.eval()(rows)
        norm.train()
    else:
        normed = norm(rows)
    return normed


def _norm(kind: Norm, width: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm1d(width)
    if kind == "batch_plain":
        return nn.BatchNorm1d(width, affine=False, track_running_stats=False)
    return nn.LayerNorm(width)
