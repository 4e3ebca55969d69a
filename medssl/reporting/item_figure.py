"""A scan of a store as a figure: three planes a channel, through where its labels are largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medssl.cloud_picture import PALETTE, name_colours
from medssl.quoting import visible
from medssl.reporting.pictures import PLANES, focus_of, grey_levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medssl.store.read import Store

__all__ = ["scan_figure"]

_INCHES = 2.6


def scan_figure(store: Store, row: int) -> Figure:
    """Draw a scan, the radiological way: the patient's right is on the left.

    Args:
        store: The store.
        row: Which of its scans.

    Returns:
        The figure: a row a channel that the case has; borders of structures, a colour each, and their names.
    """
    from matplotlib.figure import Figure

    entry = store.entries[row]
    labels = store.labels(row) if entry.label_file else np.zeros(entry.shape, np.int16)
    labels = np.where(np.isin(labels, store.ignored), 0, labels)
    found = focus_of([labels], entry.spacing_mm)
    at = found[0] if found else tuple(n // 2 for n in entry.shape)
    shown = [number for number, there in enumerate(entry.present) if there]
    values = sorted(int(value) for value in np.unique(labels) if value > 0)
    colours = {value: PALETTE[number % len(PALETTE)] for number, value in enumerate(values)}
    figure = Figure(figsize=(_INCHES * 3, _INCHES * len(shown) + 0.6), layout="constrained")
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for line, number in zip(axes, shown, strict=True):
        channel = entry.channels[number]
        image = store.values(row, number)
        physical = image.astype(np.float32) * channel.slope + channel.intercept
        low, high = grey_levels(physical, hounsfield=channel.hounsfield)
        for axis, (cut, plane) in enumerate(zip(line, PLANES, strict=True)):
            tall, wide = (entry.spacing_mm[a] for a in range(3) if a != axis)
            picture, marked = (np.take(part, at[axis], axis=axis)[::-1, ::-1] for part in (physical, labels))
            cut.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=tall / wide, interpolation="nearest")
            for value in values:
                if (marked == value).any() and min(marked.shape) > 1:
                    cut.contour(marked == value, levels=[0.5], colors=[colours[value]], linewidths=1.2)
            cut.set_title(f"{plane}, {'zyx'[axis]} {at[axis] + 1} of {entry.shape[axis]}", fontsize=8)
            cut.set_axis_off()
        if len(shown) > 1:
            line[0].set_title(visible(f"{channel.name}: {line[0].get_title()}"), fontsize=8, parse_math=False)
    figure.suptitle(visible(entry.id), fontsize=9, parse_math=False)
    name_colours(figure, {n: store.classes.get(value, str(value)) for n, value in enumerate(values)})
    return figure
