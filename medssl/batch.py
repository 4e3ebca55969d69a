"""A batch: tensors with one row an item, from a store to a method. Volumes and clouds add what they carry."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Batch", "Ordering"]

Ordering = Literal["shuffled", "one_per_group", "one_group"]  # see `medssl.item_orders`


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of tensors; the engine knows no more of its batches than this.

    Attributes:
        item: int64, (B,), the item's row in the store.
        patient: int64, (B,), the same number for items of the same patient.
        slot: int64, (B,), the item's place in the global batch (names its random stream).
    """

    item: Tensor
    patient: Tensor
    slot: Tensor

    def __len__(self) -> int:
        """Return the number of items."""
        return int(self.slot.shape[0])

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name; those that are None are left out."""
        from torch import Tensor  # whoever holds tensors has it; settings that name a batch's words need none

        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def starts(self) -> list[int]:
        """Return the rows before which the batch may be cut: all, where no rows belong together."""
        return list(range(len(self)))

    def rows(self, low: int, high: int) -> Self:
        """Return the items ``low`` to ``high - 1``."""
        return replace(self, **{name: value[low:high] for name, value in self.tensors().items()})

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> Self:
        """Return the batch on ``device``."""
        return replace(self, **{k: v.to(device, non_blocking=non_blocking) for k, v in self.tensors().items()})

    def pinned(self) -> Self:
        """Return the batch in page-locked memory, so that its copy to a GPU overlaps with compute."""
        return replace(self, **{name: value.pin_memory() for name, value in self.tensors().items()})
