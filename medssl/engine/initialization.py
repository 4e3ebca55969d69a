"""Random initialization that a seed alone decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from medssl.randomness import numpy_generator

__all__ = ["random_initialization"]

_INITIAL = 8  # counter that keeps the draw of initial weights apart from all others


@contextmanager
def random_initialization(seed: int) -> Iterator[None]:
    """Draw initial weights inside; the same whatever is carried over: arms of a comparison differ in that alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(seed, 0, 0, _INITIAL).integers(1 << 62)))
        yield
