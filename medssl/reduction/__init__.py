"""Finding scans that repeat each other, and choosing which to train on. Nothing here deletes: reduction marks.

``find_duplicates`` and ``find_duplicates_to_remove`` are looked up when they are used, so that worker processes do not
import what only the search needs (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["find_duplicates", "find_duplicates_to_remove"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("medssl.reduction.duplicates"), name)
    raise AttributeError(f"module 'medssl.reduction' has no attribute {name!r}")
