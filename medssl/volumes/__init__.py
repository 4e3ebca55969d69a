"""Scans: the domain of volumes of one channel or several, on a grid, and what training on them asks."""

from medssl.volumes.domain import VOLUMES, ScanProbe, Volumes, start_doubts

__all__ = ["VOLUMES", "ScanProbe", "Volumes", "start_doubts"]
