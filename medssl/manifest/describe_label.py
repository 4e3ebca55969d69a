"""What a row says of its label: whether it can be read, how it lies, and which values it holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from medssl.errors import FormatError, UnfitError
from medssl.formats.dicom_labels import is_label_object
from medssl.formats.label_grid import grid_gap
from medssl.formats.label_map import Label, label_header, label_of
from medssl.formats.scan import Scan, ScanHeader
from medssl.manifest.sources import Source

__all__ = ["label_facts", "label_geometry"]


def label_geometry(source: Source, image: ScanHeader, row: dict[str, Any]) -> None:
    """Flag a label that does not lie on its image's grid, from headers alone.

    Args:
        source: The scan; has a label.
        image: Its header.
        row: Facts of the scan; gains flags and notes.
    """
    assert source.label_path is not None
    if is_label_object(source.label_path):
        return  # it takes its grid from the scan
    try:
        header = label_header(source.label_path, image)
    except (FormatError, OSError) as error:
        _unreadable(error, row)
    else:
        _lies(header, image, row)


def label_facts(source: Source, scan: Scan, row: dict[str, Any]) -> None:
    """Add the values of a label, and what is wrong with it.

    The values are those that a store holds: counted after one-hot channels, 255 and the like were understood, and
    without voxels that the data set says to ignore.

    Args:
        source: The scan; has a label.
        scan: The same as it was read.
        row: Facts of the scan; gains flags, notes, ``label_values`` and ``label_voxels``.
    """
    assert source.label_path is not None
    try:
        label = label_of(
            source.label_path, scan.header, classes=dict(source.structures), ignored=source.ignored, voxels=scan.values
        )
    except (FormatError, OSError) as error:
        _unreadable(error, row)
        if not isinstance(error, UnfitError):
            return
        label_geometry(source, scan.header, row)
        return
    _lies(label.header, scan.header, row)
    row["notes"] += label.notes
    _count(label, source, row)


def _count(label: Label, source: Source, row: dict[str, Any]) -> None:
    values, counts = np.unique(label.values, return_counts=True)
    found = {int(v): int(n) for v, n in zip(values, counts, strict=True)}
    if label.ignored_voxels:
        row["notes"].append(f"label ignored in {label.ignored_voxels} voxels, as the data set says")
        found[-1] -= label.ignored_voxels
        found = {value: count for value, count in found.items() if count}
    row["label_values"], row["label_voxels"] = list(found), list(found.values())
    if not any(value > 0 for value in found):
        row["flags"].append("label-empty")


def _unreadable(error: Exception, row: dict[str, Any]) -> None:
    kind = error.kind if isinstance(error, UnfitError) else "label-unreadable"
    if kind in row["flags"]:
        return
    row["flags"].append(kind)
    row["notes"].append(f"label unreadable: {error.reason if isinstance(error, FormatError) else error}")


def _lies(label: ScanHeader, image: ScanHeader, row: dict[str, Any]) -> None:
    gap = grid_gap(label, image)
    if gap is None or gap.kind in row["flags"]:
        return
    row["flags"].append(gap.kind)
    what = "shape" if gap.kind == "label-shape-differs" else "affine"
    row["notes"].append(f"label {what} differs: {gap.words}")
