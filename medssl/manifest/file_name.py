"""Whether a path can be a manifest's: asked before any scan is read, not when the manifest is written."""

from __future__ import annotations

from pathlib import Path

from medssl.command import Command
from medssl.errors import ManifestError

__all__ = ["manifest_file"]

_ENDINGS = (".parquet", ".csv")


def manifest_file(path: str | Path) -> Path:
    """Return the path of a manifest that is to be read or written; it need not be there.

    Raises:
        ManifestError: It is no .parquet and no .csv file, or a folder is there.
    """
    path = Path(path)
    if path.is_dir() and path.suffix not in _ENDINGS:
        raise ManifestError(
            f"{path} is a folder, and a manifest is a .parquet or a .csv file. Make one of what lies in it with "
            f"`{Command('index', path, '--out', path.name + '.parquet')}`."
        )
    if path.suffix not in _ENDINGS:
        raise ManifestError(f"{path}: a manifest is a .parquet or a .csv file. Got '{path.suffix or path.name}'.")
    if path.is_dir():
        raise ManifestError(f"{path}: a manifest is a file, and this is a folder. Name a file, in it or beside it.")
    return path
