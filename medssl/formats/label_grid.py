"""Whether a label lies on its scan's grid, and how far it is off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from medssl import geometry

__all__ = ["GridGap", "grid_gap", "turned_alike"]

Affine = npt.NDArray[np.float64]
Shape = tuple[int, ...]
_TOLERANCE_VOXELS = 0.1


class _Grid(Protocol):
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def affine(self) -> Affine: ...


@dataclass(frozen=True)
class GridGap:
    """How two grids differ.

    Attributes:
        shape: The label's shape, (z, y, x), and the image's; both as their files have them.
        kind: "label-shape-differs" or "label-affine-differs".
        apart_mm: Greatest distance between corresponding corners, after both are turned alike.
    """

    shape: tuple[Shape, Shape]
    kind: str
    apart_mm: float

    @property
    def words(self) -> str:
        """The same as the end of a sentence."""
        if self.kind == "label-shape-differs":
            own, image = (" x ".join(map(str, shape)) for shape in self.shape)
            return f"shape {own} (z, y, x) against {image}, corners up to {self.apart_mm:.2f} mm apart"
        return f"a corner lies {self.apart_mm:.2f} mm from the image's"


def grid_gap(label: _Grid, image: _Grid) -> GridGap | None:
    """Return how a label's grid differs from its image's; None where they are one.

    They are one where the same voxels lie at the same places, in whatever order of axes: no corner is off by more
    than a tenth of the smallest side of a voxel.

    Args:
        label: Header of the label.
        image: Header of the image.
    """
    own, other = tuple(label.shape), tuple(image.shape)
    tolerance = _TOLERANCE_VOXELS * min(geometry.spacing_mm(image.affine))
    if own == other and _apart(own, label.affine, other, image.affine) <= tolerance:
        return None
    (own_turned, own_affine), (turned, affine) = (_turned(g) for g in (label, image))
    apart = _apart(own_turned, own_affine, turned, affine)
    if own_turned == turned and apart <= tolerance:
        return None
    kind = "label-shape-differs" if own_turned != turned else "label-affine-differs"
    return GridGap((own, other), kind, apart)


def turned_alike(values: npt.NDArray[np.generic], label: _Grid, image: _Grid) -> npt.NDArray[np.generic]:
    """Return a label on its image's grid (`grid_gap` is None) in canonical axes, voxel by voxel as the image is.

    Args:
        values: The label, (z, y, x).
        label: Its header.
        image: Header of the image.
    """
    same = tuple(label.shape) == tuple(image.shape)
    tolerance = _TOLERANCE_VOXELS * min(geometry.spacing_mm(image.affine))
    if same and _apart(label.shape, label.affine, image.shape, image.affine) <= tolerance:
        # at 45 degrees a rounding error in one affine would turn the two differently
        return geometry.to_canonical(values, image.affine)[0]
    return geometry.to_canonical(values, label.affine)[0]


def _turned(grid: _Grid) -> tuple[Shape, Affine]:
    turned, affine = geometry.to_canonical(np.broadcast_to(np.uint8(0), grid.shape), grid.affine)
    return turned.shape, affine


def _apart(own: Shape, own_affine: Affine, other: Shape, affine: Affine) -> float:
    """Return the greatest distance in mm between corners of the two, from face to face."""
    there = own_affine @ _corners(own) - affine @ _corners(other)
    return float(np.linalg.norm(there[:3], axis=0).max())


def _corners(shape: Shape) -> Affine:
    z, y, x = shape
    ends = [(-0.5, n - 0.5) for n in (x, y, z)]
    return np.array(np.meshgrid(*ends, [1.0], indexing="ij")).reshape(4, -1)
