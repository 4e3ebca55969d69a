"""One point a cube of a grid: thins a cloud to an even density."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medssl.errors import DataError
from pointcloud.primitives.checks import batch_of_points

__all__ = ["VoxelGrid", "voxel_grid"]

_MOST = 1 << 62  # cubes that an int64 can number


class VoxelGrid(NamedTuple):
    """The cubes that hold points, in the order of their places (x slowest).

    Attributes:
        means: (V, 3), the mean of each cube's points.
        first: Int64 (V,), the lowest index among each cube's points: the rows to keep of colours or labels.
        counts: Int64 (V,), how many points each cube holds.
        cube: Int64 (N,), which cube each point lies in.
        places: Int64 (V, 3), the cubes' places in the grid, from (0, 0, 0).
    """

    means: Tensor
    first: Tensor
    counts: Tensor
    cube: Tensor
    places: Tensor


def voxel_grid(points_N3: Tensor, size: float, *, origin: Tensor | None = None) -> VoxelGrid:
    """Sort points into the cubes of a grid.

    Args:
        points_N3: Floating point (points, 3).
        size: Edge of a cube, in the points' unit.
        origin: Corner of a cube, (3,); by default half a cube below the lowest coordinates. Places are counted from the
            lowest cube that holds a point.

    Raises:
        DataError: The points are not finite, or the size is not above 0, or so small that the cubes cannot be counted.

    Example:
        >>> grid = voxel_grid(torch.tensor([[0.0, 0, 0], [0.2, 0, 0], [5.0, 0, 0]]), 1.0)
        >>> grid.counts.tolist(), grid.cube.tolist()
        ([2, 1], [0, 0, 1])
    """
    batch_of_points(points_N3[None], "points")
    if not size > 0:
        raise DataError(f"The size of a cube is {size}; above 0 was expected.")
    exact = points_N3.double()
    low = exact.amin(dim=0) - size / 2 if origin is None else origin.to(exact)
    cells = torch.floor((exact - low) / size)
    cells = cells - cells.amin(dim=0)
    wide = [int(extent) + 1 for extent in cells.amax(dim=0).tolist()]
    if wide[0] * wide[1] * wide[2] > _MOST:
        raise DataError(f"Cubes of {size} make a grid of {wide}, too many to count. Choose a larger size.")
    cells = cells.long()
    number = (cells[:, 0] * wide[1] + cells[:, 1]) * wide[2] + cells[:, 2]
    known, cube, counts = torch.unique(number, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(known), 3, dtype=torch.float64, device=exact.device).index_add_(0, cube, exact)
    every = torch.arange(len(exact), device=exact.device)
    first = torch.full_like(known, len(exact)).scatter_reduce_(0, cube, every, reduce="amin")
    places = torch.stack([known // (wide[1] * wide[2]), known // wide[2] % wide[1], known % wide[2]], dim=1)
    return VoxelGrid((sums / counts[:, None]).to(points_N3.dtype), first, counts, cube, places)
