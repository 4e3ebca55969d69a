"""Scans of a manifest as three small planes each, read once however often they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medssl.errors import MedSSLError
from medssl.reduction.fingerprint import Target, read_target
from medssl.reporting.pictures import Plane, Volume, cut_planes, grey_levels

__all__ = ["ScanFigures"]

_EDGE = 220
_MOST_VOXELS = 1 << 28
_AIR_HU = -300.0

Figure = tuple[str, str, Sequence[Plane]]


class ScanFigures:
    """Pictures of scans by id.

    Args:
        rows: Rows of a manifest.
        targets: id -> where the scan lies.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], targets: Mapping[str, Target]) -> None:
        self._rows = {row["id"]: row for row in rows}
        self._targets = targets
        self._seen: dict[str, Sequence[Plane] | None] = {}

    def figure(self, name: str, caption: str) -> Figure | None:
        """Return a scan's middle planes with a caption; None where it cannot be shown."""
        if name not in self._seen:
            self._seen[name] = self._planes(name)
        planes = self._seen[name]
        return None if planes is None else (caption, f"three planes of {name}", planes)

    def _planes(self, name: str) -> Sequence[Plane] | None:
        target, row = self._targets.get(name), self._rows.get(name)
        if target is None or row is None or int(np.prod(row["shape"] or [0])) > _MOST_VOXELS:
            return None
        try:
            scan = read_target(target)
        except (MedSSLError, OSError):
            return None
        # Copies in 8 bits count as HU by the manifest's word, and are no soft tissue between -160 and 240.
        air = row["units"] == "HU" and float(np.nanmin(scan.values)) < _AIR_HU
        levels = grey_levels(scan.values, hounsfield=air)
        volume = Volume.turned(scan.values, scan.header.affine, levels)
        return cut_planes(volume, [n // 2 for n in volume.values.shape], edge=_EDGE)

    def grid(self, name: str) -> str:
        """Return a scan's size in words, such as "320 x 512 x 512 at 1 x 0.8 x 0.8 mm"."""
        row = self._rows[name]
        if not row["shape"]:
            return ""
        shape = " x ".join(str(n) for n in row["shape"])
        return f"{shape} at {' x '.join(f'{s:.3g}' for s in row['spacing_mm'])} mm" if row["spacing_mm"] else shape
