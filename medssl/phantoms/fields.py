"""Smooth random fields over a unit cube: cubic B-splines through a coarse grid of normal draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["smooth_field", "spline_basis"]

Field = npt.NDArray[np.float32]


def spline_basis(length: int, nodes: int) -> Field:
    """Return the weights with which ``nodes`` control points make ``length`` samples, shape (length, nodes).

    Uniform cubic B-splines; each row sums to 1. Samples lie at the centres of ``length`` equal cells, so the same
    control points give the same field at any resolution.

    Args:
        length: Samples along the axis.
        nodes: Control points along the axis, at least 4.
    """
    place = (np.arange(length) + 0.5) / length * (nodes - 3)
    cell = np.minimum(place.astype(int), nodes - 4)
    t = place - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6.0
    basis = np.zeros((length, nodes), dtype=np.float32)
    np.put_along_axis(basis, cell[:, None] + np.arange(4), weights.astype(np.float32), axis=1)
    return basis


def smooth_field(generator: np.random.Generator, shape: tuple[int, int, int], nodes: int) -> Field:
    """Return a smooth random field of mean about 0 and standard deviation about 1, shape (z, y, x).

    Args:
        generator: Where the control points are drawn from: ``nodes`` cubed draws, whatever the shape.
        shape: Samples along (z, y, x).
        nodes: Control points an axis, at least 4; more of them make finer detail.
    """
    control = generator.standard_normal((nodes, nodes, nodes)).astype(np.float32)
    for length in shape:
        # Each turn contracts the first axis and puts the samples last: after three turns the order is (z, y, x) again.
        control = np.tensordot(control, spline_basis(length, nodes), axes=(0, 1))
    # A B-spline smooths its control points: per axis the mean square weight is about 0.48.
    result: Field = np.ascontiguousarray(control / np.float32(0.479**1.5), dtype=np.float32)
    return result
