"""The published weights that are known, of volumes, slices and clouds."""

from __future__ import annotations

from medssl.table import Table
from medssl.weights.cloud_rows import CLOUDS
from medssl.weights.slice_rows import SLICES
from medssl.weights.volume_rows import VOLUMES

__all__ = ["SOURCES"]

SOURCES = Table("source of weights", (*VOLUMES, *SLICES, *CLOUDS))
