"""What the columns of a table of points mean: named, or guessed only where the numbers leave no doubt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError

__all__ = ["ALIASES", "guessed", "named"]

# What files call each column, lower case.
ALIASES = {
    "x": ("x", "//x", "#x", "x_mm", "x_m", "coord_x", "position_x", "easting"),
    "y": ("y", "y_mm", "y_m", "coord_y", "position_y", "northing"),
    "z": ("z", "z_mm", "z_m", "coord_z", "position_z", "elevation"),
    "nx": ("nx", "normal_x", "n_x"),
    "ny": ("ny", "normal_y", "n_y"),
    "nz": ("nz", "normal_z", "n_z"),
    "red": ("red", "r", "diffuse_red"),
    "green": ("green", "g", "diffuse_green"),
    "blue": ("blue", "b", "diffuse_blue"),
    "intensity": ("intensity", "i", "reflectance", "remission", "scalar_intensity"),
    "label": ("label", "labels", "class", "classification", "scalar_label", "scalar_classification", "semantic"),
}
_WHAT = {name: known for known, names in ALIASES.items() for name in names}
_FEW = 64  # different values: no more are taken for classes


def named(columns: dict[str, npt.NDArray[np.generic]], path: Path) -> dict[str, Any]:
    """Return arguments for ``make_cloud`` from columns with names.

    Args:
        columns: Arrays (N,) by the names of the file.
        path: The file, for messages.

    Returns:
        ``points`` and whichever of ``normals``, ``colours``, ``intensity``, ``labels`` are there; and ``warnings``,
        which names the columns that were not read.

    Raises:
        FormatError: There is no x, y or z.
    """
    known: dict[str, npt.NDArray[np.generic]] = {}
    unread = []
    for name, column in columns.items():
        what = _WHAT.get(name.strip().lower())
        if what and what not in known:
            known[what] = column
        else:
            unread.append(name)
    missing = [axis for axis in "xyz" if axis not in known]
    if missing:
        found = ", ".join(columns) or "nothing"
        raise FormatError(path, f"There is no column {', '.join(missing)}. Found: {found}.")
    parts: dict[str, Any] = {"points": np.stack([known[axis] for axis in "xyz"], axis=1)}
    for part, names in (("normals", ("nx", "ny", "nz")), ("colours", ("red", "green", "blue"))):
        there = [name for name in names if name in known]
        if len(there) == 3:
            parts[part] = np.stack([known[name] for name in names], axis=1)
        else:
            unread.extend(there)
    if "intensity" in known:
        parts["intensity"] = known["intensity"]
    if "label" in known:
        parts["labels"] = known["label"]
    parts["warnings"] = (f"Columns that are not read: {', '.join(unread)}.",) if unread else ()
    return parts


def guessed(values: npt.NDArray[np.generic], path: Path, *, order: Sequence[str] = ()) -> dict[str, Any]:
    """Return arguments for ``make_cloud`` from columns without names.

    The first three are x, y, z; a column before them that counts the points is left out. Further ones are taken where
    the numbers are plain: three that have length 1 are normals, three whole numbers of 0 to 255 are colours, one
    fourth column is an intensity unless it may be a label, and after six comes a label of few whole numbers. Others are
    not read, and a warning says so.

    Args:
        values: Array (N, columns).
        path: The file, for messages.
        order: What the suffix promises of the columns after z, by the names of ``ALIASES``.

    Raises:
        FormatError: There are fewer than three columns, or fewer than the suffix promises.
    """
    if values.ndim != 2 or values.shape[1] < 3:
        raise FormatError(path, f"The table has shape {values.shape}; at least three columns (x, y, z) were expected.")
    counted = not order and values.shape[1] > 3 and _counts(values[:, 0])
    first = 1 if counted else 0
    values = values[:, first:]
    rest = values.shape[1] - 3
    if order and rest < len(order):
        raise FormatError(path, f"The suffix '{path.suffix}' promises x, y, z, {', '.join(order)}; found {rest + 3}.")
    there = np.isfinite(values[:, :3]).all(axis=1)
    names = list(order) if order else _guess(values[there] if there.any() else values, path.suffix.lower())
    unsure = [f"column {first + 3 + at + 1}" for at in range(len(names), rest)]
    parts = named(dict(zip(["x", "y", "z", *names, *unsure], values.T, strict=True)), path)
    warnings = ["Column 1 counts the points and is no coordinate; it is not read."] if counted else []
    if unsure:
        warnings.append(
            f"What these columns are is not sure, so they are not read: {', '.join(unsure)}. Name the columns in a "
            "first line, such as 'x y z intensity label', or keep them by name in an .npz."
        )
    return parts | {"warnings": tuple(warnings)}


def _guess(values: npt.NDArray[np.generic], suffix: str) -> list[str]:
    """Return names of the columns after z, as far as they are sure."""
    rest = values.shape[1] - 3
    if rest == 1:
        return [] if _may_be_label(values[:, 3]) else ["intensity"]
    if rest not in (3, 4):
        return []
    if _are_normals(values[:, 3:6]):
        names = ["nx", "ny", "nz"]
        return [*names, "label"] if rest == 4 and _are_whole(values[:, 6]) else names
    colours = ["red", "green", "blue"]
    if rest == 3:
        return colours if _are_colours(values[:, 3:6]) else []
    before, after = _are_colours(values[:, 3:6]), _are_colours(values[:, 4:7])
    if after and (not before or suffix == ".pts"):  # .pts has an intensity before its colours
        return ["intensity", *colours]
    if before and _may_be_label(values[:, 6]):
        values_of = [len(np.unique(values[:, column])) for column in range(3, 7)]
        return [*colours, "label"] if not after or 2 * values_of[3] < min(values_of[:3]) else []
    return colours if before and not after else []


def _counts(values: npt.NDArray[np.generic]) -> bool:
    """Tell whether a column is 0, 1, 2, ... or 1, 2, 3, ..."""
    return len(values) > 2 and bool(values[0] in (0, 1) and (np.diff(values.astype(np.float64)) == 1).all())


def _may_be_label(values: npt.NDArray[np.generic]) -> bool:
    return _are_whole(values) and len(np.unique(values)) <= _FEW


def _are_normals(values: npt.NDArray[np.generic]) -> bool:
    length = np.linalg.norm(values.astype(np.float64), axis=1)
    return bool((np.abs(length - 1) < 0.01).mean() > 0.9) and bool((length < 1.01).all())


def _are_whole(values: npt.NDArray[np.generic]) -> bool:
    reals = values.astype(np.float64)
    return bool(np.isfinite(reals).all() and (reals == np.floor(reals)).all())


def _are_colours(values: npt.NDArray[np.generic]) -> bool:
    return _are_whole(values) and bool(values.min() >= 0 and values.max() <= 255)
