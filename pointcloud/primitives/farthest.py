"""Farthest-point sampling: each pick is the point farthest from all before it (Gonzalez 1985; Eldar et al. 1997)."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.errors import DataError
from pointcloud.primitives.checks import batch_of_points, cleared, valid_rows

__all__ = ["farthest_points"]

_PICKED, _PADDING = -1.0, -2.0  # below every distance, so argmax takes neither before the points are used up


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
    are distinct, the points that repeat a place come last. NaN is refused. More picks than points are refused, or with
    ``beyond="repeat"`` the order begins again.

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
    x, y, z = (points_BN3[..., axis].contiguous() for axis in range(3))
    distance = torch.full_like(x, torch.inf)
    if inside_BN is not None:
        distance.masked_fill_(~inside_BN, _PADDING)
    total, along = torch.empty_like(x), torch.empty_like(x)
    order = torch.empty(len(x), count, dtype=torch.int64, device=x.device)
    last = first[:, None]
    # numpy's argmax along rows is several times as fast as torch's on a CPU; both take the lowest index of a tie.
    shared = distance.numpy() if distance.device.type == "cpu" and distance.dtype != torch.bfloat16 else None
    for pick in range(count):
        order[:, pick] = last[:, 0]
        if pick == count - 1:
            break
        torch.sub(x, x.gather(1, last), out=total)
        total.mul_(total)
        for plane in (y, z):
            torch.sub(plane, plane.gather(1, last), out=along)
            total.addcmul_(along, along)
        torch.minimum(distance, total, out=distance)
        distance.scatter_(1, last, _PICKED)
        if shared is not None:
            last = torch.from_numpy(shared.argmax(axis=1)[:, None])
        else:
            last = distance.argmax(dim=1, keepdim=True)
    return order
