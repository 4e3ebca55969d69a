"""Files that appear whole or not at all, names for them that are safe on every system, and disks that refuse.

Every write of the project goes through `atomic_write` or, where a file grows or a folder is written as one, through
`disk_faults`: one place knows what a full disk, a quota or a read-only file system looks like, whichever library wrote.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medssl.errors import ConfigError, DiskError, MedSSLError

__all__ = ["atomic_write", "disk_faults", "file_for", "folder_for", "page_for", "stem_of", "sync"]

_KEY_LENGTH = 12
_PROBE_BYTES = 1 << 20
# Endings that a folder of results is not called by: whoever gives one takes the verb for one that writes a file.
_OF_FILES = {".csv", ".dcm", ".gz", ".htm", ".html", ".json", ".mha", ".nii", ".npy", ".npz", ".nrrd", ".onnx"}
_OF_FILES |= {".parquet", ".pt", ".pth", ".safetensors", ".yaml", ".yml"}
# What a write alone can meet. Permission is another matter: reading meets that as well.
_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def atomic_write(path: Path, *, suffix: str | None = None, private: bool = False) -> Iterator[Path]:
    """Give the name of a file beside ``path`` that takes its place once it is written in full and on the disk.

    Args:
        path: The file that is to appear. Its folder is made where it is missing.
        suffix: Ending of the file beside it; libraries choose the format by it. By default that of ``path``.
        private: Let its owner alone read it.

    Raises:
        DiskError: The disk is full, or the folder cannot be written to; what stood under the name stands there still.
    """
    ending = suffix if suffix is not None else "".join(path.suffixes[-2:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=ending, dir=path.parent)
    except OSError as error:
        raise DiskError.of(path, error) from error
    os.close(handle)
    aside = Path(name)
    try:
        with disk_faults(path, aside):
            yield aside
            aside.chmod(0o600 if private else 0o666 & ~_umask())
            sync(aside)
            aside.replace(path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


@contextmanager
def disk_faults(path: Path, aside: Path | None = None) -> Iterator[None]:
    """Turn what a disk that refuses makes libraries raise into a ``DiskError`` that names ``path``.

    Libraries in C and Rust say it with errors of their own (RuntimeError, ComputeError, SafetensorError), some without
    the reason; so after any error the folder is asked whether it still takes a megabyte.

    Args:
        path: What is written.
        aside: The file under which it is being written, where that is another one.

    Raises:
        DiskError: The system refused to write.
    """
    try:
        yield
    except MedSSLError:
        raise
    except OSError as error:
        if error.errno in _FAULTS:
            raise DiskError.of(path, error) from error
        raise
    except Exception as error:
        refused = _refusal(path if path.is_dir() else path.parent, aside or path)
        if refused is not None:
            raise DiskError.of(path, refused) from error
        raise


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return  # a system that opens no folders keeps their names in order by itself
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.EBADF}:  # what file systems say that know no sync
            raise
    finally:
        os.close(handle)


def folder_for(path: str | Path) -> Path:
    """Return the path of a folder that results are to go to, asked before they are worked out; nothing is made.

    Raises:
        ConfigError: A file is there, or on the way to it; or it ends as files do.
        DiskError: It lies where nothing can be written.
    """
    path = Path(path)
    if path.suffix.lower() in _OF_FILES and not path.exists():
        raise ConfigError(f"{path}: a folder is written, and this is a file's name. Leave '{path.suffix}' off --out.")
    there = next((one for one in (path, *path.absolute().parents) if one.exists()), path)
    if there.exists() and not there.is_dir():
        raise ConfigError(f"{path}: a folder is wanted, and {there} is a file. Choose another --out.")
    if not os.access(there, os.W_OK):
        raise DiskError.of(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return path


def file_for(path: str | Path, *suffixes: str) -> Path:
    """Return the path of a file that results are to go to, asked before they are worked out; nothing is made.

    Args:
        path: The file.
        suffixes: The endings that can be written, such as ".npz"; none: any.

    Raises:
        ConfigError: It has another ending, a folder is there, or a file is on the way to it.
        DiskError: It lies where nothing can be written.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ConfigError(f"{path}: --out must end in {' or '.join(suffixes)}. Got '{path.suffix or path.name}'.")
    if path.is_dir():
        raise ConfigError(f"{path}: a file is wanted, and this is a folder. Name a file, in it or beside it.")
    folder_for(path.parent)
    return path


def page_for(path: str | Path, name: str) -> Path:
    """Return the path of a page that is to be written, asked as `file_for` asks; a folder gets one called ``name``."""
    path = Path(path)
    return file_for(path / name if path.is_dir() or not path.suffix else path, ".html", ".htm")


def stem_of(item_id: str, key: str) -> str:
    """Return the file name, without suffix, of an item with this id and key.

    Example:
        >>> stem_of("scan1", "0123456789abcdef"), stem_of("a/b c", "0123456789abcdef")
        ('scan1-0123456789ab', 'a_b_c-486f107fca60')
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", item_id).strip("._") or "scan"
    digest = hashlib.sha256(f"{item_id}\n{key}".encode()).hexdigest() if safe != item_id or len(safe) > 80 else key
    return f"{safe[:80]}-{digest[:_KEY_LENGTH]}"


def _refusal(folder: Path, written: Path) -> OSError | None:
    """Return what the system says to a megabyte more in a folder; None where it takes it."""
    limit = _largest_file()
    with suppress(OSError):
        if limit is not None and written.stat().st_size + _PROBE_BYTES > limit:
            return OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * _PROBE_BYTES)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error if error.errno in _FAULTS else None
    return None


def _largest_file() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _umask() -> int:
    # The mask can only be read by setting it; mkstemp gave the file 0600, and colleagues should be able to read it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
