"""From the store's grid back to the grid of the file a scan came from: class probabilities in, a label map out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["same_grid", "to_source_grid"]

Triple = tuple[int, int, int]
Matrix = npt.NDArray[np.float64]
Decide = Callable[[Tensor], Tensor]
_SLAB_VALUES = 1 << 24  # numbers in one slab: 64 MiB of float32


def to_source_grid(
    probabilities: Tensor,
    affine: Sequence[Sequence[float]],
    source_shape: Triple,
    source_affine: Sequence[Sequence[float]],
    *,
    decide: Decide = lambda probabilities: probabilities.argmax(dim=0),
    dtype: npt.DTypeLike = np.int16,
    outside: float = 0,
    between: tuple[Decide, Decide] | None = None,
) -> npt.NDArray[Any]:
    """Return what is decided for each voxel of the source.

    Where the two grids hold the same voxels in another order, each is decided by itself. Elsewhere the probabilities
    are interpolated linearly and then decided; beyond the outer centres, up to the faces of the outer voxels, they
    go on unchanged. What lies outside the store's grid is background. Slab by slab: nothing of the size of the
    probabilities is made.

    Args:
        probabilities: (classes, z, y, x), float, on the store's grid; class 0 is the background.
        affine: 4x4 of the store's grid, RAS+ mm from (x, y, z) indices.
        source_shape: Shape of the source, (z, y, x).
        source_affine: 4x4 of the source.
        decide: Probabilities (classes, ...) to one number a voxel (...): the likeliest class by default.
        dtype: Type of the numbers.
        outside: The number beyond the store's grid.
        between: Where the grids differ, what is interpolated in place of probabilities, as functions of them and back.
            A second map of the classes is held meanwhile.

    Returns:
        Of type ``dtype``, (z, y, x) of the source.
    """
    between_xyz = np.linalg.inv(np.asarray(affine, dtype=np.float64)) @ np.asarray(source_affine, dtype=np.float64)
    matrix = between_xyz[:3, :3][::-1, ::-1].copy()
    offset = between_xyz[:3, 3][::-1].copy()
    if same_grid(matrix, offset):
        decided = _decided(probabilities, decide, np.dtype(dtype))
        return _reordered(decided, np.rint(matrix), np.rint(offset), source_shape, outside)
    to, back = between or (_unchanged, _unchanged)
    result = np.empty(source_shape, dtype=dtype)
    _interpolate(to(probabilities), matrix, offset, lambda found: decide(back(found)), result, outside)
    return result


def _unchanged(probabilities: Tensor) -> Tensor:
    return probabilities


def _decided(probabilities: Tensor, decide: Decide, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decide every voxel of the store's grid, some planes at a time."""
    result = np.empty(tuple(probabilities.shape[1:]), dtype=dtype)
    step = max(1, _SLAB_VALUES // probabilities[:, 0].numel())
    for first in range(0, len(result), step):
        result[first : first + step] = decide(probabilities[:, first : first + step]).cpu().numpy()
    return result


def same_grid(matrix: Matrix, offset: Matrix, *, tolerance: float = 1e-3) -> bool:
    """Return whether whole voxels are mapped to whole voxels: axes flipped or swapped, and moved by whole steps."""
    whole = np.abs(matrix - np.rint(matrix)).max() < tolerance and np.abs(offset - np.rint(offset)).max() < tolerance
    permutation = np.abs(np.rint(matrix))
    return bool(whole and (permutation.sum(axis=0) == 1).all() and (permutation.sum(axis=1) == 1).all())


def _reordered(
    classes: npt.NDArray[Any], matrix: Matrix, offset: Matrix, shape: Triple, beyond: float
) -> npt.NDArray[Any]:
    """Look every source voxel up: axis a of the store runs along one axis of the source."""
    along = [int(np.argmax(np.abs(matrix[axis]))) for axis in range(3)]
    places = [matrix[a, s] * np.arange(shape[s]) + offset[a] for a, s in enumerate(along)]
    found = classes[np.ix_(*(np.clip(p, 0, n - 1).astype(int) for p, n in zip(places, classes.shape, strict=True)))]
    for axis, (place, extent) in enumerate(zip(places, classes.shape, strict=True)):
        outside = [slice(None)] * 3
        outside[axis] = (place < 0) | (place >= extent)  # type: ignore[call-overload]
        found[tuple(outside)] = beyond
    return np.ascontiguousarray(found.transpose(np.argsort(along)))


def _interpolate(
    probabilities: Tensor,
    matrix: Matrix,
    offset: Matrix,
    decide: Decide,
    result: npt.NDArray[Any],
    beyond: float,
) -> None:
    """Fill ``result``, (z, y, x) of the source, slab by slab."""
    classes, device, shape = probabilities.shape[0], probabilities.device, result.shape
    size = torch.tensor(probabilities.shape[1:], dtype=torch.float64)
    # a place takes three numbers of eight bytes, and three of four, beside its probabilities
    slab = max(1, _SLAB_VALUES // ((classes + 12) * shape[1] * shape[2]))
    plane = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape[1:]), indexing="ij")
    for first in range(0, shape[0], slab):
        depth = torch.arange(first, min(first + slab, shape[0]), dtype=torch.float64)
        here = torch.stack(
            [depth[:, None, None].expand(-1, *shape[1:]), *(p.expand(len(depth), -1, -1) for p in plane)], dim=-1
        )
        place = here @ torch.from_numpy(matrix).T + torch.from_numpy(offset)
        inside = ((place >= -0.5) & (place <= size - 0.5)).all(dim=-1)
        # grid_sample counts from face to face, (x, y, z) in [-1, 1]
        relative = ((2.0 * place + 1.0) / size - 1.0).flip(-1).float()[None].to(device)
        sampled = F.grid_sample(
            probabilities[None].float(), relative, mode="bilinear", padding_mode="border", align_corners=False
        )
        best = decide(sampled[0]).cpu()
        result[first : first + len(depth)] = torch.where(inside, best, torch.full_like(best, beyond)).numpy()
