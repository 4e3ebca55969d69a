"""Headers in plain words (MetaImage, NRRD): read and checked before a library that would crash on them sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import FormatError
from medssl.formats.named_data import data_file

__all__ = ["TextHeader", "numbered", "numbers", "promise", "require", "sizes_of", "whole"]

_MOST_MM = 1e7  # ten kilometres from the origin, or along a voxel
_MOST_FILES = 100_000
_BEST_DEFLATE = 1100  # no stream of zlib unpacks to more than 1032 times its size


@dataclass(frozen=True, kw_only=True)
class TextHeader:
    """What the header says, checked.

    Attributes:
        size: Voxels along each axis, the fastest first.
        data: Files that hold the voxels, in order; empty where they follow the header.
        warnings: What a person should know.
    """

    size: tuple[int, ...]
    data: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()


def whole(path: Path, name: str, text: str, low: int, high: int) -> int:
    """Return a whole number of the header.

    Raises:
        FormatError: It is none, or out of range.
    """
    try:
        value = int(text.strip()) if text.isascii() and "_" not in text else None
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise FormatError(path, f"The header says '{name}: {text.strip()[:40]}'; {low} to {high} is allowed.")
    return value


def numbers(path: Path, name: str, texts: Sequence[str], count: int, *, positive: bool = False) -> list[float]:
    """Return ``count`` finite numbers of a reasonable size; above zero where they are sizes of voxels.

    Raises:
        FormatError: They are others.
    """
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) and abs(value) <= _MOST_MM for value in values):
        raise FormatError(path, f"The header says '{name}: {' '.join(texts)[:80]}'; {count} finite numbers are needed.")
    if positive and min(values) <= 0:
        raise FormatError(
            path, f"The voxel size is {' x '.join(texts)} (x, y, z), and must be above zero. Fix '{name}' in it."
        )
    return values


def sizes_of(path: Path, name: str, texts: Sequence[str], count: int) -> tuple[int, ...]:
    """Return the voxels along each axis.

    Raises:
        FormatError: They are no whole numbers from 1, or more of them than axes.
    """
    if len(texts) != count:
        raise FormatError(path, f"The header says '{name}: {' '.join(texts)[:80]}' and {count} axes.")
    return tuple(whole(path, name, text, 1, 2**31 - 1) for text in texts)


def require(path: Path, fields: Mapping[str, str], names: Sequence[str], *, kind: str) -> None:
    """Refuse a header that lacks one of its fields.

    Raises:
        FormatError: It does.
    """
    for name in names:
        if name not in fields:
            raise FormatError(path, f"The header has no '{name}', so it is not a readable {kind}.")


def numbered(header: Path, words: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of a pattern such as ``slice%03d.raw 1 9 1``: first, last and step.

    Raises:
        FormatError: The pattern is not understood, or one of its files is missing or lies elsewhere.
    """
    if len(words) < 3:
        raise FormatError(header, f"Its data files '{' '.join(words)[:80]}' name no first and last number.")
    pattern = words[0]
    first, last = (whole(header, "data files", word, 0, 2**31 - 1) for word in words[1:3])
    step = whole(header, "data files", words[3], 1, 2**31 - 1) if len(words) > 3 else 1
    if last < first or (last - first) // step >= _MOST_FILES:
        raise FormatError(header, f"Its data files go from {first} to {last}, which is not a series of slices.")
    try:
        names = [pattern % number for number in range(first, last + 1, step)]
    except (TypeError, ValueError):
        raise FormatError(header, f"Its data files '{pattern[:80]}' are no pattern such as slice%03d.raw.") from None
    return tuple(data_file(header, name) for name in names)


def promise(path: Path, size: Sequence[int], bytes_each: int, *, there: int, packed: bool) -> None:
    """Refuse a header that promises more voxels than the data can hold.

    Args:
        path: The file.
        size: Voxels along each axis.
        bytes_each: Bytes of a voxel.
        there: Bytes of the data.
        packed: Whether they are compressed.

    Raises:
        FormatError: It does.
    """
    wanted = math.prod(size) * bytes_each
    if wanted > there * (_BEST_DEFLATE if packed else 1):
        held = f"{there} compressed bytes" if packed else f"{there} bytes"
        raise FormatError(
            path, f"The file is truncated: {held} of voxels where the header promises {wanted}. Copy it again."
        )
