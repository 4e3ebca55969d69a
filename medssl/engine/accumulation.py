"""A batch in parts (`train.accumulate`), each weighed so that their step is that of the whole batch.

A loss that is a mean counts items, or voxels, or whatever `Method.counted` says. A part's share of that count over the
whole batch, and over all processes, is its weight; equal weights would be right for equal counts alone. What is among
the items of a batch (contrast, statistics, batch norms) sees one part at a time, which no weight mends: it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.batch import Batch
from medssl.errors import ConfigError
from medssl.gathering import added, number_of_all
from medssl.methods.contract import Losses, Method
from medssl.randomness import Stream
from medssl.synchronised_norm import goes_by_batch

__all__ = ["Part", "check_parts", "differs", "parts_of"]


@dataclass(frozen=True)
class Part:
    """Views of a part of the batch, and how it is weighed.

    Attributes:
        views: What the method's ``forward`` takes.
        whole: Items of the batch for one of the part; 1 for a batch that is not cut.
        shares: The part's share of what each named term counts over.
    """

    views: Any
    whole: Tensor | float = 1.0
    shares: dict[str, Tensor] = field(default_factory=dict)

    def weighed(self, losses: Losses) -> Tensor:
        """Return what is minimised of the part: over all parts it adds up to the loss of the batch."""
        if not self.shares:
            return losses.total / self.whole if isinstance(self.whole, Tensor) or self.whole != 1.0 else losses.total
        parts = [
            term * self.shares[name] if name in self.shares else term / self.whole
            for name, term in losses.terms.items()
        ]
        return torch.stack(parts).sum()


def parts_of(method: Method, batch: Batch, parts: int, *, seed: int, step: int, device: torch.device) -> Iterator[Part]:
    """Yield the batch in ``parts`` runs of items of nearly equal length, on the device.

    Views are cut part by part, or, where the method counts something in them, all before the first is yielded.
    """
    pieces = list(_cut(batch, parts))
    if parts == 1:
        yield Part(_views(method, batch, seed=seed, step=step, device=device))
        return
    sizes = [number_of_all(len(piece), device) for piece in pieces]
    first = _views(method, pieces[0], seed=seed, step=step, device=device)
    counts = [method.counted(first)]
    known = [first]
    if counts[0]:
        known += [_views(method, piece, seed=seed, step=step, device=device) for piece in pieces[1:]]
        counts += [method.counted(views) for views in known[1:]]
    shares = _shares(counts) if counts[0] else [{}] * parts
    for index, piece in enumerate(pieces):
        views = known[index] if index < len(known) else _views(method, piece, seed=seed, step=step, device=device)
        yield Part(views, sum(sizes) / sizes[index], shares[index])


def check_parts(batch: Batch, parts: int, fabric: Fabric) -> None:
    """See that every process has an item for every part.

    Raises:
        ConfigError: It has not, on all processes alike.
    """
    fewest = len(batch.starts())
    if fabric.world_size > 1:
        fewest = int(fabric.all_reduce(torch.tensor(fewest, device=fabric.device), reduce_op="min"))
    if parts > fewest:
        where = "the batch" if fabric.world_size == 1 else "the smallest part of the batch that a process holds"
        raise ConfigError(
            f"train.accumulate cuts a batch into {parts} parts, and {where} has {fewest} items. Take at most {fewest}, "
            "or a larger train.batch_size."
        )


def differs(method: Method) -> str:
    """Return why the step over parts is not that of the whole batch, empty where it is (but for rounding)."""
    norms = [module for module in method.modules() if isinstance(module, _BatchNorm) and goes_by_batch(module)]
    found = [method.coupled] if method.coupled else []
    if norms:
        found.append(f"{len(norms)} batch norm{'s normalise' if len(norms) > 1 else ' normalises'} part by part")
    return "; ".join(found)


def _views(method: Method, piece: Batch, *, seed: int, step: int, device: torch.device) -> Any:
    with torch.no_grad():
        return method.views(piece.to(device), Stream(seed, step, piece.slot.tolist()))


def _shares(counts: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return each part's share of every count, over all processes; 0 where nothing counts at all."""
    totals = [{name: added(count.double()) for name, count in part.items()} for part in counts]
    whole = {name: torch.stack([part[name] for part in totals]).sum().clamp(min=1.0) for name in counts[0]}
    return [{name: (count / whole[name]).float() for name, count in part.items()} for part in totals]


def _cut(batch: Batch, parts: int) -> Iterator[Batch]:
    """Yield the batch in ``parts`` runs of rows of nearly equal length."""
    if parts == 1:
        yield batch
        return
    starts = [*batch.starts(), len(batch)]
    items = len(starts) - 1
    bounds = [starts[round(i * items / parts)] for i in range(parts + 1)]
    for low, high in pairwise(bounds):
        yield batch.rows(low, high)
