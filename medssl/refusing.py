"""The boundary around every reader: what a damaged file makes a library raise becomes the one error callers know."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medssl.errors import FormatError, MedSSLError

__all__ = ["NO_MEMORY", "is_panic", "refusing"]

NO_MEMORY = (
    "There was not enough memory to read it. Allow more with file_memory_gb, use fewer workers, or a larger machine."
)
# Faults of the machine and not of the file: to blame the file for them would hide them.
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}
_LONGEST = 160


def is_panic(error: BaseException) -> bool:
    """Tell whether an error is the panic of a library written in Rust, which is no ``Exception``."""
    return type(error).__name__ == "PanicException" and type(error).__module__.startswith("pyo3")


@contextmanager
def refusing(path: str | Path) -> Iterator[None]:
    """Turn every foreign error of the block into a `FormatError` that names the file.

    Errors of medssl go through as they are, and so do Ctrl-C, ``SystemExit`` and faults of the machine (a full disk,
    too many open files).

    Args:
        path: The file or folder that is read.

    Raises:
        FormatError: The file is damaged, is not there, may not be read, or asks for more memory than there is.
    """
    try:
        yield
    except (MedSSLError, ImportError):  # a library that is not there is no fault of the file
        raise
    except MemoryError:
        raise FormatError(path, NO_MEMORY) from None
    except FileNotFoundError as error:
        lost = error.filename
        other = lost is not None and str(lost) != str(path)
        why = f"A file that belongs to it is not there: {lost}." if other else "No such file."
        raise FormatError(path, why) from error
    except PermissionError as error:
        raise FormatError(path, "Permission denied. Give the user who runs this the right to read it.") from error
    except OSError as error:
        if error.errno in _OF_THE_MACHINE:
            raise
        raise FormatError(path, f"It cannot be read: {error.strerror or _said(error)}.") from error
    except RecursionError as error:
        raise FormatError(path, "It is nested deeper than any sound file of its kind: the file is damaged.") from error
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        kind = type(error).__name__
        raise FormatError(path, f"It could not be read ({kind}: {_said(error)}): the file is damaged.") from error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:_LONGEST]
