"""Nearest neighbours and neighbours within a radius: a k-d tree a cloud on a CPU, blocks of distances on a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medssl.errors import DataError
from pointcloud.primitives.checks import batch_of_points, cleared, valid_rows

__all__ = ["Neighbours", "mutual_nearest", "nearest", "within"]

_BLOCK = 1 << 24  # distances held at once by the blocked search, 64 MB in float32
_WAYS = ("auto", "tree", "blocks")


class Neighbours(NamedTuple):
    """Neighbours of each query, the nearest first.

    Attributes:
        indices: Int64 (clouds, queries, k), rows of the points; -1 where there are no more within the radius.
        distances: (clouds, queries, k), in the points' unit, without gradient; infinite where the index is -1.
    """

    indices: Tensor
    distances: Tensor


def nearest(
    queries_BQ3: Tensor, points_BN3: Tensor, k: int, *, lengths: Tensor | None = None, way: str = "auto"
) -> Neighbours:
    """Return the k nearest points of each query. Which of several points at one distance comes first is not defined.

    Args:
        queries_BQ3: Floating point (clouds, queries, 3).
        points_BN3: Floating point (clouds, points, 3), on the same device.
        k: How many; every cloud must have as many.
        lengths: How many points of each cloud count, (clouds,); the rows after them are padding.
        way: "tree" (exact, on the CPU), "blocks" (exact, on the tensors' device), or "auto": a tree on a CPU.

    Raises:
        DataError: Values are not finite, the batches differ, or a cloud has fewer than ``k`` points.
    """
    rows, way = _checked(queries_BQ3, points_BN3, lengths, way)
    if not 1 <= k <= min(rows):
        raise DataError(f"k is {k}; 1 to {min(rows)}, the points of the smallest cloud, were expected.")
    return (
        _by_tree(queries_BQ3, points_BN3, k, rows, None)
        if way == "tree"
        else _by_blocks(queries_BQ3, points_BN3, k, rows)
    )


def within(
    queries_BQ3: Tensor,
    points_BN3: Tensor,
    radius: float,
    *,
    at_most: int,
    lengths: Tensor | None = None,
    way: str = "auto",
) -> Neighbours:
    """Return the nearest points that lie within a radius of each query, at most ``at_most`` of them.

    Args:
        queries_BQ3: Floating point (clouds, queries, 3).
        points_BN3: Floating point (clouds, points, 3), on the same device.
        radius: In the points' unit; a point at this very distance counts.
        at_most: How many columns the result has.
        lengths: How many points of each cloud count, (clouds,).
        way: As in ``nearest``.

    Raises:
        DataError: Values are not finite, the batches differ, or ``radius`` or ``at_most`` is not above 0.
    """
    rows, way = _checked(queries_BQ3, points_BN3, lengths, way)
    if not (radius > 0 and at_most > 0):
        raise DataError(f"radius is {radius} and at_most {at_most}; both must be above 0.")
    if way == "tree":
        return _by_tree(queries_BQ3, points_BN3, at_most, rows, radius)
    k = min(at_most, points_BN3.shape[1])
    found = _by_blocks(queries_BQ3, points_BN3, k, rows)
    outside = found.distances > radius
    indices = found.indices.masked_fill(outside, -1)
    distances = found.distances.masked_fill(outside, torch.inf)
    pad = (0, at_most - k)
    return Neighbours(
        torch.nn.functional.pad(indices, pad, value=-1), torch.nn.functional.pad(distances, pad, value=torch.inf)
    )


def mutual_nearest(
    a_BN3: Tensor,
    b_BM3: Tensor,
    *,
    lengths_a: Tensor | None = None,
    lengths_b: Tensor | None = None,
    way: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return the nearest point of b of each point of a, and of a of each of b.

    Cheaper than two calls of ``nearest``: each tree is built once, and each cloud asks in the order of its own tree, so
    that questions close in space are close in time.

    Args:
        a_BN3: Floating point (clouds, points, 3).
        b_BM3: Floating point (clouds, points, 3), on the same device.
        lengths_a: How many points of each cloud of ``a_BN3`` count, (clouds,); the rows after them are padding.
        lengths_b: The same of ``b_BM3``.
        way: As in ``nearest``.

    Returns:
        Int64 (clouds, points of a), rows of b; and int64 (clouds, points of b), rows of a. Those of padding are 0.

    Raises:
        DataError: Values are not finite, or the batches differ.
    """
    a_BN3, b_BM3 = cleared(a_BN3, lengths_a), cleared(b_BM3, lengths_b)
    rows_b, way = _checked(a_BN3, b_BM3, lengths_b, way)
    rows_a = valid_rows(a_BN3, lengths_a, "points")
    if way == "blocks":
        to_b = _by_blocks(a_BN3, b_BM3, 1, rows_b).indices[..., 0]
        return to_b, _by_blocks(b_BM3, a_BN3, 1, rows_a).indices[..., 0]
    of_a, of_b = np.zeros(a_BN3.shape[:2], np.int64), np.zeros(b_BM3.shape[:2], np.int64)
    pairs = zip(_on_cpu(a_BN3), _on_cpu(b_BM3), strict=True)
    for cloud, ((a, b), row_a, row_b) in enumerate(zip(pairs, rows_a, rows_b, strict=True)):
        tree_a, tree_b = _tree(a[:row_a]), _tree(b[:row_b])
        of_a[cloud, tree_a.indices] = tree_b.query(tree_a.data[tree_a.indices], k=1)[1]
        of_b[cloud, tree_b.indices] = tree_a.query(tree_b.data[tree_b.indices], k=1)[1]
    return torch.from_numpy(of_a).to(a_BN3.device), torch.from_numpy(of_b).to(a_BN3.device)


def _on_cpu(points_BN3: Tensor) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = points_BN3.detach().cpu().double().numpy()
    return result


def _tree(points: npt.NDArray[np.float64]) -> Any:
    from scipy.spatial import cKDTree

    # Balanced but not compact: measured to be the cheapest sum of building and asking once a point.
    return cKDTree(points, compact_nodes=False)


def _checked(queries_BQ3: Tensor, points_BN3: Tensor, lengths: Tensor | None, way: str) -> tuple[list[int], str]:
    if way not in _WAYS:
        raise ValueError(f"way is '{way}'. Allowed: {', '.join(_WAYS)}.")
    batch_of_points(queries_BQ3, "queries")
    rows = valid_rows(points_BN3, lengths, "points")
    batch_of_points(cleared(points_BN3, lengths), "points")
    if len(queries_BQ3) != len(points_BN3) or queries_BQ3.device != points_BN3.device:
        raise DataError(
            f"There are {len(queries_BQ3)} clouds of queries on {queries_BQ3.device} and {len(points_BN3)} of points "
            f"on {points_BN3.device}; they must be as many, on one device."
        )
    if way == "auto":
        way = "tree" if points_BN3.device.type == "cpu" else "blocks"
    return rows, way


@torch.no_grad()
def _by_tree(queries_BQ3: Tensor, points_BN3: Tensor, k: int, rows: list[int], radius: float | None) -> Neighbours:
    # The tree answers in float64, and takes points strictly nearer than its bound.
    bound = np.inf if radius is None else np.nextafter(radius, np.inf)
    indices, distances = [], []
    for queries, points, row in zip(_on_cpu(queries_BQ3), _on_cpu(points_BN3), rows, strict=True):
        distance, index = _tree(points[:row]).query(queries, k=range(1, k + 1), distance_upper_bound=bound)
        distances.append(distance)
        indices.append(np.where(index == row, -1, index))
    device = points_BN3.device
    return Neighbours(
        torch.from_numpy(np.stack(indices).astype(np.int64)).to(device),
        torch.from_numpy(np.stack(distances)).to(device, points_BN3.dtype),
    )


@torch.no_grad()
def _by_blocks(queries_BQ3: Tensor, points_BN3: Tensor, k: int, rows: list[int]) -> Neighbours:
    # Far from the origin the products inside a distance lose what tells points apart, so each cloud is centred first.
    points_BN3 = cleared(points_BN3, torch.tensor(rows, device=points_BN3.device))
    centre = points_BN3.mean(dim=1, keepdim=True)
    queries, points = (queries_BQ3 - centre).float(), (points_BN3 - centre).float()
    padding = (
        torch.arange(points.shape[1], device=points.device)[None] >= torch.tensor(rows, device=points.device)[:, None]
    )
    step = max(1, _BLOCK // (points.shape[0] * points.shape[1]))
    indices, distances = [], []
    for block in torch.split(queries, step, dim=1):
        between = torch.cdist(block, points, compute_mode="donot_use_mm_for_euclid_dist")
        between.masked_fill_(padding[:, None], torch.inf)
        found = between.topk(k, dim=-1, largest=False, sorted=True)
        indices.append(found.indices)
        distances.append(found.values)
    return Neighbours(torch.cat(indices, dim=1), torch.cat(distances, dim=1).to(points_BN3.dtype))
