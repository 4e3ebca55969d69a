"""Where a store finds the manifest that it was made of: the one place that says where its sources lie.

A store holds no path of a scan. Who needs the file itself (a score in the geometry of the source, a picture in a
report) looks the scan up by its id in the manifest, to which the store points by a path relative to itself.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.errors import ManifestError

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = ["manifest_of", "pointer_to"]

_MOST_UPWARDS = 4  # folders: further up lie folders of the system and of people


def pointer_to(manifest: Manifest, folder: Path) -> str:
    """Return the manifest's file as seen from a folder, with forward slashes.

    "" where the manifest is not on disk, or the way to it would name a folder of the source, or of the system.

    Args:
        manifest: As it was read or written.
        folder: The store, or what else points to it.
    """
    if not manifest.file:
        return ""
    file = _plain(manifest.file)
    try:
        way = Path(os.path.relpath(file, _plain(folder)))
    except ValueError:  # another drive
        return ""
    upwards = sum(part == ".." for part in way.parts)
    named = [part for part in way.parts[:-1] if part != ".."]
    root = Path(manifest.root) if manifest.root else None
    inside = root is not None and file.is_relative_to(root) and file.parent != root
    if upwards > _MOST_UPWARDS or (named and (inside or (root is not None and file.parent == root))):
        return ""
    return way.as_posix()


def manifest_of(folder: Path, pointer: str) -> Manifest | None:
    """Return the manifest that a folder points to; None where it is not there or cannot be read.

    Args:
        folder: Which holds the pointer.
        pointer: See `pointer_to`.
    """
    if not pointer:
        return None
    file = _plain(_plain(folder) / pointer)
    try:
        return _read(str(file), file.stat().st_mtime_ns)
    except (OSError, ManifestError):
        return None


@lru_cache(maxsize=4)
def _read(file: str, _changed_ns: int) -> Manifest:
    from medssl.manifest.schema import read_manifest

    return read_manifest(file)


def _plain(path: str | Path) -> Path:
    """Return an absolute path without ".."; links stay, for a manifest may be one that points elsewhere."""
    return Path(os.path.normpath(Path(path).absolute()))
