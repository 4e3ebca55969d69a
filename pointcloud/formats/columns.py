"""What the columns of a table of points mean: named, or guessed only where the numbers leave no doubt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError

__all__ = ["ALIASES", "guessed", "is_axis", "is_x", "listed", "named"]

# What files call each column, lower case and without its unit.
ALIASES = {
    "x": ("x", "//x", "#x", "coord_x", "position_x", "easting"),
    "y": ("y", "coord_y", "position_y", "northing"),
    "z": ("z", "coord_z", "position_z", "elevation"),
    "nx": ("nx", "normal_x", "n_x", "normalx"),
    "ny": ("ny", "normal_y", "n_y", "normaly"),
    "nz": ("nz", "normal_z", "n_z", "normalz"),
    "red": ("red", "r", "diffuse_red"),
    "green": ("green", "g", "diffuse_green"),
    "blue": ("blue", "b", "diffuse_blue"),
    "intensity": ("intensity", "i", "reflectance", "remission", "scalar_intensity"),
    "label": (
        "label",
        "labels",
        "class",
        "classification",
        "scalar_label",
        "scalar_classification",
        "semantic",
        "semantic_label",
        "sem_label",
        "sem_class",
        "class_id",
        "label_id",
        "segment",
        "seg",
    ),
}
_WHAT = {name: known for known, names in ALIASES.items() for name in names}
_UNIT = re.compile(r"^(.*?)\s*(?:_|\[|\()(mm|m)[\])]?$")  # x_mm, x [mm], x(mm)
_SHOWN = 12  # names of columns in one warning
# A Gaussian splat: f_dc is the colour that does not depend on the view, in units of the constant spherical harmonic.
_SPLAT_COLOURS, _HARMONIC = ("f_dc_0", "f_dc_1", "f_dc_2"), 0.28209479177387814
_FEW = 64  # different values: no more are taken for classes


def named(columns: dict[str, npt.NDArray[np.generic]], path: Path) -> dict[str, Any]:
    """Return arguments for ``make_cloud`` from columns with names.

    Args:
        columns: Arrays (N,) by the names of the file.
        path: The file, for messages.

    Returns:
        ``points`` and whichever of ``normals``, ``colours``, ``intensity``, ``labels`` are there; ``unit`` where the
        names of x, y and z say it; and ``warnings``, which names the columns that were not read.

    Raises:
        FormatError: There is no x, y or z, or their units differ.
    """
    known: dict[str, npt.NDArray[np.generic]] = {}
    units: dict[str, str] = {}
    unread = []
    for name, column in columns.items():
        bare, unit = _without_unit(name.strip().lower())
        what = _WHAT.get(bare)
        if what and what not in known and (not unit or what in ("x", "y", "z")):
            known[what] = column
            units[what] = unit
        else:
            unread.append(name)
    missing = [axis for axis in "xyz" if axis not in known]
    if missing:
        found = listed(list(columns)) or "nothing"
        raise FormatError(path, f"There is no column {', '.join(missing)}. Found: {found}.")
    places = [known[axis] for axis in "xyz"]
    parts: dict[str, Any] = {"points": np.stack(places, axis=1)}
    said = {units[axis] for axis in "xyz"}
    if len(said) > 1:
        raise FormatError(path, f"The columns x, y, z have different units: {', '.join(map(repr, sorted(said)))}.")
    if "" not in said:
        parts["unit"] = said.pop()
    for part, names in (("normals", ("nx", "ny", "nz")), ("colours", ("red", "green", "blue"))):
        there = [name for name in names if name in known]
        if len(there) == 3:
            parts[part] = np.stack([known[name] for name in names], axis=1)
        else:
            unread.extend(there)
    if "colours" not in parts and all(name in columns for name in _SPLAT_COLOURS):
        unread = [name for name in unread if name not in _SPLAT_COLOURS]
        harmonics = np.stack([columns[name] for name in _SPLAT_COLOURS], axis=1).astype(np.float64)
        parts["colours"] = np.clip(0.5 + _HARMONIC * harmonics, 0.0, 1.0)
    if "intensity" in known:
        parts["intensity"] = known["intensity"]
    if "label" in known:
        parts["labels"] = known["label"]
    parts["warnings"] = (f"Columns that are not read: {listed(unread)}.",) if unread else ()
    return parts


def is_axis(name: str) -> bool:
    """Tell whether a name is one of the names of x, y or z, with a unit or without."""
    return _WHAT.get(_without_unit(name.strip().lower())[0]) in ("x", "y", "z")


def is_x(name: str) -> bool:
    """Tell whether a name is one of the names of x, with a unit or without."""
    return _WHAT.get(_without_unit(name.strip().lower())[0]) == "x"


def listed(names: Sequence[str]) -> str:
    """Return names with commas between them, the first dozen of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _without_unit(name: str) -> tuple[str, str]:
    found = _UNIT.match(name)
    return (found[1], found[2]) if found else (name, "")


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
