"""Archives unpacked within bounds: no path leads out, no link or device is made, and no small file fills the disk."""

from __future__ import annotations

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from medssl.errors import DataError
from medssl.writing import disk_faults

__all__ = ["Bounds", "unpack"]

_BLOCK = 1 << 20
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What an archive may come to.

    Attributes:
        size_bytes: All of its files, unpacked.
        files: How many files and folders.
        ratio: Unpacked size as a multiple of the archive's; scans come to 2 to 20, archives that are made to fill a
            disk to 1000 and more. Archives that unpack to less than 100 MB may exceed it.
    """

    size_bytes: int = 2 << 40
    files: int = 5_000_000
    ratio: float = 200.0


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    folder: bool


def unpack(archive: Path, target: Path, *, folder: str, bounds: Bounds | None = None) -> Path:
    """Unpack an archive so that its folder appears whole or not at all.

    What it says of owners and rights is not taken.

    Args:
        archive: A .tar, .tar.gz, .tgz or .zip file.
        target: Where the folder goes.
        folder: The one that the archive holds. Where it holds files without it, they are put into it.
        bounds: What it may come to.

    Raises:
        DataError: The archive is damaged or of another kind, holds paths that lead out of it, links or devices, or
            comes to more than the bounds or the disk allow.
        DiskError: The disk refused to take it, which is no fault of the archive.
    """
    bounds = bounds or Bounds()
    final = target / folder
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target) as name:
        aside = Path(name)
        try:
            with disk_faults(final):
                if zipfile.is_zipfile(archive):
                    with zipfile.ZipFile(archive) as packed:
                        items = packed.infolist()
                        _refuse(archive, 0, len(items), bounds.size_bytes, bounds)
                        members = [_of_zip(archive, item) for item in items]
                        most = _most(archive, target, bounds)
                        _refuse(archive, sum(one.size for one in members), len(items), most, bounds)
                        for one, item in zip(members, items, strict=True):
                            _write(one, None if one.folder else packed.open(item), aside, archive)
                else:
                    _unpack_tar(archive, aside, target, bounds)
        except _BROKEN as error:
            raise DataError(f"{archive}: cannot be unpacked ({error}). Remove it and fetch it again.") from error
        inner = aside / folder
        if not inner.is_dir():
            inner = aside / ".whole"
            inner.mkdir()
            for path in list(aside.iterdir()):
                if path != inner:
                    path.rename(inner / path.name)
        inner.rename(final)
    return final


def _unpack_tar(archive: Path, aside: Path, target: Path, bounds: Bounds) -> None:
    """Unpack member by member: a packed tar has no table of contents, and reading it twice takes twice as long."""
    members: list[_Member] = []
    size, most = 0, _most(archive, target, bounds)
    with tarfile.open(archive) as packed:
        for item in packed:
            one = _of_tar(archive, item)
            members.append(one)
            size += one.size
            _refuse(archive, size, len(members), most, bounds)
            _write(one, None if one.folder else packed.extractfile(item), aside, archive)


def _of_zip(archive: Path, item: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(item.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(_kind_message(archive, item.filename, "a link" if kind == stat.S_IFLNK else "a device"))
    return _Member(_inside(archive, item.filename), item.file_size, item.is_dir())


def _of_tar(archive: Path, item: tarfile.TarInfo) -> _Member:
    if not (item.isreg() or item.isdir()):
        raise DataError(_kind_message(archive, item.name, "a link" if item.issym() or item.islnk() else "a device"))
    return _Member(_inside(archive, item.name), item.size, item.isdir())


def _kind_message(archive: Path, name: str, kind: str) -> str:
    return (
        f"{archive}: it holds {kind} ({name!r}); archives of data hold files and folders alone, and nothing was "
        "unpacked. Was it changed on the way? Unpack it by hand if you trust it."
    )


def _inside(archive: Path, name: str) -> str:
    """Return a member's name; refuse one that leads out of the archive on any system."""
    windows = PureWindowsPath(name)
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or windows.drive or ".." in parts or "\0" in name:
        raise DataError(
            f"{archive}: it holds the path {name!r}, which leads out of it, and nothing was unpacked. Was it changed "
            "on the way?"
        )
    return name


def _most(archive: Path, target: Path, bounds: Bounds) -> int:
    """Return how many bytes an archive may come to: by the bounds, and by what is free."""
    by_ratio = max(round(archive.stat().st_size * bounds.ratio), 100_000_000)
    return min(bounds.size_bytes, by_ratio, shutil.disk_usage(target).free)


def _refuse(archive: Path, size: int, count: int, most: int, bounds: Bounds) -> None:
    if count > bounds.files:
        raise DataError(
            f"{archive}: it holds more than {bounds.files:,} files, and nothing was unpacked. max_files=N allows more."
        )
    if size > most:
        raise DataError(
            f"{archive} ({archive.stat().st_size:,} bytes) unpacks to more than {most:,} bytes, and nothing was "
            f"unpacked. Allowed: max_size_gb ({bounds.size_bytes / 1e9:g} GB), max_ratio ({bounds.ratio:g} times its "
            "size), and what is free on the disk. If it is meant so, raise the setting: medssl fetch NAME max_ratio=N"
        )


def _write(one: _Member, opened: IO[bytes] | None, aside: Path, archive: Path) -> None:
    """Write one member, and no more bytes than the archive says that it has."""
    path = aside / one.name
    if one.folder or opened is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    left = one.size
    with opened, path.open("wb") as file:
        while block := opened.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise DataError(f"{archive}: {one.name!r} is larger than the archive says, and nothing was unpacked.")
            file.write(block)
    if left:
        raise EOFError(f"{one.name!r} ends {left} bytes before the size that the archive says")
