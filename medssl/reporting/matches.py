"""The picture of a place that was looked for in other scans: three planes through it, a row a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.writing import atomic_write

__all__ = ["draw_matches"]

Shown = tuple[str, npt.NDArray[np.int16], tuple[int, int, int]]
_PLANES = ("axial", "coronal", "sagittal")
_MOST = 12


def draw_matches(asked: Shown, found: Sequence[Shown], path: Path) -> Path:
    """Draw the three planes through the place of the first scan, and through those found; write aside and rename.

    Args:
        asked: Name, values (z, y, x) and voxel of the scan that was asked from.
        found: The same of the others; the first dozen are drawn.
        path: The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [asked, *found[:_MOST]]
    figure = Figure(figsize=(7.5, 2.6 * len(rows)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 3, squeeze=False)
    for number, (line, (name, values, voxel)) in enumerate(zip(panels, rows, strict=True)):
        low, high = np.percentile(values, [0.5, 99.5])
        for axis, panel in enumerate(line):
            across, along = (other for other in range(3) if other != axis)
            plane = np.take(values, voxel[axis], axis=axis)
            panel.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1), origin="lower")
            colour = "#E69F00" if number else "#009E73"
            panel.axhline(voxel[across], color=colour, linewidth=0.7)
            panel.axvline(voxel[along], color=colour, linewidth=0.7)
            panel.set_axis_off()
            if not number:
                panel.set_title(_PLANES[axis], fontsize=8)
        line[0].text(
            0.02,
            0.98,
            f"{'asked: ' if not number else ''}{name[-40:]}",
            color="white",
            fontsize=7,
            transform=line[0].transAxes,
            va="top",
            backgroundcolor="black",
            parse_math=False,
        )
    with atomic_write(path) as aside:
        figure.savefig(aside, format="png")
    return path
