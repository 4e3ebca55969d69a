"""A large listing read line by line: where the line of each scan begins, and columns of what all are asked.

``store.json`` stays whole, and alone says what a store holds. ``store.lines.npz`` beside it is made of it: places of
lines, and ids, patients, splits, stems and label files as columns of NumPy that are mapped into memory, so that ranks
share them and opening a million scans reads a few pages. It counts only for the very ``store.json`` that it was made
of: of the same size and time, or else of the same SHA-256. Without it, or where it does not fit, all is read as before.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from medssl.array_headers import ARRAY_HEADERS
from medssl.errors import CacheError
from medssl.file_sums import sha256_of
from medssl.store.blocks import PART
from medssl.store.entry import Entry
from medssl.store.rows import Known, entry_of, statistics_of_rows
from medssl.writing import atomic_write

__all__ = ["COLUMNS", "LINES", "LINES_FROM", "Lines", "LinesWriter", "ListedEntries", "ListedStatistics", "open_lines"]

LINES = "store.lines.npz"
LINES_FROM = 1000  # scans: fewer are read in a tenth of a second
COLUMNS = ("id", "patient", "split", "stem", "label_file")
_VERSION = 1
_LOCAL_HEADER = 30  # bytes of a zip's header of a member before its name
Columns = dict[str, npt.NDArray[Any]]
Members = dict[str, tuple[npt.NDArray[np.uint8], int]]  # bytes with their header, CRC-32


class LinesWriter:
    """Notes where lines begin and end while ``store.json`` is written."""

    def __init__(self) -> None:
        self._texts = {name: bytearray() for name in COLUMNS}
        self._ends = {name: array("q") for name in COLUMNS}
        self._none = bytearray()
        self._entries, self._statistics = array("q"), array("q")
        self._noted: dict[str, tuple[int, int]] = {}

    def statistics(self, scan: str, begin: int, end: int) -> None:
        """Note the bytes of a scan's statistics with its id; they come before the entries."""
        self._noted[scan] = begin, end

    def entry(self, entry: Entry, begin: int, end: int) -> None:
        """Note the bytes of an entry, in the order of the listing."""
        for name in COLUMNS:
            self._texts[name] += (_value(entry, name) or "").encode()
            self._ends[name].append(len(self._texts[name]))
        self._none.append(entry.label_file is None)
        self._entries.extend((begin, end))
        self._statistics.extend(self._noted.pop(entry.id, (0, 0)))

    def write(self, listing: Path, head: int, sha256: str) -> None:
        """Write the columns beside a listing that lies there in full; none where its ids are not each its own.

        Args:
            listing: ``store.json``.
            head: Bytes before its statistics.
            sha256: Of its bytes.
        """
        ids = _texts(np.frombuffer(self._texts["id"], np.uint8), np.frombuffer(self._ends["id"], np.int64))
        if self._noted or len(set(ids)) != len(ids):
            return
        found = listing.stat()
        about = {
            "version": _VERSION,
            "bytes": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "sha256": sha256,
            "head": head,
        }
        columns: dict[str, npt.ArrayLike] = {
            "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
            "order": np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64),
            "entries": np.frombuffer(self._entries, np.int64).reshape(-1, 2),
            "statistics": np.frombuffer(self._statistics, np.int64).reshape(-1, 2),
            "label_file_none": np.frombuffer(self._none, np.uint8).astype(bool),
        }
        for name in COLUMNS:
            columns[name] = np.frombuffer(self._texts[name], np.uint8)
            columns[f"{name}_ends"] = np.frombuffer(self._ends[name], np.int64)
        with atomic_write(listing.with_name(LINES), suffix=PART) as aside, aside.open("wb") as file:
            np.savez(file, **columns)  # type: ignore[arg-type]  # of the stubs: it takes arrays by name


class Lines:
    """An open listing and its columns.

    Args:
        folder: The store.
        listing: Its ``store.json``.
        columns: As they were read.
        members: Their bytes and checksums, which are compared when a column is first read whole.
        about: What they say of their listing.
    """

    def __init__(
        self, folder: Path, listing: Path, columns: Columns, members: Members, about: Mapping[str, Any]
    ) -> None:
        self.folder, self.listing, self.sha256 = folder, listing, str(about["sha256"])
        self._columns, self._members, self._head = columns, dict(members), int(about["head"])
        self._file = os.open(listing, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = Lock()

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self._file)

    def __len__(self) -> int:
        return len(self._columns["entries"])

    def head(self) -> dict[str, Any]:
        """Return what the listing says besides statistics and entries."""
        said: dict[str, Any] = json.loads(self._bytes(0, self._head) + b"}")
        return said

    def text(self, name: str, row: int) -> str | None:
        """Return one value of a column."""
        if name == "label_file" and self._columns["label_file_none"][row]:
            return None
        ends = self._columns[f"{name}_ends"]
        return self._columns[name][int(ends[row - 1]) if row else 0 : int(ends[row])].tobytes().decode()

    def texts(self, name: str, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[str | None]:
        """Return the values of a column for some rows.

        Raises:
            CacheError: The column was damaged: what is chosen by it is never compared with the lines.
        """
        for part in (name, f"{name}_ends", f"{name}_none"):
            packed = self._members.get(part)
            if packed is not None and zlib.crc32(packed[0].data) != packed[1]:
                raise self._damaged(f"the column {part} of {LINES}")
            self._members.pop(part, None)  # compared once, whichever thread does it
        whole: list[str | None] = list(_texts(self._columns[name], self._columns[f"{name}_ends"]))
        if name == "label_file":
            for row in np.flatnonzero(self._columns["label_file_none"]).tolist():
                whole[row] = None
        return whole if _is_all(rows, len(whole)) else [whole[int(row)] for row in rows]

    def find(self, scan: object) -> int | None:
        """Return the row of a scan by its id, None where there is none."""
        if not isinstance(scan, str):
            return None
        order, low, high = self._columns["order"], 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if (self.text("id", int(order[middle])) or "") < scan:
                low = middle + 1
            else:
                high = middle
        row = int(order[low]) if low < len(self) else None
        return row if row is not None and self.text("id", row) == scan else None

    def entry(self, row: int) -> Entry:
        """Read an entry.

        Raises:
            CacheError: The listing was damaged or changed in place, or does not say what the columns say.
        """
        try:
            entry = entry_of(json.loads(self._bytes(*self._columns["entries"][row].tolist())))
            other = next((name for name in COLUMNS if _value(entry, name) != self.text(name, row)), None)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(f"the entry of scan {row}: {error!r}") from error
        if other is not None:
            raise self._damaged(f"the {other} of {entry.id!r} is another in {LINES}")
        return entry

    def statistics(self, row: int) -> Known | None:
        """Read the statistics of a scan, None where they were not kept.

        Raises:
            CacheError: As for `entry`.
        """
        begin, end = self._columns["statistics"][row].tolist()
        if begin == end:
            return None
        try:
            return statistics_of_rows(json.loads(b"{%b}" % self._bytes(begin, end))[self.text("id", row)])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(f"the statistics of scan {row}: {error!r}") from error

    def _bytes(self, begin: int, end: int) -> bytes:
        try:
            if hasattr(os, "pread"):  # keeps no place in the file: forked workers and threads share it
                return os.pread(self._file, end - begin, begin)
            with self._lock:
                os.lseek(self._file, begin, os.SEEK_SET)
                return os.read(self._file, end - begin)
        except OSError as error:  # on a network: another machine wrote it anew
            raise self._damaged(str(error)) from error

    def _damaged(self, found: str) -> CacheError:
        return CacheError(
            f"{self.listing}: is damaged or was made anew while it was read ({found}). Open the store again; where "
            "that does not help, run `medssl cache` again."
        )


class ListedEntries(Sequence[Entry]):
    """The scans of a listing, or some of them, each read where it is asked for; an entry is not kept.

    Args:
        lines: The listing.
        rows: Which, in this order; None for all.
    """

    def __init__(self, lines: Lines, rows: Sequence[int] | npt.NDArray[np.int64] | None = None) -> None:
        self._lines = lines
        self._rows = range(len(lines)) if rows is None else rows

    def __reduce__(self) -> tuple[Any, ...]:
        rows = None if _is_all(self._rows, len(self._lines)) else self._rows
        return _again, (self._lines.folder, self._lines.sha256, rows)  # a worker maps the same pages

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> ListedEntries: ...
    def __getitem__(self, index: int | slice) -> Entry | ListedEntries:
        """Return an entry, or a part of them."""
        if isinstance(index, slice):
            return ListedEntries(self._lines, self._rows[index])
        return self._lines.entry(int(self._rows[index]))

    def __iter__(self) -> Iterator[Entry]:
        return (self._lines.entry(int(row)) for row in self._rows)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ListedEntries) and other._lines.sha256 == self._lines.sha256:
            return np.array_equal(np.asarray(self._rows), np.asarray(other._rows))
        if not isinstance(other, ListedEntries | tuple):
            return NotImplemented
        return len(self) == len(other) and all(one == its for one, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of a list: it may be compared with a tuple, and hashing reads all

    def column(self, name: str) -> list[Any] | None:
        """Return a field of all of them without reading their lines; None where it is no column."""
        return self._lines.texts(name, self._rows) if name in COLUMNS else None

    def at(self, places: Iterable[int]) -> ListedEntries:
        """Return some of them by their places among these."""
        chosen = np.fromiter(places, dtype=np.int64)
        if not _is_all(self._rows, len(self._lines)):
            chosen = np.asarray(self._rows, dtype=np.int64)[chosen]
        return ListedEntries(self._lines, chosen)

    def places(self, ids: Sequence[str]) -> list[int | None]:
        """Return where among these each id is, None where it is not."""
        if _is_all(self._rows, len(self._lines)) and len(ids) * 64 < len(self._lines):
            return [self._lines.find(scan) for scan in ids]
        known = {scan: place for place, scan in enumerate(self._lines.texts("id", self._rows))}
        return [known.get(scan) for scan in ids]


class ListedStatistics(Mapping[str, Known]):
    """Statistics by the scan's id, read where they are asked for."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __reduce__(self) -> tuple[Any, ...]:
        return _statistics_again, (self._lines.folder, self._lines.sha256)

    def __getitem__(self, scan: str) -> Known:
        row = self._lines.find(scan)
        found = None if row is None else self._lines.statistics(row)
        if found is None:
            raise KeyError(scan)
        return found

    def __iter__(self) -> Iterator[str]:
        kept = self._lines._columns["statistics"]
        rows = np.flatnonzero(kept[:, 0] != kept[:, 1])
        return (str(scan) for scan in self._lines.texts("id", rows))

    def __len__(self) -> int:
        kept = self._lines._columns["statistics"]
        return int((kept[:, 0] != kept[:, 1]).sum())


def open_lines(folder: Path, listing: Path) -> Lines | None:
    """Return the columns of a listing; None where there are none, or not of this very listing."""
    try:
        columns, members = _mapped(folder / LINES)
        about = json.loads(columns["about"].tobytes())
        if about["version"] != _VERSION or not _whole(columns):
            return None
        found = listing.stat()
        if about["bytes"] != found.st_size:
            return None
        if about["mtime_ns"] != found.st_mtime_ns and about["sha256"] != sha256_of(listing):  # copied, or edited
            return None
        lines = Lines(folder, listing, columns, members, about)
        now = os.fstat(lines._file)
        return lines if (now.st_size, now.st_mtime_ns) == (found.st_size, found.st_mtime_ns) else None
    except (OSError, KeyError, TypeError, ValueError, struct.error, zipfile.BadZipFile):
        return None


def _whole(columns: Columns) -> bool:
    """Tell whether the columns fit each other."""
    count = len(columns["entries"])
    alike = ("order", "statistics", "label_file_none", *(f"{name}_ends" for name in COLUMNS))
    return all(len(columns[name]) == count for name in alike) and all(
        len(columns[name]) == (int(columns[f"{name}_ends"][-1]) if count else 0) for name in COLUMNS
    )


def _mapped(path: Path) -> tuple[Columns, Members]:
    """Return the arrays of an .npz that is not compressed, mapped into memory: NumPy's own reader copies them."""
    columns: Columns = {}
    members: Members = {}
    with path.open("rb") as file, zipfile.ZipFile(file) as packed, ARRAY_HEADERS:
        whole = np.memmap(path, np.uint8, "r")
        for member in packed.infolist():
            file.seek(member.header_offset)
            names = struct.unpack("<HH", file.read(_LOCAL_HEADER)[-4:])
            begin = member.header_offset + _LOCAL_HEADER + sum(names)
            end = begin + member.file_size
            file.seek(begin)
            if member.compress_type != zipfile.ZIP_STORED or np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{path}: {member.filename} is packed otherwise than this release packs it")
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
            if by_column or dtype.hasobject or end > len(whole):
                raise ValueError(f"{path}: {member.filename} is of another kind, or not whole")
            name = member.filename.removesuffix(".npy")
            columns[name] = whole[file.tell() : end].view(dtype).reshape(shape)
            members[name] = whole[begin:end], member.CRC
    return columns, members


def _value(entry: Entry, name: str) -> str | None:
    if name == "stem" and not entry.files:
        return ""
    value: str | None = getattr(entry, name)
    return value


def _texts(joined: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> list[str]:
    whole, texts, begin = joined.tobytes(), [], 0
    for end in ends.tolist():
        texts.append(whole[begin:end].decode())
        begin = end
    return texts


def _is_all(rows: Sequence[int] | npt.NDArray[np.int64], count: int) -> bool:
    return isinstance(rows, range) and rows == range(count)


def _again(folder: Path, sha256: str, rows: Sequence[int] | npt.NDArray[np.int64] | None) -> ListedEntries:
    return ListedEntries(_same(folder, sha256), rows)


def _statistics_again(folder: Path, sha256: str) -> ListedStatistics:
    return ListedStatistics(_same(folder, sha256))


def _same(folder: Path, sha256: str) -> Lines:
    lines = open_lines(folder, folder / "store.json")
    if lines is None or lines.sha256 != sha256:
        raise CacheError(
            f"{folder}: its listing was made anew since the store was opened, and a worker would read another. Start "
            "again; a run goes on with --resume."
        )
    return lines
