"""Scans of a manifest as three small planes each, clouds as one picture; read once however often they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedSSLError
from medssl.pool import isolated
from medssl.reduction.fingerprint import Target, read_target
from medssl.reporting.pictures import Plane, Volume, cut_planes, grey_levels, picture_source

__all__ = ["CloudLook", "ScanFigures"]

_EDGE = 220
_MOST_VOXELS = 1 << 28
_AIR_HU = -300.0

Figure = tuple[str, str, Sequence[Plane]]


@dataclass(frozen=True)
class CloudLook:
    """How clouds are looked at, which this package itself cannot read.

    Attributes:
        draw: (file, which of its clouds) -> uint8 (height, width, 3).
        same_from: Score from which one cloud is a copy of another.
    """

    draw: Callable[[Path, int], npt.NDArray[np.uint8]]
    same_from: float


class ScanFigures:
    """Pictures of scans by id.

    Args:
        rows: Rows of a manifest.
        targets: id -> where the scan lies.
        clouds: How clouds are drawn; they are not shown without it.
    """

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], targets: Mapping[str, Target], clouds: CloudLook | None = None
    ) -> None:
        self._rows = {row["id"]: row for row in rows}
        self._targets = targets
        self._clouds = clouds
        self._seen: dict[str, Sequence[Plane] | None] = {}

    def figure(self, name: str, caption: str) -> Figure | None:
        """Return a scan's middle planes with a caption; None where it cannot be shown."""
        if name not in self._seen:
            self._seen[name] = self._planes(name)
        planes = self._seen[name]
        what = "a view" if planes is not None and len(planes) == 1 else "three planes"
        return None if planes is None else (caption, f"{what} of {name}", planes)

    def _cloud(self, row: Mapping[str, Any]) -> Sequence[Plane] | None:
        if self._clouds is None:
            return None
        try:
            drawn = self._clouds.draw(Path(row["path"]), row["item"] or 0)
        except (MedSSLError, OSError):
            return None
        height, width = drawn.shape[:2]
        points = "" if row["points"] is None else f"{row['points']:,} points"
        return [Plane("from the front", picture_source(drawn / 255, width, height), width, height, place=points)]

    def _planes(self, name: str) -> Sequence[Plane] | None:
        target, row = self._targets.get(name), self._rows.get(name)
        if row is not None and row["kind"] == "cloud":
            return self._cloud(row)
        if target is None or row is None or int(np.prod(row["shape"] or [0])) > _MOST_VOXELS:
            return None
        try:
            scan = isolated(read_target, target)
        except (MedSSLError, OSError):
            return None
        # Copies in 8 bits count as HU by the manifest's word, and are no soft tissue between -160 and 240.
        air = row["units"] == "HU" and float(np.nanmin(scan.values)) < _AIR_HU
        levels = grey_levels(scan.values, hounsfield=air)
        volume = Volume.turned(scan.values, scan.header.affine, levels)
        return cut_planes(volume, [n // 2 for n in volume.values.shape], edge=_EDGE)

    def grid(self, name: str) -> str:
        """Return a scan's size in words, such as "320 x 512 x 512 at 1 x 0.8 x 0.8 mm" or "1,024 points"."""
        row = self._rows[name]
        if row["kind"] == "cloud":
            return "" if row["points"] is None else f"{row['points']:,} points"
        if not row["shape"]:
            return ""
        shape = " x ".join(str(n) for n in row["shape"])
        return f"{shape} at {' x '.join(f'{s:.3g}' for s in row['spacing_mm'])} mm" if row["spacing_mm"] else shape
