"""A cloud of a store as a figure: seen from the front and a little above, its parts in colours of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medssl.cloud_picture import cloud_picture, name_colours
from medssl.quoting import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pointcloud.store import CloudStore

__all__ = ["cloud_figure"]


def cloud_figure(store: CloudStore, row: int) -> Figure:
    """Draw a cloud.

    Args:
        store: The store.
        row: Which of its clouds.

    Returns:
        The figure: nearer points are brighter; where points have classes, each has its colour, named below.
    """
    from matplotlib.figure import Figure

    entry = store.entries[row]
    labels = store.labels(row) if entry.label_file else None
    figure = Figure(figsize=(4.2, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.imshow(cloud_picture(store.points(row), size=480, labels=labels))
    axis.set_axis_off()
    named = "" if entry.label is None else f", {store.classes.get(entry.label, entry.label)}"
    axis.set_title(visible(f"{entry.id}{named}: {entry.points:,} points"), fontsize=9, parse_math=False)
    if labels is not None:
        name_colours(figure, {int(value): store.parts.get(int(value), str(value)) for value in np.unique(labels)})
    return figure
