"""Opening and writing files: plain reasons for what cannot be opened, and files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medssl.errors import FormatError

__all__ = ["first_bytes", "looks_like_text", "written_aside"]


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


def looks_like_text(start: bytes) -> bool:
    """Tell whether these bytes are readable text, as of a web page saved under a scan's name."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t" for character in text)


@contextmanager
def written_aside(path: Path, *, suffix: str | None = None) -> Iterator[Path]:
    """Give the name of a file beside ``path`` that takes its place once it is written in full.

    Args:
        path: The file that is to appear. Its folder is made where it is missing.
        suffix: Ending of the file beside it; libraries choose the format by it. By default that of ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = suffix if suffix is not None else "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix=ending, dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _umask() -> int:
    # The mask can only be read by setting it; mkstemp gave the file 0600, and colleagues should be able to read it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
