"""Some clouds with their true and their predicted parts side by side, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.cloud_picture import PALETTE, cloud_picture
from medssl.writing import atomic_write

__all__ = ["PartExample", "draw_part_examples", "part_colours"]

Parts = npt.NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class PartExample:
    """A cloud of the picture.

    Attributes:
        title: What stands above it.
        points: (N, 3).
        truth: (N,), the part of each point, below 0 where it is not known; such points are not drawn.
        predicted: Run -> (N,).
    """

    title: str
    points: npt.NDArray[np.floating]
    truth: Parts
    predicted: Mapping[str, Parts]


def part_colours(examples: Sequence[PartExample], names: Mapping[int, str]) -> dict[int, tuple[str, str]]:
    """Return name and colour "#rrggbb" of every part that the examples show: the same in every picture.

    A cloud has few of all parts; the colours are given out in the order of the parts that are shown, so that as many as
    the palette has are distinguished.

    Args:
        examples: The clouds.
        names: Part -> name.
    """
    shown = sorted(
        {
            int(part)
            for one in examples
            for parts in (one.truth, *one.predicted.values())
            for part in np.unique(parts[one.truth >= 0])
        }
    )
    colours = {}
    for place, part in enumerate(shown):
        red, green, blue = (PALETTE[place % len(PALETTE)] * 255).round().astype(int).tolist()
        colours[part] = (names.get(part, str(part)), f"#{red:02x}{green:02x}{blue:02x}")
    return colours


def draw_part_examples(examples: Sequence[PartExample], path: Path, names: Mapping[int, str]) -> None:
    """Draw clouds in columns: the truth first, then what each run says, in the same colours; their names below.

    Args:
        examples: At least one, all of the same runs.
        path: The PNG file, written aside and renamed.
        names: Part -> name.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colours = part_colours(examples, names)
    order = np.array(list(colours), dtype=np.int64)
    rows = ["truth", *examples[0].predicted]
    lines = -(-len(colours) // 2)
    figure = Figure(figsize=(1.9 * len(examples) + 0.5, 2.0 * len(rows) + 0.3 + 0.32 * lines), layout="constrained")
    axes = figure.subplots(len(rows), len(examples), squeeze=False)
    for column, one in enumerate(examples):
        known = np.flatnonzero(one.truth >= 0)
        for row, parts in enumerate([one.truth, *one.predicted.values()]):
            axis = axes[row][column]
            axis.set_axis_off()
            axis.imshow(cloud_picture(one.points[known], labels=np.searchsorted(order, parts[known])))
            if not row:
                axis.set_title(one.title, fontsize=13)
    for row, name in enumerate(rows):
        axes[row][0].text(
            -0.04, 0.5, name, transform=axes[row][0].transAxes, rotation=90, fontsize=13, va="center", ha="right"
        )
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in colours.values()],
        loc="outside lower center",
        ncols=min(2, len(colours)),
        frameon=False,
        fontsize=15,
    )
    with atomic_write(path) as aside:
        figure.savefig(aside, format="png", dpi=120)
