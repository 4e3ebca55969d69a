"""The header of LAS and LAZ files, held against the file's size before a library believes it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import FormatError
from pointcloud.formats.files import size_of, start_of

__all__ = ["LasHeader", "check_header"]

_LEAST = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)  # bytes of a point, by point format
_SHORT, _LONG = 227, 375  # bytes of the headers of LAS 1.0 to 1.2, and of 1.4
_RECORD = 54  # bytes before what a record holds
_LASZIP = (b"laszip encoded", 22204)
_VARIABLE = 0xFFFFFFFF  # chunks of any number of points


@dataclass(frozen=True)
class LasHeader:
    """What the header promises.

    Attributes:
        points: How many points.
        compressed: Whether they are compressed (LAZ), whatever the file is called.
        scales: What the stored x, y and z are multiplied with.
        low: The least x, y and z of all points.
        high: The largest.
    """

    points: int
    compressed: bool
    scales: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def check_header(path: Path) -> LasHeader:
    """Return what the header promises.

    Raises:
        FormatError: It is no LAS header, or promises more than the file can hold.
    """
    start, size = start_of(path, _LONG), size_of(path)
    if start[:4] != b"LASF":
        raise FormatError(path, "The file does not begin with 'LASF': it is not a LAS file.")
    if len(start) < _SHORT:
        raise FormatError(path, f"The file has {size} bytes, less than the header of a LAS file: truncated.")
    header, points_at, records, kind, length, points = struct.unpack_from("<HIIBHI", start, 94)
    if not _SHORT <= header <= points_at <= size or records * _RECORD > points_at - header:
        raise FormatError(
            path,
            f"The header promises {records} records before byte {points_at} of {size}: damaged or truncated.",
        )
    if start[24:26] >= b"\x01\x04" and header >= _LONG and len(start) == _LONG:  # 1.4 has records after the points too
        after, later, many = struct.unpack_from("<QIQ", start, 235)
        points = many or points
        if later and (after > size or later * 60 > size - after):
            raise FormatError(path, f"The header promises {later} records after byte {after} of {size}: damaged.")
    compressed = bool(kind & 0xC0)
    kind &= 0x3F
    if kind >= len(_LEAST):
        raise FormatError(path, f"The points have format {kind}; 0 to {len(_LEAST) - 1} are read.")
    if length < _LEAST[kind]:
        raise FormatError(path, f"The points have {length} bytes; format {kind} has {_LEAST[kind]} or more: damaged.")
    if points == 0:
        raise FormatError(path, "The header promises 0 points.")
    if not compressed and points * length > size - points_at:
        raise FormatError(
            path,
            f"The header promises {points} points of {length} bytes; {size - points_at} bytes follow: truncated or "
            "damaged.",
        )
    if compressed:
        _check_chunks(path, size, points_at, header, records, length, points)
    scales, box = (
        struct.unpack_from("<3d", start, 131),
        struct.unpack_from("<6d", start, 179),
    )  # max x, min x, max y, ...
    return LasHeader(points=points, compressed=compressed, scales=scales, low=box[1::2], high=box[::2])


def _check_chunks(path: Path, size: int, points_at: int, header: int, records: int, length: int, points: int) -> None:
    """Hold the numbers by which the decompressor asks for memory against each other; it ends the process otherwise."""
    with path.open("rb") as file:
        file.seek(header)
        before = file.read(points_at - header)
        chunk_size = _chunk_size(path, before, records, length)
        file.seek(points_at)
        table_at = int.from_bytes(file.read(8), "little", signed=True)
        if table_at == -1:  # writers that could not go back put it at the end
            file.seek(size - 8)
            table_at = int.from_bytes(file.read(8), "little", signed=True)
        if not points_at + 8 <= table_at <= size - 8:
            raise FormatError(path, f"The table of chunks is at byte {table_at} of {size}: truncated or damaged.")
        file.seek(table_at)
        chunks = struct.unpack("<II", file.read(8))[1]
    wrong = chunks > points if chunk_size == _VARIABLE else chunks != -(-points // chunk_size)
    if wrong or chunks > table_at - points_at:
        raise FormatError(path, f"The table promises {chunks} chunks for {points} points: damaged.")


def _chunk_size(path: Path, before: bytes, records: int, length: int) -> int:
    at = 0
    for _ in range(records):
        user, number, stored = (
            struct.unpack_from("<2x16sHH32x", before, at) if at + _RECORD <= len(before) else (b"", 0, 0)
        )
        at += _RECORD
        if (user.rstrip(b"\0"), number) != _LASZIP:
            at += stored
            continue
        found = before[at : at + stored]
        if len(found) != stored or stored < 34:
            break
        chunk_size = int(struct.unpack_from("<I", found, 12)[0])
        items = struct.unpack_from("<H", found, 32)[0]
        if stored != 34 + 6 * items or chunk_size == 0:
            break
        sizes = sum(struct.unpack_from("<2xH2x", found, 34 + 6 * item)[0] for item in range(items))
        if sizes != length:
            raise FormatError(path, f"A compressed point has {sizes} bytes, the header promises {length}: damaged.")
        return chunk_size
    raise FormatError(path, "The record of the compression is missing or damaged.")
