"""The file of voxels that a header names beside itself."""

from __future__ import annotations

from pathlib import Path

from medssl.errors import FormatError

__all__ = ["data_file"]


def data_file(header: Path, name: str) -> Path:
    """Return the file that a header names, which must lie in the header's folder or below.

    Args:
        header: The file that holds the name.
        name: As it stands there.

    Raises:
        FormatError: It is no name, absolute, leads out of the folder (also by a link), or is not there.
    """
    parts = name.replace("\\", "/").split("/")
    if not name.strip() or "\0" in name:
        raise FormatError(header, "It names no data file. Copy or download it again.")
    if Path(name).is_absolute() or name.startswith(("/", "\\", "~")) or (len(name) > 1 and name[1] == ":"):
        raise FormatError(header, f"Its data file '{name}' is an absolute path. Name a file of the same folder.")
    if ".." in parts:
        raise FormatError(header, f"Its data file '{name}' lies outside of its folder. Name a file of the same folder.")
    path = header.parent.joinpath(*parts)
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise FormatError(header, f"Its data file '{path.name}' is missing. Copy it to the same folder.") from None
    # A header that is itself a link may stand for one beside its data.
    folders = (header.parent.resolve(), header.resolve().parent)
    if not any(real.is_relative_to(folder) for folder in folders):
        raise FormatError(header, f"Its data file '{name}' is a link that leads out of the folder. Copy the file here.")
    if not real.is_file():
        raise FormatError(header, f"Its data file '{name}' is not a file.")
    return path
