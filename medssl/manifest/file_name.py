"""Whether a path can be a manifest's: asked before any scan is read, not when the manifest is written."""

from __future__ import annotations

from pathlib import Path

from medssl.errors import ManifestError

__all__ = ["manifest_file"]


def manifest_file(path: str | Path) -> Path:
    """Return the path of a manifest that is to be read or written; it need not be there.

    Raises:
        ManifestError: It is no .parquet and no .csv file, or a folder is there.
    """
    path = Path(path)
    if path.suffix not in {".parquet", ".csv"}:
        raise ManifestError(f"{path}: a manifest is a .parquet or a .csv file. Got '{path.suffix or path.name}'.")
    if path.is_dir():
        raise ManifestError(f"{path}: a manifest is a file, and this is a folder. Name a file, in it or beside it.")
    return path
