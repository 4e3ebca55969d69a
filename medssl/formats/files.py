"""Opening files of scans: plain reasons for what cannot be opened."""

from __future__ import annotations

import stat
from pathlib import Path

from medssl.errors import FormatError

__all__ = ["first_bytes", "looks_like_text", "refuse_special"]


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first ``count`` bytes of a file, fewer where it is shorter.

    Raises:
        FormatError: The file is missing, a folder, empty, or may not be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(count)
    except FileNotFoundError:
        raise FormatError(path, "No such file.") from None
    except IsADirectoryError:
        raise FormatError(path, "This is a folder; a file was expected.") from None
    except PermissionError:
        raise FormatError(path, "Permission denied. Give the user who runs this the right to read it.") from None
    except OSError as error:
        raise FormatError(path, f"The file cannot be opened: {error.strerror or error}.") from error
    if not start:
        raise FormatError(path, "The file is empty (0 bytes). Copy or download it again.")
    return start


def refuse_special(path: Path) -> None:
    """Refuse what is neither a file nor a folder: opening a pipe waits for ever, and a device never ends.

    Raises:
        FormatError: It is a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # opening it says what is wrong
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FormatError(path, "This is a pipe, a socket or a device, not a file.")


def looks_like_text(start: bytes) -> bool:
    """Tell whether these bytes are readable text, as of a web page saved under a scan's name."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t" for character in text)
