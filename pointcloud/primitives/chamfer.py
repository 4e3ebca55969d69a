"""Chamfer distance between clouds, with its exact gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.errors import DataError
from pointcloud.primitives.checks import cleared
from pointcloud.primitives.neighbours import mutual_nearest, nearest

__all__ = ["chamfer", "nearest_distances"]

_LEAST = 1e-12  # keeps the square root's gradient finite where two points coincide


def nearest_distances(from_BN3: Tensor, to_BM3: Tensor, *, lengths: Tensor | None = None, way: str = "auto") -> Tensor:
    """Return the squared distance from each point to the nearest of another cloud, with gradients to both.

    Who is nearest is found without gradients (a k-d tree on a CPU); the distance is computed again from the pair. The
    gradient is exact wherever the nearest point is unique.

    Args:
        from_BN3: Floating point (clouds, points, 3).
        to_BM3: Floating point (clouds, points, 3).
        lengths: How many points of each cloud of ``to_BM3`` count, (clouds,).
        way: As in ``neighbours.nearest``.

    Returns:
        (clouds, points of ``from_BN3``).

    Raises:
        DataError: Values are not finite, or the batches differ.
    """
    index = nearest(from_BN3.detach(), to_BM3.detach(), 1, lengths=lengths, way=way).indices[..., 0]
    return _squared(from_BN3, to_BM3, index)


def chamfer(
    a_BN3: Tensor,
    b_BM3: Tensor,
    *,
    norm: str = "l2",
    lengths_a: Tensor | None = None,
    lengths_b: Tensor | None = None,
    way: str = "auto",
) -> Tensor:
    """Return the Chamfer distance of each pair of clouds.

    "l2" is mean over a of min |a - b|^2 plus mean over b of min |b - a|^2 (in the unit squared); "l1" is half the sum
    of the means of the distances themselves, as in Point-MAE (in the unit).

    Args:
        a_BN3: Floating point (clouds, points, 3).
        b_BM3: Floating point (clouds, points, 3).
        norm: "l2" or "l1".
        lengths_a: How many points of each cloud of ``a_BN3`` count, (clouds,); the rest is padding.
        lengths_b: The same of ``b_BM3``.
        way: As in ``neighbours.nearest``.

    Returns:
        (clouds,).

    Raises:
        DataError: Values are not finite, or the batches differ.

    Example:
        >>> chamfer(torch.zeros(1, 2, 3), torch.ones(1, 1, 3)).tolist()
        [6.0]
    """
    if norm not in ("l1", "l2"):
        raise DataError(f"norm is '{norm}'. Allowed: l1, l2.")
    a_BN3, b_BM3 = cleared(a_BN3, lengths_a), cleared(b_BM3, lengths_b)
    to_b, to_a = mutual_nearest(a_BN3, b_BM3, lengths_a=lengths_a, lengths_b=lengths_b, way=way)
    ahead, back = _squared(a_BN3, b_BM3, to_b), _squared(b_BM3, a_BN3, to_a)
    if norm == "l1":
        ahead, back = ahead.clamp_min(_LEAST).sqrt(), back.clamp_min(_LEAST).sqrt()
        return 0.5 * (_mean(ahead, lengths_a) + _mean(back, lengths_b))
    return _mean(ahead, lengths_a) + _mean(back, lengths_b)


def _squared(from_BN3: Tensor, to_BM3: Tensor, index_BN: Tensor) -> Tensor:
    return (from_BN3 - to_BM3.gather(1, index_BN[..., None].expand(-1, -1, 3))).square().sum(dim=-1)


def _mean(values_BN: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return values_BN.mean(dim=1)
    counts = lengths.to(values_BN.device)
    inside = torch.arange(values_BN.shape[1], device=values_BN.device)[None] < counts[:, None]
    return torch.where(inside, values_BN, 0.0).sum(dim=1) / counts
