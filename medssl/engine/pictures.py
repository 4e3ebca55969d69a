"""views.png, what the network sees; and progress.png, how the run is going."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from medssl.cloud_picture import cloud_picture
from medssl.writing import atomic_write

__all__ = ["draw_progress", "draw_views", "figure_of_file", "progress_figure"]

_COLUMNS = 8
_PANELS_WIDE = 3
_LOGARITHMIC = ("loss and its parts", "gradient norm")  # they fall by orders of magnitude at the start

_BESIDE = {"chance": ("chance", "--"), "handmade": ("hand-made features", ":")}  # label and line


def draw_views(stacks: Mapping[str, Tensor], path: Path, channels: Sequence[str] = ()) -> None:
    """Draw the middle axial slice of each image, or each cloud as its points; a row a stack, of images a row a channel.

    Args:
        stacks: Named stacks, as `medssl.methods.contract.Method.pictures` has them; the first eight of each are drawn.
        channels: Names of the channels of images; numbers stand for those that are not there.
        path: The PNG file, written aside and renamed.
    """
    from matplotlib.figure import Figure

    if not stacks:
        return
    stacks = _by_channel(stacks, channels)
    columns = min(_COLUMNS, max(len(stack) for stack in stacks.values()))
    figure = Figure(figsize=(1.6 * columns, 1.8 * len(stacks)), layout="constrained")
    axes = figure.subplots(len(stacks), columns, squeeze=False)
    for row, (name, stack) in zip(axes, stacks.items(), strict=True):
        for axis in row:
            axis.set_axis_off()
        shown = stack[:columns].detach().float().cpu().numpy()
        for axis, item in zip(row, shown, strict=False):
            if item.ndim == 2:
                values = item[:, 3] if item.shape[1] == 4 else None
                axis.imshow(cloud_picture(item[:, :3], values=values))
            else:
                axis.imshow(item[0, item.shape[1] // 2], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        size = f"{int(np.isfinite(shown[0, :, 0]).sum())} points" if shown.ndim == 3 else f"{tuple(stack.shape[2:])}"
        row[0].set_title(f"{name}, {size}", loc="left", fontsize=8)
    _save(figure, path)


def _by_channel(stacks: Mapping[str, Tensor], channels: Sequence[str]) -> dict[str, Tensor]:
    """Return stacks of images of one channel each."""
    found: dict[str, Tensor] = {}
    for name, stack in stacks.items():
        if stack.dim() != 5 or stack.shape[1] == 1:
            found[name] = stack
            continue
        for number in range(stack.shape[1]):
            told = channels[number] if len(channels) == stack.shape[1] else f"channel {number + 1}"
            found[f"{name}, {told}"] = stack[:, number : number + 1]
    return found


def figure_of_file(path: Path) -> Figure:
    """Return a figure that shows a PNG file, pixel for pixel."""
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    pixels = imread(path)
    figure = Figure(figsize=(pixels.shape[1] / 120, pixels.shape[0] / 120), dpi=120)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(pixels)
    axis.set_axis_off()
    return figure


def draw_progress(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write `progress_figure` to a PNG file, aside and renamed; nothing where there is none."""
    figure = progress_figure(rows)
    if figure is not None:
        _save(figure, path)


def progress_figure(rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw the rows of metrics.jsonl: the loss and its parts, and one panel for each quantity worth watching.

    A quantity that is measured in training and on held-out scans has both in one panel, and beside them chance and what
    hand-made features come to.

    Args:
        rows: As `medssl.engine.run.read_metrics` returns them.

    Returns:
        The figure; None where no row has a number to draw.
    """
    from matplotlib.figure import Figure

    panels = _panels({name for row in rows for name, value in row.items() if isinstance(value, int | float)})
    if not panels:
        return None
    lines = -(-len(panels) // _PANELS_WIDE)
    figure = Figure(figsize=(4.2 * _PANELS_WIDE, 2.6 * lines), layout="constrained")
    axes = figure.subplots(lines, _PANELS_WIDE, squeeze=False).ravel()
    for axis, (title, members) in zip(axes, panels.items(), strict=False):
        for name in members:
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            steps, values = np.array(points, dtype=float).T
            held_out = name.startswith("held_out/")
            kind = name.partition("/")[0]
            if kind in _BESIDE:
                axis.plot(steps, values, label=_BESIDE[kind][0], color="0.5", linestyle=_BESIDE[kind][1], linewidth=1.1)
                continue
            axis.plot(
                steps,
                values,
                label=_label(name),
                color="tab:orange" if held_out else None,
                linewidth=2.0 if held_out else 1.1,
                marker="o" if held_out or len(points) < 3 else "",
                markersize=3.5,
            )
            if title in _LOGARITHMIC and (values > 0).all():
                axis.set_yscale("log")
        axis.set_title(title, loc="left", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if len(members) > 1 or members[0].startswith("held_out/"):
            axis.legend(fontsize=7, frameon=False)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return figure


def _panels(names: set[str]) -> dict[str, list[str]]:
    """Return the names that each panel shows, by the panel's title."""
    panels = {"loss and its parts": sorted(n for n in names if n == "loss" or n.startswith("part/"))}
    for name in sorted(names):
        kind, _, quantity = name.partition("/")
        if kind in ("signal", "held_out", *_BESIDE):
            panels.setdefault(quantity.replace("_", " "), []).append(name)
    panels["learning rate"] = sorted(n for n in names if n in ("lr", "lr_encoder"))
    panels["gradient norm"] = [n for n in names if n == "grad_norm"]
    panels["share of time waiting for data"] = [n for n in names if n == "data_wait"]
    return {title: sorted(members, reverse=True) for title, members in panels.items() if members}


def _label(name: str) -> str:
    kind, _, quantity = name.partition("/")
    return {"signal": "training", "held_out": "held out"}.get(kind, quantity or kind)


def _save(figure: Figure, path: Path) -> None:
    """Write the figure without pyplot, which would keep global state and may want a display."""
    with atomic_write(path) as aside:
        figure.savefig(aside, format="png", dpi=120)
