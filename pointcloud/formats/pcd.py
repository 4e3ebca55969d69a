"""PCD, the point cloud library's format: ascii, binary and binary_compressed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.columns import named
from pointcloud.formats.files import contents
from pointcloud.formats.lzf import decompress
from pointcloud.formats.numbers import as_type, reals

__all__ = ["read"]

_WAYS = ("ascii", "binary", "binary_compressed")
_WORDS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
_TYPES = ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_PACKED = ("rgb", "rgba")
_STRAIGHT = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]  # the viewpoint of a scan that was not moved


@dataclass(frozen=True)
class _Field:
    """A field of every point: its name in lower case, its numpy type and how many values it has."""

    name: str
    kind: str
    values: int

    @property
    def size(self) -> int:
        return int(self.kind[-1]) * self.values


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read a PCD file.

    A point that an organised scan marks as missing (NaN) is left out and counted. ``rgb`` and ``rgba`` are unpacked
    from the bits of their number, as PCL does. The viewpoint is not applied.

    Raises:
        FormatError: The header is wrong, or the body is not what the header says.
    """
    del item, samples, seed
    raw = contents(path)
    header, start = _header(path, raw)
    fields, points = _fields(path, header), _points(path, header)
    warnings: list[str] = []
    if header["DATA"][0] == "ascii":
        columns = _ascii(path, raw[start:], fields, points, warnings)
    elif header["DATA"][0] == "binary":
        columns = _binary(path, raw[start:], fields, points, warnings)
    else:
        columns = _compressed(path, raw[start:], fields, points, warnings)
    if _is_moved(header.get("VIEWPOINT", [])):
        warnings.append(f"The viewpoint {' '.join(header['VIEWPOINT'])[:80]} is not applied to the points.")
    several = [field.name for field in fields if field.values != 1 and field.name != "_"]
    parts = named(_without_packed(columns), path)
    warnings += parts.pop("warnings")
    if several:
        warnings.append(f"Fields of several values are not read: {', '.join(several)}.")
    return make_cloud(path=path, warnings=tuple(warnings), **parts)


def _header(path: Path, raw: bytes) -> tuple[dict[str, list[str]], int]:
    header: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in header:
        end = raw.find(b"\n", at)
        line = raw[at : end if end >= 0 else len(raw)]
        words = line.decode("ascii", errors="replace").split()
        if words and not words[0].startswith("#"):
            word = {"COLUMNS": "FIELDS"}.get(words[0].upper(), words[0].upper())  # COLUMNS until version 0.5
            if word not in _WORDS or len(words) < 2:
                raise FormatError(path, f"The header has a line that is no PCD: {bytes(line[:40])!r}.")
            header[word] = words[1:]
        if end < 0:
            break
        at = end + 1
    for word in ("FIELDS", "SIZE", "TYPE", "DATA"):
        if word not in header:
            raise FormatError(path, f"The header has no line {word}: it is no PCD file, or truncated.")
    header["DATA"] = [header["DATA"][0].lower()]
    if header["DATA"][0] not in _WAYS:
        raise FormatError(path, f"DATA is '{header['DATA'][0][:40]}'. Allowed: {', '.join(_WAYS)}.")
    return header, at


def _points(path: Path, header: dict[str, list[str]]) -> int:
    sizes = {word: _whole(path, word, header[word][0]) for word in ("POINTS", "WIDTH", "HEIGHT") if word in header}
    if "POINTS" not in sizes and "WIDTH" not in sizes:
        raise FormatError(path, "The header has no line POINTS: it is no PCD file, or truncated.")
    grid = sizes.get("WIDTH", 0) * sizes.get("HEIGHT", 1)
    points = sizes.get("POINTS", grid)
    if "WIDTH" in sizes and grid != points:
        raise FormatError(path, f"The header promises {points} points in a grid of {grid}; one of them is wrong.")
    if points == 0:
        raise FormatError(path, "The header promises 0 points.")
    return points


def _whole(path: Path, word: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise FormatError(path, f"{word} is '{text[:40]}', which is not a number of points.")
    return int(text[:20])  # more digits than any file has points; Python refuses thousands


def _fields(path: Path, header: dict[str, list[str]]) -> list[_Field]:
    names = header["FIELDS"]
    counts = header.get("COUNT", ["1"] * len(names))
    if not len(names) == len(header["SIZE"]) == len(header["TYPE"]) == len(counts):
        raise FormatError(path, "FIELDS, SIZE, TYPE and COUNT of the header differ in length.")
    fields = []
    for name, size, kind, count in zip(names, header["SIZE"], header["TYPE"], counts, strict=True):
        code = {"F": "f", "I": "i", "U": "u"}.get(kind.upper(), "") + size
        if code not in _TYPES or not (count.isascii() and count.isdecimal()):
            raise FormatError(
                path, f"Field '{name}' has type {kind}, size {size}, count {count}, which is no PCD type."
            )
        fields.append(_Field(name.lower(), "<" + code, int(count[:20])))
    known = [field.name for field in fields if field.name != "_"]  # padding, any number of times
    if len(set(known)) < len(known):
        raise FormatError(path, f"FIELDS names a field twice: {', '.join(known)[:200]}.")
    return fields


def _is_moved(viewpoint: list[str]) -> bool:
    try:
        return [float(word) for word in viewpoint] not in ([], _STRAIGHT)
    except ValueError:
        return True


def _kept(fields: list[_Field]) -> list[tuple[_Field, int]]:
    """Return the fields of one value, each with the bytes of a point that lie before it."""
    found, before = [], 0
    for field in fields:
        if field.values == 1 and field.name != "_":
            found.append((field, before))
        before += field.size
    return found


def _binary(
    path: Path, body: bytes, fields: list[_Field], points: int, warnings: list[str]
) -> dict[str, npt.NDArray[np.generic]]:
    row = sum(field.size for field in fields)
    if len(body) < row * points:
        raise FormatError(
            path, f"The header promises {points} points of {row} bytes; {len(body)} bytes follow: truncated."
        )
    if len(body) > row * points:
        warnings.append(f"{len(body) - row * points} bytes follow the last point; they are not read.")
    kept = _kept(fields)
    layout = np.dtype(
        {
            "names": [field.name for field, _ in kept],
            "formats": [field.kind for field, _ in kept],
            "offsets": [before for _, before in kept],
            "itemsize": row,
        }
    )
    values = np.frombuffer(body, layout, points)
    return {field.name: np.ascontiguousarray(values[field.name]) for field, _ in kept}


def _compressed(
    path: Path, body: bytes, fields: list[_Field], points: int, warnings: list[str]
) -> dict[str, npt.NDArray[np.generic]]:
    """Unpack the columns, which lie one after another."""
    row = sum(field.size for field in fields)
    if len(body) < 8:
        raise FormatError(path, "The body has no sizes: the file is truncated.")
    packed, size = struct.unpack_from("<II", body)
    if size != row * points:
        raise FormatError(
            path, f"The header promises {points} points of {row} bytes, the body {size} bytes: the file is damaged."
        )
    if packed > len(body) - 8:
        raise FormatError(path, f"The body promises {packed} bytes; {len(body) - 8} follow: truncated or damaged.")
    if packed < len(body) - 8:
        warnings.append(f"{len(body) - 8 - packed} bytes follow the last point; they are not read.")
    try:
        raw = decompress(body[8 : 8 + packed], size)
    except ValueError as error:
        raise FormatError(path, f"The compressed body is damaged: {error}.") from None
    return {field.name: np.frombuffer(raw, field.kind, points, before * points) for field, before in _kept(fields)}


def _ascii(
    path: Path, body: bytes, fields: list[_Field], points: int, warnings: list[str]
) -> dict[str, npt.NDArray[np.generic]]:
    lines = [words for line in body.decode("ascii", errors="replace").splitlines() if (words := line.split())]
    lines = [words for words in lines if not words[0].startswith("#")]
    if len(lines) < points:
        raise FormatError(path, f"The header promises {points} points; {len(lines)} rows follow: truncated.")
    if len(lines) > points:
        warnings.append(f"{len(lines) - points} lines follow the last point; they are not read.")
        lines = lines[:points]
    width = sum(field.values for field in fields)
    if any(len(words) != width for words in lines):
        raise FormatError(path, f"A row has not the {width} values that the header promises.")
    columns: dict[str, npt.NDArray[np.generic]] = {}
    at = 0
    for field in fields:
        if field.values == 1 and field.name != "_":
            words = [line[at] for line in lines]
            try:
                columns[field.name] = _of_type(words, field.kind[1:])
            except (ValueError, OverflowError):
                raise FormatError(
                    path, f"A value of field '{field.name}' is no number of type {field.kind[1:]}."
                ) from None
            lost = columns[field.name]
            if field.name in _PACKED and lost.dtype.kind == "f" and np.isnan(lost).any():  # type: ignore[type-var]
                warnings.append(f"'{field.name}' is packed in a real that text does not keep (NaN); it is not read.")
                del columns[field.name]
        at += field.values
    return columns


def _of_type(words: list[str], kind: str) -> npt.NDArray[np.generic]:
    values = reals(words)
    if kind in ("i8", "u8"):  # float64 would round them
        return np.array([int(word) for word in words], dtype=kind)
    return as_type(values, kind)


def _without_packed(columns: dict[str, npt.NDArray[np.generic]]) -> dict[str, npt.NDArray[np.generic]]:
    found: dict[str, npt.NDArray[np.generic]] = {}
    for name, column in columns.items():
        if name in _PACKED and column.dtype.itemsize == 4:
            packed = np.ascontiguousarray(column).view(np.uint32)
            for shift, colour in ((16, "red"), (8, "green"), (0, "blue")):
                found[colour] = ((packed >> np.uint32(shift)) & np.uint32(255)).astype(np.uint8)
        else:
            found[name] = column
    return found
