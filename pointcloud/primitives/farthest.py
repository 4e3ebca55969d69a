"""Farthest-point sampling: each pick is the point farthest from all before it (Gonzalez 1985; Eldar et al. 1997)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medssl.errors import DataError
from pointcloud.primitives.checks import batch_of_points, cleared, valid_rows

__all__ = ["farthest_points"]


@torch.no_grad()
def farthest_points(
    points_BN3: Tensor,
    count: int,
    *,
    start: Tensor | int = 0,
    lengths: Tensor | None = None,
    beyond: str = "refuse",
) -> Tensor:
    """Return the points' indices in the order in which they are picked.

    Policies. A tie goes to the lowest index. Duplicates: no index is returned twice; where fewer than ``count`` places
    are distinct, the points that repeat a place come last, in their own order. NaN is refused. More picks than points
    are refused, or with ``beyond="repeat"`` the order begins again.

    The coordinates are held as three planes, so that each step runs over contiguous memory: on a CPU this is several
    times faster than working on (N, 3) rows.

    Args:
        points_BN3: Floating point (clouds, points, 3), on any device.
        count: How many to pick, 1 or more.
        start: Index of the first pick, one for all clouds or int64 (clouds,).
        lengths: How many points of each cloud count, (clouds,); the rows after them are padding.
        beyond: "refuse" or "repeat": what to do where a cloud has fewer than ``count`` points.

    Returns:
        Int64 (clouds, count).

    Raises:
        DataError: The points are not finite, or too few, or ``start`` is none of them.

    Example:
        >>> line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]]])
        >>> farthest_points(line, 3).tolist()
        [[0, 4, 2]]
    """
    if beyond not in ("refuse", "repeat"):
        raise ValueError(f"beyond is '{beyond}'. Allowed: refuse, repeat.")
    rows = valid_rows(points_BN3, lengths, "points")
    if lengths is not None:
        inside = torch.arange(points_BN3.shape[1], device=points_BN3.device) < lengths.to(points_BN3.device)[:, None]
    points_BN3 = batch_of_points(cleared(points_BN3, lengths), "points")
    if count < 1:
        raise DataError(f"count is {count}; 1 or more was expected.")
    if beyond == "refuse" and count > min(rows):
        raise DataError(f"{count} points are to be picked from {min(rows)}. Pick fewer, or say beyond='repeat'.")
    first = torch.as_tensor(start, device=points_BN3.device).expand(len(rows)).clone().long()
    if any(not 0 <= at < row for at, row in zip(first.tolist(), rows, strict=True)):
        raise DataError(f"start is {first.tolist()[:8]}; indices of points were expected.")
    order = _order(points_BN3, min(count, max(rows)), first, None if lengths is None else inside)
    if count > min(rows):
        turn = torch.arange(count, device=order.device)[None] % torch.tensor(rows, device=order.device)[:, None]
        order = order.gather(1, turn)
    return order


def _order(points_BN3: Tensor, count: int, first: Tensor, inside_BN: Tensor | None) -> Tensor:
    planes = points_BN3.permute(2, 0, 1).contiguous()
    distance = torch.full_like(planes[0], torch.inf)
    if inside_BN is not None:
        distance.masked_fill_(~inside_BN, 0.0)  # as near as a point can be: never the farthest
    if planes.device.type == "cpu" and planes.dtype != torch.bfloat16:
        order = _loop_on_cpu(points_BN3.contiguous(), planes, distance, count, first)
    else:
        order = _loop(planes, distance, count, first)
    # Picks come nearer and nearer: only where the last was at distance 0 can an index have come twice.
    last = distance.gather(1, order[:, -1:])
    return _without_repeats(order, inside_BN, planes.shape[2]) if bool((last == 0).any()) else order


def _loop(planes: Tensor, distance: Tensor, count: int, first: Tensor) -> Tensor:
    clouds, points = planes.shape[1:]
    starts = torch.arange(clouds, device=planes.device) * points
    picks = [first]
    for _ in range(count - 1):
        centre = planes.reshape(3, -1).index_select(1, picks[-1] + starts)
        torch.minimum(distance, (planes - centre[..., None]).square_().sum(dim=0), out=distance)
        picks.append(distance.argmax(dim=1))
    return torch.stack(picks, dim=1)


def _loop_on_cpu(points_BN3: Tensor, planes: Tensor, distance: Tensor, count: int, first: Tensor) -> Tensor:
    """Do the same without a new array a step; numpy's argmax and take cost a fraction of torch's on a CPU.

    Centres are taken from rows (one read a cloud) and used as planes.
    """
    clouds, points = planes.shape[1:]
    order = np.empty((count, clouds), dtype=np.int64)
    order[0] = first.numpy()
    with torch.inference_mode():
        rows, reach = points_BN3.numpy().reshape(-1, 3), distance.numpy()
        starts = np.arange(clouds) * points
        centres, apart = np.empty((clouds, 3), dtype=rows.dtype), torch.empty_like(planes)
        centre = torch.from_numpy(centres).T[..., None]
        total, along_y, along_z = apart
        for pick in range(1, count):
            rows.take(order[pick - 1] + starts, axis=0, out=centres, mode="clip")
            torch.sub(planes, centre, out=apart)
            total.mul_(total).addcmul_(along_y, along_y).addcmul_(along_z, along_z)
            torch.minimum(distance, total, out=distance)
            reach.argmax(axis=1, out=order[pick])
    return torch.from_numpy(order.T.copy())


def _without_repeats(order: Tensor, inside_BN: Tensor | None, points: int) -> Tensor:
    """Put indices not yet picked, the lowest first, where a cloud had no new place left and an index came again."""
    ordered = order.sort(dim=1).values
    repeats = (ordered[:, 1:] == ordered[:, :-1]).any(dim=1)
    for row in repeats.nonzero()[:, 0].tolist():
        there = range(points) if inside_BN is None else inside_BN[row].nonzero()[:, 0].tolist()
        once = list(dict.fromkeys([*order[row].tolist(), *there]))  # keeps the first of each
        once += once[:1] * (order.shape[1] - len(once))  # a cloud shorter than the longest; cut off by the caller
        order[row] = torch.tensor(once[: order.shape[1]], device=order.device)
    return order
