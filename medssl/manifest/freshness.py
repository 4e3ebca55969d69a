"""Whether the files of a row are still those that it was made of.

Size and time of change say so quickly, and can lie: a file that was restored or copied with its time kept has both of
the one before. So the inode and the time at which the system last touched the file are kept too. Where one of them
differs the bytes are hashed, which is cheaper than reading the scan anew, and right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medssl.errors import FormatError
from medssl.formats.parts import files_of, label_files

__all__ = [
    "Stamp",
    "file_hash",
    "label_facts_of",
    "label_hash",
    "same_bytes",
    "size_and_time",
    "stamp",
    "stamps_of",
    "state_of",
]

_CHUNK = 1 << 20
_OF_LABEL = "label_"
State = Literal["same", "trusted", "ask", "changed"]


@dataclass(frozen=True)
class Stamp:
    """What the file system says of several files, without reading them.

    Attributes:
        size_bytes: Bytes of all together.
        mtime_ns: The latest time of change.
        ctime_ns: The latest time at which the system touched one: writing, renaming, copying into place, new rights.
        inode: Of one file its number; of several a hash of all.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def columns(self, prefix: str = "") -> dict[str, int]:
        """Return the columns of the manifest."""
        return {f"{prefix}{name}": getattr(self, name) for name in ("size_bytes", "mtime_ns", "ctime_ns", "inode")}


def stamp(paths: Iterable[Path]) -> Stamp:
    """Return what the file system says of these files.

    Raises:
        OSError: One of them is not there.
    """
    stats = [Path(path).stat() for path in paths]
    inodes = [s.st_ino for s in stats]
    together = hashlib.sha256(repr(inodes).encode()).digest()[:8]
    return Stamp(
        sum(s.st_size for s in stats),
        max((s.st_mtime_ns for s in stats), default=0),
        max((s.st_ctime_ns for s in stats), default=0),
        (inodes[0] if len(inodes) == 1 else int.from_bytes(together, "big")) & (2**63 - 1),
    )


def size_and_time(paths: Iterable[Path]) -> tuple[int, int]:
    """Return the bytes of all files together, and the latest time of change in ns."""
    found = stamp(paths)
    return found.size_bytes, found.mtime_ns


def file_hash(paths: Iterable[Path], *, ordered: bool = False) -> str:
    """Return the sha256 of a file's bytes; of several files that of their hashes, so that names do not matter.

    Args:
        paths: The files.
        ordered: Whether their order counts, as that of slices does which nothing but names puts in order. Slices of
            DICOM say themselves where they lie, so their hashes are sorted.
    """
    hashes = []
    for path in paths:
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
        hashes.append(digest.hexdigest())
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(hashes if ordered else sorted(hashes)).encode()).hexdigest()


def label_hash(path: Path) -> str:
    """Return the sha256 of a label; of a folder with the names in it, for a mask's name is what it shows.

    Raises:
        OSError: A file is not there.
        FormatError: Its header names files that it may not.
    """
    files = label_files(path)
    if len(files) == 1:
        return file_hash(files)
    named = "".join(f"{file.name}\0{file_hash([file])}\n" for file in files)
    return hashlib.sha256(named.encode()).hexdigest()


def label_facts_of(path: Path, *, full: bool) -> dict[str, Any]:
    """Return the columns of a label's files: what the file system says of them and, where ``full``, their hash.

    Raises:
        OSError: A file is not there.
        FormatError: Its header names files that it may not.
    """
    found: dict[str, Any] = stamp(label_files(path)).columns(_OF_LABEL)
    return found | {"label_file_hash": label_hash(path)} if full else found


def state_of(row: Mapping[str, Any]) -> State:
    """Return whether the files of a row, and of its label, are those that it was made of.

    Returns:
        "same"; "trusted" where size and time are, and the row is too old to hold more; "ask" where only the bytes can
        tell; "changed".
    """
    states = {_state(row, "", [Path(name) for name in row["paths"]])}
    if row["label_path"]:
        try:
            states.add(_state(row, _OF_LABEL, label_files(Path(row["label_path"]))))
        except FormatError:
            return "changed"
    order: tuple[State, ...] = ("changed", "ask", "trusted", "same")
    return next(state for state in order if state in states)


def stamps_of(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the columns of stamps as they are now.

    Raises:
        OSError: A file is not there.
        FormatError: The label's header names files that it may not.
    """
    found = stamp(Path(name) for name in row["paths"]).columns()
    if row["label_path"]:
        found |= stamp(label_files(Path(row["label_path"]))).columns(_OF_LABEL)
    return found


def same_bytes(row: Mapping[str, Any]) -> bool:
    """Return whether the bytes of the row's files, and of its label's, are those that it was made of.

    The files that belong to the scan are looked up anew, for a header may have come to name others.
    """
    try:
        paths = [Path(name) for name in row["paths"]]
        whole = row["kind"] == "cloud" or Path(row["path"]).is_dir()  # their files are known without a look inside
        if not whole and len(files_of(Path(row["path"]))) != len(paths):
            return False
        if not row["file_hash"] or file_hash(paths, ordered=row["format"] != "dicom") != row["file_hash"]:
            return False
        if not row["label_path"]:
            return True
        known = row["label_file_hash"]
        return bool(known) and label_hash(Path(row["label_path"])) == known
    except (OSError, FormatError):
        return False


def _state(row: Mapping[str, Any], prefix: str, paths: Iterable[Path]) -> State:
    try:
        now = stamp(paths)
    except OSError:
        return "changed"
    if now.size_bytes != row[f"{prefix}size_bytes"]:
        return "changed"
    hashed = bool(row[f"{prefix}file_hash"])
    if now.mtime_ns != row[f"{prefix}mtime_ns"]:
        return "ask" if hashed else "changed"
    if row[f"{prefix}ctime_ns"] is None or row[f"{prefix}inode"] is None:
        return "trusted"
    if (now.ctime_ns, now.inode) == (row[f"{prefix}ctime_ns"], row[f"{prefix}inode"]):
        return "same"
    return "ask" if hashed else "changed"
