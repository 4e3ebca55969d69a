"""Some clouds with their true and their predicted parts side by side, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.cloud_picture import cloud_picture
from medssl.writing import atomic_write

__all__ = ["PartExample", "draw_part_examples"]

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


def draw_part_examples(examples: Sequence[PartExample], path: Path) -> None:
    """Draw clouds in columns: the truth first, then what each run says, in the same colours.

    Args:
        examples: At least one, all of the same runs.
        path: The PNG file, written aside and renamed.
    """
    from matplotlib.figure import Figure

    rows = ["truth", *examples[0].predicted]
    figure = Figure(figsize=(1.9 * len(examples) + 0.4, 1.9 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), len(examples), squeeze=False)
    for column, one in enumerate(examples):
        known = np.flatnonzero(one.truth >= 0)
        # Colours by rank among the cloud's own parts, so that neighbouring numbers are told apart.
        every = np.unique(np.concatenate([one.truth[known], *(found[known] for found in one.predicted.values())]))
        for row, parts in enumerate([one.truth, *one.predicted.values()]):
            axis = axes[row][column]
            axis.set_axis_off()
            axis.imshow(cloud_picture(one.points[known], labels=np.searchsorted(every, parts[known])))
            if not row:
                axis.set_title(one.title, fontsize=8)
    for row, name in enumerate(rows):
        axes[row][0].text(-0.04, 0.5, name, transform=axes[row][0].transAxes, rotation=90, fontsize=8,
                          va="center", ha="right")  # fmt: skip
    with atomic_write(path) as aside:
        figure.savefig(aside, format="png", dpi=120)
