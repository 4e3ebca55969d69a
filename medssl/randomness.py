"""Randomness as a value: draws that are a pure function of (seed, step, item slot) and of nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Stream", "counter_of", "numpy_generator"]

_MASK = (1 << 64) - 1


def numpy_generator(seed: int, *counters: int) -> np.random.Generator:
    """Return a generator whose draws depend on ``seed`` and ``counters`` alone.

    Args:
        seed: The run's seed, any integer.
        counters: Whatever names the draw: a step, a slot, an epoch. Different counters give independent streams.

    Example:
        >>> bool((numpy_generator(1, 2).random(3) == numpy_generator(1, 2).random(3)).all())
        True
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed & _MASK, *(c & _MASK for c in counters)])))


def counter_of(name: str) -> int:
    """Return a name as a counter for `numpy_generator`, such as the id of an item whose draws its row must not move."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


class Stream:
    """Draws for every item of a batch, one independent stream an item.

    An item's draws depend on (seed, step, its slot in the global batch), so they are the same whatever the number of
    workers or ranks, and after a resume.

    Args:
        seed: The run's seed.
        step: The optimiser step that the batch belongs to.
        slots: The items' places in the global batch, one for each row of the local batch.
    """

    def __init__(self, seed: int, step: int, slots: Sequence[int]) -> None:
        self.seed, self.step, self.slots = seed, step, tuple(slots)
        self._generators = [numpy_generator(seed, step, slot) for slot in self.slots]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.slots)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return float32 draws from [low, high), shape (items, *shape)."""
        drawn = np.stack([g.random(shape) for g in self._generators])
        return _tensor(low + (high - low) * drawn).float()

    def normal(self, *shape: int) -> Tensor:
        """Return float32 standard normal draws, shape (items, *shape)."""
        return _tensor(np.stack([g.standard_normal(shape) for g in self._generators])).float()

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return int64 draws from {low, ..., high - 1}, shape (items, *shape)."""
        return _tensor(np.stack([g.integers(low, high, shape) for g in self._generators]))

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Return booleans that are true with ``probability``, shape (items, *shape)."""
        return self.uniform(*shape) < probability

    def permutation(self, length: int) -> Tensor:
        """Return one permutation of range(length) an item, int64, shape (items, length)."""
        return _tensor(np.stack([g.permutation(length) for g in self._generators]))


def _tensor(drawn: npt.NDArray[Any]) -> Tensor:
    """Return draws as a tensor. Torch is imported here, for what only needs `numpy_generator` does without it."""
    import torch

    return torch.from_numpy(drawn)
