"""views.png, what the network sees; and progress.png, how the run is going."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_progress", "draw_views"]

_COLUMNS = 8


def draw_views(stacks: Mapping[str, Tensor], path: Path) -> None:
    """Draw the middle axial slice of each image, a row a stack.

    Args:
        stacks: Named stacks, (N, 1, z, y, x), 0 to 1; the first eight of each are drawn.
        path: The PNG file, written aside and renamed.
    """
    from matplotlib.figure import Figure

    if not stacks:
        return
    columns = min(_COLUMNS, max(len(stack) for stack in stacks.values()))
    figure = Figure(figsize=(1.6 * columns, 1.8 * len(stacks)), layout="constrained")
    axes = figure.subplots(len(stacks), columns, squeeze=False)
    for row, (name, stack) in zip(axes, stacks.items(), strict=True):
        images = stack[:columns, 0, stack.shape[2] // 2].detach().float().cpu().numpy()
        for axis in row:
            axis.set_axis_off()
        for axis, image in zip(row, images, strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        row[0].set_title(f"{name}, {tuple(stack.shape[2:])}", loc="left", fontsize=8)
    _save(figure, path)


def draw_progress(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the rows of metrics.jsonl: loss and its parts, signals, held-out signals, learning rate, data wait.

    Args:
        rows: As `medssl.engine.run.read_metrics` returns them.
        path: The PNG file, written aside and renamed.
    """
    from matplotlib.figure import Figure

    names = sorted({name for row in rows for name, value in row.items() if isinstance(value, (int, float))})
    panels = {
        "loss": [n for n in names if n == "loss" or n.startswith("part/")],
        "signals": [n for n in names if n.startswith("signal/")],
        "held-out": [n for n in names if n.startswith("held_out/")],
        "learning rate": [n for n in names if n in ("lr", "lr_encoder")],
        "gradient norm": [n for n in names if n == "grad_norm"],
        "share of time waiting for data": [n for n in names if n == "data_wait"],
    }
    panels = {title: members for title, members in panels.items() if members}
    if not panels:
        return
    figure = Figure(figsize=(12, 3.2 * -(-len(panels) // 2)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).ravel()
    for axis, (title, members) in zip(axes, panels.items(), strict=False):
        for name in members:
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            steps, values = np.array(points, dtype=float).T
            axis.plot(steps, values, label=name.split("/")[-1], linewidth=1.2, marker="." if len(points) < 3 else "")
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.grid(alpha=0.3)
        if len(members) > 1 or "/" in members[0]:
            axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write the figure without pyplot, which would keep global state and may want a display."""
    aside = path.with_name(f".{path.stem}.{os.getpid()}.png")
    figure.savefig(aside, dpi=120)
    aside.replace(path)
