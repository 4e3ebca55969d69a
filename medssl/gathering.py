"""Rows and sums over all processes of a run, with gradients: so a loss is that of the whole batch on each of them.

One rule holds everywhere. Every process computes the loss of the whole batch, from rows that were `gathered` or from
sums that were `added`. Backwards, each of these adds up what all processes' losses say of its own input: with W
processes a process gets W times the gradient of its part. Data-parallel training averages over processes, which divides
by W, and the result is the gradient of the whole batch's loss, however many rows each process holds. A mean of means a
process would be wrong wherever processes hold unlike numbers of rows, or of voxels that count.

The published code of SimCLR and of CVRL gathers likewise; `torch.distributed.all_gather` by itself has no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["added", "gathered", "mean_of_all", "number_of_all", "own_of", "processes", "ratio"]


def processes() -> int:
    """Return how many processes train together, 1 where there is no group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(rows: Tensor, dim: int = 0, *, block: int = 1) -> Tensor:
    """Return the rows of all processes along ``dim`` in the order of the whole batch; as they are where there is one.

    Items are dealt out in turn (`medssl.step_loader`), so the first item of every process comes first, then the second
    ones. Every process must call it, as often and in the same order. Processes may hold different numbers of rows.

    Args:
        rows: This process's rows; alike on all processes but for their number.
        dim: The axis of the rows.
        block: Rows that each item has, which stay together.
    """
    if processes() == 1:
        return rows
    together: Tensor = _Gather.apply(rows.movedim(dim, 0).contiguous(), block)  # type: ignore[no-untyped-call]
    return together.movedim(0, dim)


def own_of(together: Tensor, count: int, *, block: int = 1) -> Tensor:
    """Return this process's rows of what was gathered along the first axis, or of what was computed row by row of it.

    Every process must call it, as `gathered`.

    Args:
        together: Rows of all processes, (N, ...); rows after those (of a queue, say) are passed over.
        count: Rows of this process.
        block: As of `gathered`.
    """
    if processes() == 1:
        return together[:count]
    rank = dist.get_rank()
    owner = gathered(torch.full((count,), rank, device=together.device), block=block)
    return together[: len(owner)][owner == rank]


def added(values: Tensor) -> Tensor:
    """Return the sum over all processes, the same on each; ``values`` themselves where there is one.

    Every process must call it, as `gathered`.

    Args:
        values: Of one shape on all processes.
    """
    if processes() == 1:
        return values
    total: Tensor = _Add.apply(values)  # type: ignore[no-untyped-call]
    return total


def ratio(total: Tensor, count: Tensor, *, least: float = 1.0) -> Tensor:
    """Return ``total / count`` with both summed over all processes: a mean over what counts, wherever it lies.

    Args:
        total: Sum of what counts, a scalar with a graph.
        count: How much counts, a scalar; without a gradient.
        least: What the count is at least, so that nothing gives 0.
    """
    return added(total) / added(count).clamp(min=least)


def mean_of_all(values: Tensor, dim: Sequence[int] | None = None) -> Tensor:
    """Return the mean over all processes' values: of all, or over the axes ``dim``, of which the first is the rows'.

    One of several processes may hold none; where all hold none, the mean is 0.
    """
    axes = tuple(range(values.dim())) if dim is None else tuple(dim)
    if processes() == 1:
        return values.mean() if dim is None else values.mean(dim=axes)
    number = 1
    for axis in axes:
        number *= values.shape[axis]
    return added(values.sum(dim=axes)) / number_of_all(number, values.device)


def number_of_all(number: int, device: torch.device) -> Tensor | int:
    """Return the sum of a number (of rows, say) over all processes, at least 1 where there are several."""
    if processes() == 1:
        return number
    return added(torch.tensor(number, device=device)).clamp(min=1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, block: int) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(processes())]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        sizes = [int(count) for count in counts]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # all_gather wants tensors of one shape
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        # (item of its process, process, row of the item): the order in which the loader dealt the items out
        places = sorted((row // block, rank, row % block) for rank, size in enumerate(sizes) for row in range(size))
        order = [rank * len(padded) + item * block + row for item, rank, row in places]
        own = [place for place, (_, rank, _) in enumerate(places) if rank == dist.get_rank()]
        ctx.own = torch.tensor(own, dtype=torch.int64, device=rows.device)
        return torch.cat(parts)[torch.tensor(order, dtype=torch.int64, device=rows.device)]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.own], None


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
