"""On which scale the values of a CT lie: HU, or another that a network would take for HU.

One folder of CT must be one scale. HU are said by DICOM; elsewhere they are custom, and the voxels show where it was
left: values from 0 to 1, a window of 0 to 255, an offset of 1024.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["HU", "NOT_HU", "OFFSET", "mixed_scales", "scale_of", "told"]

HU = "HU"
OFFSET = "offset above zero"
NOT_HU = "ct-not-hu"  # the flag of a CT whose values are on another scale
_NORMALISED = 1.5  # beyond what rounding leaves of -1 to 1
_STANDARDISED = 30.0  # standard deviations that voxels of a scan reach
_WINDOWED = 255.0
# Where soft tissue lies that was moved up by 1000 or 1024: the median of a crop of it, the top of a scan in air. In HU
# no scan lacks everything below water and has its densest voxels there.
_SOFT_OFFSET = (850.0, 1250.0)
_AIR_FREE_TOP = 2000.0  # a bone in a crop without air seldom exceeds this
_NAMED = 3


def scale_of(row: Mapping[str, Any]) -> str:
    """Return the scale of a CT in words; "HU" where nothing speaks against it.

    Args:
        row: Its row, or the facts of one: "format", "units", "min", "p50", "p995", "max" and "dtype"; of DICOM, its own
            word.
    """
    if row.get("format") == "dicom":
        return HU if row.get("units") == HU else "stored values without HU"
    low, middle, high = row.get("min"), row.get("p50"), row.get("max")
    if low is None or middle is None or high is None or low == high:
        return HU  # nobody looked, or there is nothing to see
    if low >= -_NORMALISED and high <= _NORMALISED:
        return "-1 to 1" if low < -0.01 else "0 to 1"
    if low > -_STANDARDISED and high < _STANDARDISED and not str(row.get("dtype")).startswith(("int", "uint")):
        return "standardised"
    if low == 0 and high == _WINDOWED:
        return "0 to 255"
    top = row.get("p995")
    soft = _SOFT_OFFSET[0] <= middle <= _SOFT_OFFSET[1] or (top is not None and top >= _SOFT_OFFSET[0])
    if low >= 0 and (high > _AIR_FREE_TOP or soft):
        return OFFSET
    return HU


def mixed_scales(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return scale -> rows of the CT volumes among these, where there are several scales; else nothing.

    Args:
        rows: Readable rows of a manifest.
    """
    found: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "volume" and row["error"] is None and (row["modality"] == "CT" or row["units"] == HU):
            found[scale_of(row)].append(row)
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))) if len(found) > 1 else {}


def told(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return counts and files of several scales in words."""
    parts = []
    for scale, rows in groups.items():
        names = ", ".join(_name(row) for row in rows[:_NAMED]) + (", ..." if len(rows) > _NAMED else "")
        parts.append(
            f"{len(rows)} in {scale} ({names})" if scale == HU else f"{len(rows)} on the scale '{scale}' ({names})"
        )
    return "; ".join(parts)


def _name(row: Mapping[str, Any]) -> str:
    path = Path(row["path"])  # ct.nii.gz alone tells no patients apart
    return path.name if row.get("format") == "dicom" else f"{path.parent.name}/{path.name}"
