"""Kernels of volumes turned or flipped, so that a network sees (z, y, x) in RAS as it saw its makers' axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

__all__ = ["flipping", "turning_kernels"]

_FIRST = 2  # axis of a kernel (out, in, z, y, x) that is along z


def turning_kernels(axes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Return what turns a kernel (out, in, ...) whose axis i is axis ``axes[i]`` of (z, y, x)."""
    back = [list(axes).index(axis) for axis in range(3)]

    def turned(kernel: Tensor) -> Tensor:
        return kernel.permute(0, 1, *(_FIRST + axis for axis in back)).contiguous()

    return turned


def flipping(axes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Return what flips a kernel (out, in, z, y, x) along axes of (z, y, x)."""
    return lambda kernel: kernel.flip([_FIRST + axis for axis in axes])
