"""Scans that were read lately, kept while there is room: pairs that follow each other share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from medssl.formats.scan import Scan
from medssl.manifest.describe import size_and_time
from medssl.reduction.fingerprint import Target

__all__ = ["MOST_BYTES", "Decoded"]

MOST_BYTES = 256 << 20  # of voxels that a process keeps besides the two scans that it looks at


class Decoded:
    """The scans read last, as many as fit.

    Args:
        read: Reads a scan; what it raises is passed on, and nothing is kept of it.
        most_bytes: Voxels that are kept. One scan larger than that is read each time.
    """

    def __init__(self, read: Callable[[Target], Scan], most_bytes: int = MOST_BYTES) -> None:
        self._read, self._most = read, most_bytes
        self._kept: OrderedDict[tuple[Target, int, int], Scan] = OrderedDict()
        self._bytes = 0

    def __call__(self, target: Target) -> Scan:
        """Return the scan as its files are now."""
        key = (target, *size_and_time([Path(name) for name in target.files]))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        scan = self._read(target)
        if scan.values.nbytes <= self._most:
            self._kept[key] = scan
            self._bytes += scan.values.nbytes
        while self._bytes > self._most:
            self._bytes -= self._kept.popitem(last=False)[1].values.nbytes
        return scan

    def forget(self) -> None:
        """Keep nothing any more."""
        self._kept.clear()
        self._bytes = 0
