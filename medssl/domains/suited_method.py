"""Which method suits a set of scans: one rule for ``auto``, for what ``cache`` names next, and for the README.

It follows what scans allow, and what was measured with an interval (docs/methods.md, docs/results.md): contrast of
body parts and position need scans of one region; where neither holds, reconstruction asks for least. Which of them
saves most labels is not shown, and what is said beside a choice says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

__all__ = ["suited_cloud_method", "suited_method"]

_SAME_REGION = 0.25  # spread of body sizes (deviation over mean) below which scans are taken to show the same region
_PARTED = 8  # voxels of a body along z that can be cut into four parts
_FEWEST = 4  # patients between whom positions can be compared
_LEAST_CONTRAST = 16  # clouds among which one can be told from the others


def suited_method(
    shapes: Sequence[Sequence[int]], spacings_mm: Sequence[Sequence[float]], *, patients: int, segmented: bool
) -> tuple[str, str]:
    """Return the method's name, and why.

    Args:
        shapes: Voxels of each scan's body, (z, y, x).
        spacings_mm: Their voxel sizes, (z, y, x).
        patients: How many patients there are to train on.
        segmented: Whether a segmentation is to come, rather than classes of whole scans.
    """
    if patients < _FEWEST:
        few = f"{patients} patient{'s are' if patients != 1 else ' is'} too few to compare positions between"
        return "masked", few
    lengths = np.array(
        [np.array(shape) * np.array(spacing) for shape, spacing in zip(shapes, spacings_mm, strict=True)]
    )
    spread = float((lengths.std(axis=0) / lengths.mean(axis=0)).max())
    if spread > _SAME_REGION:
        return "masked", f"body sizes differ by {spread:.0%}, so the scans hardly show the same region"
    alike = f"body sizes differ by {spread:.0%} only, so position means the same in all scans"
    if segmented and median(shape[0] for shape in shapes) >= _PARTED:
        return (
            "global_contrast",
            f"{alike}; contrast of body parts beat random weights in our runs; that it saves labels is not shown",
        )
    return "voco_masked", f"{alike}; reconstruction joins it"


def suited_cloud_method(clouds: int) -> tuple[str, str]:
    """Return the method for clouds, and why.

    Args:
        clouds: How many there are to train on.
    """
    if clouds < _LEAST_CONTRAST:
        return "point_mae", f"{clouds} clouds are too few to tell from each other"
    return (
        "point_distil_contrast",
        "distillation with contrast; its frozen features lay above random weights on synthetic shapes (3 runs), and on "
        "surfaces of organs nothing did",
    )
