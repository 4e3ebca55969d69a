"""Clouds as small pictures: seen from the front and a little above, nearer points brighter, in plain numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medssl.quoting import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PALETTE", "cloud_picture", "name_colours"]

_MOST_POINTS = 20_000
_TURN, _TILT = np.deg2rad(35.0), np.deg2rad(25.0)
_NEAR = np.array([0.98, 0.93, 0.80])
_FAR = np.array([0.16, 0.28, 0.48])
# People who see colours differently distinguish the first seven (Okabe and Ito 2008); after the last, repeated.
PALETTE = (
    np.array(
        [
            [230, 159, 0],
            [86, 180, 233],
            [0, 158, 115],
            [240, 228, 66],
            [0, 114, 178],
            [213, 94, 0],
            [204, 121, 167],
            [255, 255, 255],
            [150, 150, 150],
            [160, 140, 255],
            [120, 230, 180],
            [255, 160, 160],
            [170, 110, 60],
            [190, 220, 120],
        ]
    )
    / 255.0
)


def cloud_picture(
    points: npt.NDArray[np.floating],
    *,
    size: int = 192,
    values: npt.NDArray[np.floating] | None = None,
    labels: npt.NDArray[np.integer] | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw a cloud.

    Args:
        points: (N, 3), in any unit; z is up. Points that are NaN are not drawn.
        size: Side of the picture in pixels.
        values: (N,), 0 to 1: how strongly to colour each point; depth decides where left out.
        labels: (N,): a colour for each class.

    Returns:
        Uint8 (size, size, 3), red, green, blue, on black.
    """
    picture = np.zeros((size, size, 3))
    there = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(there) == 0:
        return picture.astype(np.uint8)
    shown = there[:: -(-len(there) // _MOST_POINTS)]
    placed = np.asarray(points[shown], dtype=np.float64)
    placed = placed - 0.5 * (placed.min(axis=0) + placed.max(axis=0))
    placed /= np.linalg.norm(placed, axis=1).max() or 1.0
    x, y, z = placed.T
    across, away = x * np.cos(_TURN) - y * np.sin(_TURN), x * np.sin(_TURN) + y * np.cos(_TURN)
    up, depth = z * np.cos(_TILT) - away * np.sin(_TILT), z * np.sin(_TILT) + away * np.cos(_TILT)
    nearness = (1.0 - depth / (np.abs(depth).max() or 1.0)) / 2
    if labels is not None:
        colours = PALETTE[np.asarray(labels[shown]) % len(PALETTE)] * (0.45 + 0.55 * nearness[:, None])
    else:
        share = nearness if values is None else np.clip(np.asarray(values[shown], dtype=np.float64), 0, 1)
        colours = _FAR + (_NEAR - _FAR) * share[:, None]
    thick = max(1, round(size / 96))
    column = np.round((across * 0.94 + 1) / 2 * (size - 1)).astype(int)
    row = np.round((1 - up * 0.94) / 2 * (size - 1)).astype(int)
    order = np.argsort(depth)[::-1]  # the nearest are drawn last
    for down in range(thick):
        for aside in range(thick):
            at = np.clip(row[order] + down, 0, size - 1), np.clip(column[order] + aside, 0, size - 1)
            picture[at] = colours[order]
    return np.round(picture * 255).astype(np.uint8)


def name_colours(figure: Figure, names: Mapping[int, str]) -> None:
    """Put names below a figure, each beside its colour of the palette, on dark ground as the pictures have.

    Args:
        figure: The figure.
        names: What each colour stands for, by its place in the palette; empty: nothing is put there.
    """
    from matplotlib.lines import Line2D

    if not names:
        return
    colours = {number: PALETTE[number % len(PALETTE)] for number in names}
    handles = [Line2D([], [], marker="o", ls="", color=colours[n], label=visible(name)) for n, name in names.items()]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, facecolor="0.15")
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_color("white")
