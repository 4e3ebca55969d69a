"""Tokens in a row, so that neighbours in the row are neighbours in space, and stretches of that row."""

from __future__ import annotations

import torch
from torch import Tensor

from pointcloud.batch import inside

__all__ = ["nearest_order", "stretch"]


@torch.no_grad()
def nearest_order(places: Tensor, count: Tensor) -> Tensor:
    """Return each cloud's tokens from near to near: the next is the nearest that is left.

    It begins where x + y + z is least.

    Args:
        places: float32, (B, T, 3).
        count: int64, (B,), tokens of each cloud; those after them are padding.

    Returns:
        int64, (B, T), rows of the places; padding comes last.

    Reference:
        Saito et al., "Point-JEPA", WACV 2025, arXiv:2404.16432 (the sequencer), after PointGPT (Chen et al., NeurIPS
        2023, arXiv:2305.11487).

    Example:
        >>> places = torch.tensor([[[3.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0], [4.5, 0, 0]]])
        >>> nearest_order(places, torch.tensor([4])).tolist()
        [[1, 2, 0, 3]]
    """
    clouds, tokens = places.shape[:2]
    outside = ~inside(count, tokens)
    exact = torch.where(outside[..., None], 0.0, places).float()
    apart = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")
    every = torch.arange(clouds, device=places.device)
    used = outside.clone()
    order = [exact.sum(dim=-1).masked_fill(used, torch.inf).argmin(dim=1)]
    used[every, order[0]] = True
    for _ in range(int(count.max()) - 1):
        # A cloud that has no token left goes on with its padding, whose rows are put right below.
        order.append(apart[every, order[-1]].masked_fill(used, torch.inf).argmin(dim=1))
        used[every, order[-1]] = True
    found = torch.stack(order, dim=1)
    row = torch.arange(tokens, device=places.device).expand(clouds, -1)
    found = torch.cat([found, row[:, found.shape[1] :]], dim=1)
    return torch.where(outside, row, found)


def stretch(start: Tensor, number: Tensor, length: Tensor, size: int) -> Tensor:
    """Return which places of a row lie in a stretch of it, bool, (..., size).

    Args:
        start: Random numbers in [0, 1), (...): where it begins, of all places at which it fits.
        number: int64, (...), its places.
        length: int64, (...), places of the row; at least ``number``.
        size: Places of the longest row.

    Example:
        >>> stretch(torch.tensor([0.5]), torch.tensor([2]), torch.tensor([4]), 5).tolist()
        [[False, True, True, False, False]]
    """
    first = (start * (length - number + 1)).long().clamp_max(length - number)
    place = torch.arange(size, device=start.device)
    return (place >= first[..., None]) & (place < (first + number)[..., None])
