"""Opening files of clouds: plain reasons for what cannot be opened, and for libraries that are not there."""

from __future__ import annotations

import importlib
import re
import stat
from pathlib import Path
from types import ModuleType

from medssl.errors import FormatError, MissingDependencyError

__all__ = ["contents", "library", "size_of", "start_of"]

# The Debian and Ubuntu packages of the shared libraries that wheels leave to the system.
_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libtbb.so.12": "libtbb12",
    "libc++.so.1": "libc++1",
}


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


def library(name: str, *, install: str, purpose: str) -> ModuleType:
    """Import a library when it is first needed.

    Args:
        name: Its module, such as "open3d".
        install: What pip calls it.
        purpose: What it is needed for, as in "to read compressed PCD files".

    Raises:
        MissingDependencyError: It is not installed, or lacks a library of the system; the message names either.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise MissingDependencyError(f"{name} is needed {purpose}, and itself needs {error.name}.") from error
        raise MissingDependencyError(f"{name} is needed {purpose}. Install it: pip install {install}") from error
    except (ImportError, OSError) as error:
        found = re.search(r"(lib[\w+.-]*\.so[.\d]*)", str(error))
        if not found:
            raise MissingDependencyError(f"{name} is needed {purpose}, but cannot be loaded: {error}") from error
        shared = found.group(1)
        package = _PACKAGES.get(shared)
        way = f"On Debian or Ubuntu: apt-get install {package}" if package else "Install the package that holds it."
        raise MissingDependencyError(
            f"{name} is needed {purpose}, but the system has no {shared} for it. {way}"
        ) from error
