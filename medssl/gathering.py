"""Rows of all processes of a run, with gradients: so contrast has the negatives of the whole batch.

Every process then computes the loss of the whole batch. Backwards, each adds up what all processes' losses say of its
own rows; data-parallel training averages over processes, and the result is the gradient of the whole batch's loss.

The published code of SimCLR and of CVRL gathers likewise; `torch.distributed.all_gather` by itself has no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gathered", "own_of", "processes"]


def processes() -> int:
    """Return how many processes train together, 1 where there is no group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(rows: Tensor, dim: int = 0) -> Tensor:
    """Return the rows of all processes along ``dim``, those of the first process first; as they are where there is one.

    Every process must call it, as often and in the same order. Processes may hold different numbers of rows.

    Args:
        rows: This process's rows; alike on all processes but for their number.
        dim: The axis of the rows.
    """
    if processes() == 1:
        return rows
    together: Tensor = _Gather.apply(rows.movedim(dim, 0).contiguous())  # type: ignore[no-untyped-call]
    return together.movedim(0, dim)


def own_of(together: Tensor, count: int) -> Tensor:
    """Return this process's rows of what was gathered along the first axis, or of what was computed row by row of it.

    Every process must call it, as `gathered`.

    Args:
        together: Rows of all processes, (N, ...); rows after those (of a queue, say) are passed over.
        count: Rows of this process.
    """
    if processes() == 1:
        return together[:count]
    rank = dist.get_rank()
    owner = gathered(torch.full((count,), rank, device=together.device))
    return together[: len(owner)][owner == rank]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(processes())]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        sizes = [int(count) for count in counts]
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # all_gather wants tensors of one shape
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        ctx.first = sum(sizes[: dist.get_rank()])
        ctx.count = len(rows)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.first : ctx.first + ctx.count]
