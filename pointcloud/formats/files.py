"""Opening files of clouds: plain reasons for what cannot be opened, and for libraries that are not there."""

from __future__ import annotations

import stat
from pathlib import Path

from medssl.errors import FormatError

__all__ = ["contents", "size_of", "start_of"]


def size_of(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        FormatError: The file is missing, a folder, or empty.
    """
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise FormatError(path, "This is a folder; a file was expected.")
        if not stat.S_ISREG(state.st_mode):  # opening a pipe waits for ever
            raise FormatError(path, "This is a pipe, a socket or a device, not a file.")
        size = state.st_size
    except FileNotFoundError:
        raise FormatError(path, "No such file.") from None
    except OSError as error:
        raise FormatError(path, f"The file cannot be opened: {error.strerror or error}.") from error
    if size == 0:
        raise FormatError(path, "The file is empty (0 bytes). Copy or download it again.")
    return size


def start_of(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, fewer where it is shorter.

    Raises:
        FormatError: The file is missing, a folder, empty, or may not be read.
    """
    size_of(path)
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise FormatError(path, f"The file cannot be read: {error.strerror or error}.") from error


def contents(path: Path) -> bytes:
    """Return all bytes of a file.

    Raises:
        FormatError: The file is missing, a folder, empty, or may not be read.
    """
    size_of(path)
    try:
        return path.read_bytes()
    except PermissionError:
        raise FormatError(path, "Permission denied. Give the user who runs this the right to read it.") from None
    except OSError as error:
        raise FormatError(path, f"The file cannot be read: {error.strerror or error}.") from error
