"""Small networks between an encoder's embedding and an objective."""

from __future__ import annotations

import itertools
from typing import Literal

from torch import Tensor, nn

__all__ = ["Projection"]

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
    ) -> None:
        super().__init__()
        widths = [inputs, *([hidden] * (layers - 1)), outputs]
        parts: list[nn.Module] = []
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            last = number == layers - 1
            normed = norm != "none" and (not last or last_norm)
            parts.append(nn.Linear(before, after, bias=not normed))
            if normed:
                parts.append(_norm(norm, after))
            if not last:
                parts.append(nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*parts)

    def forward(self, embedding: Tensor) -> Tensor:
        """Return the projection of (N, inputs), (N, outputs)."""
        projected: Tensor = self.layers(embedding)
        return projected


def _norm(kind: Norm, width: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm1d(width)
    if kind == "batch_plain":
        return nn.BatchNorm1d(width, affine=False, track_running_stats=False)
    return nn.LayerNorm(width)
