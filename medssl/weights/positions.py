"""Tables of places: a class token's own row, and rows in another order of axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from medssl.errors import DataError

__all__ = ["behind_first", "cube_side", "placed", "turning_rows"]


def placed(token: Tensor, positions: Tensor) -> Tensor:
    """Return a class token (1, 1, C) with its place, the first row of (1, 1 + N, C), added."""
    return token + positions[:, :1]


def behind_first(positions: Tensor) -> Tensor:
    """Return the rows (1, N, C) behind the class token's of (1, 1 + N, C)."""
    return positions[:, 1:].clone()


def turning_rows(grid: Sequence[int], axes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Return what puts rows (1, N, C) of a grid, whose axis i is axis ``axes[i]`` of (z, y, x), into that order."""
    back = [list(axes).index(axis) for axis in range(3)]

    def turned(rows: Tensor) -> Tensor:
        laid = rows.view(rows.shape[0], *grid, rows.shape[2])
        return laid.permute(0, *(1 + axis for axis in back), 4).flatten(1, 3).contiguous()

    return turned


def cube_side(rows: int, shown: str) -> int:
    """Return the side of a cube of so many places.

    Raises:
        DataError: It is none.
    """
    side: int = round(max(0, rows) ** (1 / 3))
    if side < 1 or side**3 != rows:
        raise DataError(f"{shown}: its table has {rows} places, which are no cube, and nothing says their grid.")
    return side
