"""The body of a PLY file: rows of numbers and lists, in text or in bytes of either order."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.formats.numbers import are_numbers, as_type, reals

__all__ = ["Element", "Group", "Table", "ascii_tables", "binary_tables"]

# Rows whose lists are equally long: which rows of the element (n,), and their values (n, length).
Group = tuple[npt.NDArray[np.int64], npt.NDArray[np.generic]]
Table = dict[str, Any]  # name of a property -> array (rows,), or list[Group] where the property is a list
_GATHERED = 1 << 18  # rows that are gathered at once


@dataclass
class Element:
    """One kind of row: its name, how many, and (name, type of value, type of count or "") of each property."""

    name: str
    rows: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        """Whether any property is a list."""
        return any(count for _, _, count in self.properties)


def ascii_tables(path: Path, body: bytes, elements: Sequence[Element]) -> tuple[dict[str, Table], int]:
    """Return the table of each element, and how many lines follow the last row.

    Raises:
        FormatError: The body is shorter than the header says, or a row is not what it promises.
    """
    lines = [words for line in body.decode("ascii", errors="replace").splitlines() if (words := line.split())]
    tables: dict[str, Table] = {}
    at = 0
    for element in elements:
        if at + element.rows > len(lines):
            raise _short(path, element)
        rows = lines[at : at + element.rows]
        at += element.rows
        if not element.has_lists:
            tables[element.name] = _ascii_numbers(path, rows, element)
        else:
            tables[element.name] = _ascii_lists(path, rows, element)
    return tables, len(lines) - at


def binary_tables(
    path: Path, raw: bytes, at: int, elements: Sequence[Element], order: str
) -> tuple[dict[str, Table], int]:
    """Return the table of each element, and how many bytes follow the last row.

    Args:
        path: The file, for messages.
        raw: All of its bytes.
        at: Where the body begins.
        elements: What the header promises.
        order: "<" or ">".

    Raises:
        FormatError: The body is shorter than the header says.
    """
    tables: dict[str, Table] = {}
    for element in elements:
        if element.has_lists:
            tables[element.name], at = _binary_lists(path, raw, at, element, order)
            continue
        row = np.dtype([(name, order + kind) for name, kind, _ in element.properties])
        if at + row.itemsize * element.rows > len(raw):
            raise _short(path, element)
        block = np.frombuffer(raw, row, element.rows, at) if row.itemsize else np.zeros(0, row)
        at += row.itemsize * element.rows
        tables[element.name] = {name: _native(block[name]) for name in row.names or ()}
    return tables, len(raw) - at


def _short(path: Path, element: Element) -> FormatError:
    return FormatError(
        path, f"The file ends before the {element.rows} rows of '{element.name}' that its header promises: truncated."
    )


def _native(values: npt.NDArray[Any]) -> npt.NDArray[np.generic]:
    native: npt.NDArray[np.generic] = values.astype(values.dtype.newbyteorder("="))
    return native


def _ascii_numbers(path: Path, rows: list[list[str]], element: Element) -> Table:
    width = len(element.properties)
    for words in rows:
        if len(words) != width:
            raise _no_row(path, element, words)
    try:
        values = reals([word for words in rows for word in words]).reshape(len(rows), width)
    except ValueError:
        raise _no_row(path, element, next(words for words in rows if not are_numbers(words))) from None
    return {
        name: _typed(path, values[:, k], element, name, kind) for k, (name, kind, _) in enumerate(element.properties)
    }


def _ascii_lists(path: Path, rows: list[list[str]], element: Element) -> Table:
    numbers: dict[str, list[str]] = {name: [] for name, _, count in element.properties if not count}
    lists: dict[str, dict[int, tuple[list[int], list[str]]]] = {
        name: {} for name, _, count in element.properties if count
    }
    for row, words in enumerate(rows):
        at = 0
        for name, _, count in element.properties:
            if not count:
                numbers[name].extend(words[at : at + 1])
                at += 1
                continue
            length = int(words[at]) if at < len(words) and words[at].isdecimal() and words[at].isascii() else -1
            if not 0 <= length <= len(words) - at - 1:
                raise _no_row(path, element, words)
            where, values = lists[name].setdefault(length, ([], []))
            where.append(row)
            values.extend(words[at + 1 : at + 1 + length])
            at += 1 + length
        if at != len(words):
            raise _no_row(path, element, words)
    table: Table = {}
    for name, kind, count in element.properties:
        try:
            if not count:
                table[name] = _typed(path, reals(numbers[name]), element, name, kind)
                continue
            table[name] = [
                (np.array(where), _typed(path, reals(values), element, name, kind).reshape(len(where), length))
                for length, (where, values) in lists[name].items()
            ]
        except ValueError:
            raise FormatError(path, f"A value of '{name}' of '{element.name}' is no number.") from None
    return table


def _no_row(path: Path, element: Element, words: list[str]) -> FormatError:
    return FormatError(
        path,
        f"A row of '{element.name}' is not the {len(element.properties)} numbers that the header promises: "
        f"'{' '.join(words)[:60]}'.",
    )


def _typed(
    path: Path, values: npt.NDArray[np.float64], element: Element, name: str, kind: str
) -> npt.NDArray[np.generic]:
    try:
        return as_type(values, kind)
    except ValueError as error:
        raise FormatError(
            path, f"A value of '{name}' of '{element.name}': {error} the type {np.dtype(kind)} that the header gives."
        ) from None


def _binary_lists(path: Path, raw: bytes, at: int, element: Element, order: str) -> tuple[Table, int]:
    """Read rows with lists: at once where every row is as long as the first, else by the lengths of their lists."""
    if element.rows == 0:
        return {name: [] if count else np.zeros(0, kind) for name, kind, count in element.properties}, at
    first = _walk(path, raw, at, element, order, 1)[1]
    row = _layout(element, order, first[0])
    if at + row.itemsize * element.rows <= len(raw):
        block = np.frombuffer(raw, row, element.rows, at)
        lists = [name for name, _, count in element.properties if count]
        if all((block[f"count {name}"] == length).all() for name, length in zip(lists, first[0], strict=True)):
            every = np.arange(element.rows)
            return _table(element, [(every, block)]), at + row.itemsize * element.rows
    starts, lengths, end = _walk(path, raw, at, element, order, element.rows)
    kinds, of_kind = np.unique(lengths, axis=0, return_inverse=True)
    data = np.frombuffer(raw, np.uint8)
    blocks = []
    for number, kind in enumerate(kinds):
        row = _layout(element, order, kind)
        rows = np.flatnonzero(of_kind.reshape(-1) == number)
        for part in np.array_split(rows, len(rows) // _GATHERED + 1):
            gathered = data[starts[part][:, None] + np.arange(row.itemsize)]
            blocks.append((part, gathered.reshape(-1).view(row)))
    return _table(element, blocks), end


def _walk(
    path: Path, raw: bytes, at: int, element: Element, order: str, rows: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Return where each row begins, the length of each of its lists (rows, lists), and where the last one ends."""
    steps: list[tuple[int, struct.Struct, int, int]] = []  # bytes before, how the count is read, its size, a value's
    tail = 0
    for _, kind, count in element.properties:
        size = np.dtype(kind).itemsize
        if count:
            steps.append((tail, struct.Struct(order + np.dtype(count).char), np.dtype(count).itemsize, size))
            tail = 0
        else:
            tail += size
    least = sum(before + size for before, _, size, _ in steps) + tail
    if least * rows > len(raw) - at:
        raise _short(path, element)
    starts: list[int] = []
    lengths: list[int] = []
    end = len(raw)
    for _ in range(rows):
        starts.append(at)
        for before, count_of, count_size, size in steps:
            at += before
            if at + count_size > end:
                raise _short(path, element)
            length = count_of.unpack_from(raw, at)[0]
            if length < 0:
                raise FormatError(path, f"A list of '{element.name}' has {length} values: the file is damaged.")
            lengths.append(length)
            at += count_size + length * size
        at += tail
        if at > end:
            raise _short(path, element)
    return np.array(starts), np.array(lengths).reshape(rows, len(steps)), at


def _layout(element: Element, order: str, lengths: npt.NDArray[np.int64]) -> np.dtype[Any]:
    fields: list[Any] = []
    left = iter(lengths.tolist())
    for name, kind, count in element.properties:
        if count:
            fields += [(f"count {name}", order + count), (name, order + kind, (next(left),))]
        else:
            fields.append((name, order + kind))
    return np.dtype(fields)


def _table(element: Element, blocks: list[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]) -> Table:
    table: Table = {}
    for name, kind, count in element.properties:
        if count:
            table[name] = [(rows, _native(block[name])) for rows, block in blocks]
            continue
        column = np.empty(element.rows, kind)
        for rows, block in blocks:
            column[rows] = block[name]
        table[name] = column
    return table
