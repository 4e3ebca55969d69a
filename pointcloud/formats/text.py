"""Text with one point a line: .xyz .xyzn .xyzrgb .xyzi .pts .txt .csv .asc."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.columns import ALIASES, guessed, named
from pointcloud.formats.files import contents

__all__ = ["lines_of", "read", "text_of"]

# What these suffixes promise after x, y, z.
_ORDER = {".xyzn": ("nx", "ny", "nz"), ".xyzrgb": ("red", "green", "blue"), ".xyzi": ("intensity",)}
_BETWEEN, _BETWEEN_DECIMALS = re.compile(r"[,;\s]+"), re.compile(r"[;\s]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_DECIMAL = re.compile(r"[+-]?\d*(,\d+)?([eE][+-]?\d+)?")
_QUOTED_COMMA = re.compile(r'"[^",;\s]+,[^",;\s]+"')
_LOOKED_AT = 64  # rows that tell whether a comma parts columns or is the decimal point


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        FormatError: The file is missing, empty, or no text.
    """
    text = text_of(contents(path))
    if text is None:
        raise FormatError(path, "This is no text file. Its suffix says it is: look what it really holds.")
    return text.splitlines()


def text_of(raw: bytes) -> str | None:
    """Return bytes as text: UTF-8, UTF-16 where a mark says so, Latin-1 where no control characters are among them."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None if _CONTROL.search(raw) else raw.decode("latin-1")


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read a table of points.

    Columns may be parted by commas, semicolons or spaces; where others part them, a comma is the decimal point. Lines
    that begin with # or // are left out, and a first line of words names the columns. A first line of one whole number
    is the number of points, which is checked.

    Raises:
        FormatError: A line is no row of numbers, or the rows differ in length.
    """
    del item, samples, seed  # the file holds one cloud of points
    names, kept, promised = _split(path)
    if not kept:
        raise FormatError(path, "The file has no rows of numbers.")
    values = _numbers(path, kept)
    if promised is not None and promised != len(values):
        raise FormatError(path, f"The first line promises {promised} points; {len(values)} are there.")
    if names is not None:
        if len(names) != values.shape[1]:
            raise FormatError(path, f"The first line names {len(names)} columns, the rows have {values.shape[1]}.")
        return make_cloud(path=path, **named(dict(zip(names, values.T, strict=True)), path))
    return make_cloud(path=path, **guessed(values, path, order=_ORDER.get(path.suffix.lower(), ())))


def _split(path: Path) -> tuple[list[str] | None, list[tuple[int, str]], int | None]:
    """Return the names of the columns, the rows with their line numbers, and the number of points promised."""
    names: list[str] | None = None
    kept: list[tuple[int, str]] = []
    promised = None
    for number, line in enumerate(lines_of(path), start=1):
        row = line.strip()
        if not row or (row.startswith(("#", "//")) and (kept or not _are_names(_fields(row.lstrip("#/ "))))):
            continue
        if not kept and names is None and promised is None:
            fields = _fields(row.lstrip("#/ "))
            if _are_names(fields):
                # Tables that some programs write begin with a column of row numbers, which has no name.
                names = ["column 1", *fields] if row[0] in ",;" else fields
                continue
            if len(fields) == 1 and fields[0].isdigit():
                promised = int(fields[0])
                continue
        kept.append((number, row))
    return names, kept, promised


def _fields(row: str) -> list[str]:
    return [field.strip("\"'") for field in _BETWEEN.split(row.strip(",; \t")) if field]


def _are_names(fields: list[str]) -> bool:
    return len(fields) >= 3 and any(field.lower() in ALIASES["x"] for field in fields)


def _numbers(path: Path, kept: list[tuple[int, str]]) -> npt.NDArray[np.float64]:
    if _has_decimal_commas([row for _, row in kept[:_LOOKED_AT]]):
        split = [(number, [field.replace(",", ".") for field in _BETWEEN_DECIMALS.split(row)]) for number, row in kept]
    else:
        split = [(number, _fields(row)) for number, row in kept]
        quoted = next((number for number, row in kept if _QUOTED_COMMA.search(row)), None)
        if quoted is not None:
            raise FormatError(
                path, f"Line {quoted} has a comma within quotes. Write numbers without thousands' commas."
            )
    width = len(split[0][1])
    flat: list[str] = []
    for number, fields in split:
        if len(fields) != width:
            raise FormatError(path, f"Line {number} has {len(fields)} columns, the first row has {width}.")
        flat.extend(fields)
    try:
        return np.array(flat, dtype=np.float64).reshape(len(kept), width)
    except ValueError:
        if width >= 3 and not any(_is_number(field) for field in split[0][1]):
            found = ", ".join(split[0][1])[:80]
            raise FormatError(
                path, f"The first line names the columns {found}; none of them is x. Call them x, y, z."
            ) from None
        for number, fields in split:
            for field in fields:
                if not _is_number(field):
                    raise FormatError(path, f"Line {number}: '{field[:40]}' is no number.") from None
        raise


def _has_decimal_commas(rows: list[str]) -> bool:
    """Tell whether columns are parted by something else than commas, and numbers have commas within."""
    split = [_BETWEEN_DECIMALS.split(row) for row in rows]
    if any(len(fields) < 3 or not all(_DECIMAL.fullmatch(field) for field in fields) for fields in split):
        return False
    return any("," in row for row in rows)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
