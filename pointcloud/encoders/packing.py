"""Padded batches to packed rows and back, so that padding takes part in nothing: no product, no norm, no maximum."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from pointcloud.batch import inside

__all__ = ["RowMLP", "max_rows", "mean_rows", "pack", "unpack"]


def pack(values: Tensor, count: Tensor) -> Tensor:
    """Return the rows that count, (sum of count, ...), of (B, N, ...)."""
    return values[inside(count, values.shape[1])]


def unpack(rows: Tensor, count: Tensor, length: int, *, fill: float = 0.0) -> Tensor:
    """Return packed rows as a padded batch, (B, length, ...)."""
    padded = rows.new_full((len(count), length, *rows.shape[1:]), fill)
    padded[inside(count, length)] = rows
    return padded


def max_rows(values: Tensor, count: Tensor) -> Tensor:
    """Return the maximum over the rows of each cloud that count, (B, C), of (B, N, C)."""
    outside = ~inside(count, values.shape[1])[..., None]
    return values.masked_fill(outside, float("-inf")).amax(dim=1)


def mean_rows(values: Tensor, count: Tensor) -> Tensor:
    """Return the mean over the rows of each cloud that count, (B, C), of (B, N, C)."""
    outside = ~inside(count, values.shape[1])[..., None]
    return values.masked_fill(outside, 0.0).sum(dim=1) / count[:, None]


class RowMLP(nn.Module):
    """Linear layers with batch norm and an activation, over the last dimension: the "shared MLP" of point networks.

    Args:
        widths: Length of the input, then of each layer's output.
        activation: Makes the activation.
        last: Whether norm and activation follow the last layer too.
    """

    def __init__(
        self, widths: Sequence[int], *, activation: Callable[[], nn.Module] = nn.ReLU, last: bool = True
    ) -> None:
        super().__init__()
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            normed = last or number < len(widths) - 2
            self.linears.append(nn.Linear(before, after, bias=not normed))
            if normed:
                self.norms.append(nn.BatchNorm1d(after))
        self.activation = activation()

    def forward(self, rows: Tensor) -> Tensor:
        """Return (..., last width) of (..., first width); norms take statistics over all rows."""
        shape, rows = rows.shape[:-1], rows.reshape(-1, rows.shape[-1])
        for number, linear in enumerate(self.linears):
            rows = linear(rows)
            if number < len(self.norms):
                rows = self.activation(self.norms[number](rows))
        return rows.reshape(*shape, rows.shape[-1])
