"""Text with one point a line: .xyz .xyzn .xyzrgb .xyzi .pts .txt .csv .asc."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.columns import guessed, is_axis, is_x, listed, named
from pointcloud.formats.files import contents
from pointcloud.formats.numbers import are_numbers, reals

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

    Columns may be parted by commas, semicolons or spaces; where others part them, a comma is the decimal point. Between
    two commas or semicolons with nothing between them a value is missing (NaN). Lines that begin with # or // are left
    out, and a first line of words names the columns. A first line of one whole number is the number of points, which is
    checked; without it nobody can tell that rows are lacking at the end.

    Raises:
        FormatError: A line is no row of numbers, or the rows differ in length.
    """
    del item, samples, seed  # the file holds one cloud of points
    names, kept, promised = _split(path)
    if not kept:
        raise FormatError(path, "The file has no rows of numbers.")
    if promised is not None and promised != len(kept):
        raise FormatError(path, f"The first line promises {promised} points; {len(kept)} are there.")
    rows = _words(path, kept, names)
    if names is None:
        values = _numbers(path, kept, rows)
        return make_cloud(path=path, **guessed(values, path, order=_ORDER.get(path.suffix.lower(), ())))
    if len(names) != len(rows[0]):
        raise FormatError(path, f"The first line names {len(names)} columns, the rows have {len(rows[0])}.")
    if len(set(names)) < len(names):
        raise FormatError(path, f"The first line names a column twice: {listed(names)}.")
    columns, words = _columns(path, kept, rows, names)
    parts = named(columns, path)
    return make_cloud(path=path, **parts | {"warnings": (*parts["warnings"], *words)})


def _split(path: Path) -> tuple[list[str] | None, list[tuple[int, str]], int | None]:
    """Return the names of the columns, the rows with their line numbers, and the number of points promised."""
    names: list[str] | None = None
    kept: list[tuple[int, str]] = []
    promised = None
    for number, line in enumerate(lines_of(path), start=1):
        row = line.strip()
        if not row or (row.startswith(("#", "//")) and (kept or not _are_names(_fields(row.lstrip("#/ "))))):
            continue
        if not kept and (names is None or promised is None):
            fields = _names(row.lstrip("#/ "))
            if names is None and _are_names(fields):
                # Tables that some programs write begin with a column of row numbers, which has no name.
                names = [name or f"column {at}" for at, name in enumerate(fields, start=1)]
                continue
            if promised is None and len(fields) == 1 and fields[0].isascii() and fields[0].isdecimal():
                promised = int(fields[0][:20])
                continue
        kept.append((number, row))
    return names, kept, promised


def _fields(row: str) -> list[str]:
    return [field.strip("\"'") for field in _BETWEEN.split(row.strip(",; \t")) if field]


def _names(row: str) -> list[str]:
    """Return the names in a line; they may have blanks within where something else parts them."""
    between = next((mark for mark in ",;\t" if mark in row), None)
    return [field.strip().strip("\"'").strip() for field in row.split(between)]


def _are_names(fields: list[str]) -> bool:
    return len(fields) >= 3 and any(is_x(field) for field in fields)


def _words(path: Path, kept: list[tuple[int, str]], names: list[str] | None) -> list[list[str]]:
    """Return the fields of every row; all have the same number."""
    looked_at = [row for _, row in kept[:_LOOKED_AT]]
    mark = next((mark for mark in ",;" if all(mark in row for row in looked_at)), None)
    if _has_decimal_commas(looked_at):
        split = [[field.replace(",", ".") for field in _BETWEEN_DECIMALS.split(row)] for _, row in kept]
    else:
        quoted = next((number for number, row in kept if _QUOTED_COMMA.search(row)), None)
        if quoted is not None:
            raise FormatError(
                path, f"Line {quoted} has a comma within quotes. Write numbers without thousands' commas."
            )
        exact = mark is not None and all(len(field.split()) <= 1 for row in looked_at for field in row.split(mark))
        split = [_cells(row, mark) for _, row in kept] if exact and mark else [_fields(row) for _, row in kept]
        if exact and all(len(fields) > 1 and not fields[-1] for fields in split):  # every row ends in a comma
            if names and not names[-1].removeprefix(f"column {len(names)}"):
                names.pop()
            split = [fields[:-1] for fields in split]
    width = len(split[0])
    for (number, _), fields in zip(kept, split, strict=True):
        if len(fields) != width:
            raise FormatError(path, f"Line {number} has {len(fields)} columns, the first row has {width}.")
    return split


def _cells(row: str, mark: str) -> list[str]:
    return [field.strip().strip("\"'").strip() for field in row.split(mark)]


def _numbers(path: Path, kept: list[tuple[int, str]], rows: list[list[str]]) -> npt.NDArray[np.float64]:
    width = len(rows[0])
    try:
        return reals([field or "nan" for fields in rows for field in fields]).reshape(len(rows), width)
    except ValueError:
        if width >= 3 and not any(are_numbers([field]) for field in rows[0]):
            found = ", ".join(rows[0])[:80]
            raise FormatError(
                path, f"The first line names the columns {found}; none of them is x. Call them x, y, z."
            ) from None
        for (number, _), fields in zip(kept, rows, strict=True):
            for field in fields:
                if field and not are_numbers([field]):
                    raise FormatError(path, f"Line {number}: '{field[:40]}' is no number.") from None
        raise


def _columns(
    path: Path, kept: list[tuple[int, str]], rows: list[list[str]], names: list[str]
) -> tuple[dict[str, npt.NDArray[np.generic]], list[str]]:
    """Return the columns of numbers by name, and what is said of those that hold words."""
    columns: dict[str, npt.NDArray[np.generic]] = {}
    told = []
    for name, fields in zip(names, zip(*rows, strict=True), strict=True):
        try:
            columns[name] = reals([field or "nan" for field in fields])
        except ValueError:
            at = next(at for at, field in enumerate(fields) if field and not are_numbers([field]))
            found = f"'{fields[at][:40]}' is no number"
            if is_axis(name):
                raise FormatError(path, f"Line {kept[at][0]}: {found}.") from None
            told.append(f"The column '{name}' is not read: {found} (line {kept[at][0]}).")
    return columns, told


def _has_decimal_commas(rows: list[str]) -> bool:
    """Tell whether columns are parted by something else than commas, and numbers have commas within."""
    split = [_BETWEEN_DECIMALS.split(row) for row in rows]
    if any(len(fields) < 3 or not all(_DECIMAL.fullmatch(field) for field in fields) for fields in split):
        return False
    return any("," in row for row in rows)
