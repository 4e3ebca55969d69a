"""The JSON files in which a store, of scans or of clouds, lists what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medssl.errors import CacheError

__all__ = ["read_listing"]


def read_listing(path: Path, version: int) -> dict[str, Any]:
    """Return what a listing says.

    Args:
        path: The file.
        version: The version of the format that can be read.

    Raises:
        CacheError: It is missing, damaged, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CacheError(f"{path}: cannot be read ({error}). Run `medssl cache` again.") from error
    found = content.get("version") if isinstance(content, dict) else None
    if found != version:
        raise CacheError(
            f"{path}: has version {found}; this release reads version {version}. "
            "Make the store again with `medssl cache`."
        )
    return dict(content)
