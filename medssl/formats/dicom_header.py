"""A DICOM file's header up to its pixels, and its numbers as they were meant."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import FormatError
from medssl.formats.files import first_bytes, looks_like_text

__all__ = ["PixelElement", "Vector", "near", "number", "numbers", "read_dataset", "starts_as_dicom"]

Vector = tuple[float, ...]
_PIXELS = {0x7FE00008: "float32", 0x7FE00009: "float64", 0x7FE00010: ""}
_UNDEFINED = 0xFFFFFFFF
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True, kw_only=True)
class PixelElement:
    """Where the pixels lie in a file.

    Attributes:
        dtype: "float32" or "float64" where they are floating point, "" where they are integers.
        length: Bytes that the header promises; None where they are compressed, or their length is not said.
        begin: Offset of their first byte.
    """

    dtype: str
    length: int | None
    begin: int


def starts_as_dicom(path: Path) -> bool:
    """Tell whether the file has DICOM's mark. Files that cannot be opened have none."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_dataset(path: Path, keywords: Sequence[str | int]) -> tuple[Any, PixelElement | None]:
    """Return a header without its pixels, and where the pixels are; None where the object has none.

    Args:
        path: The file.
        keywords: The values that are wanted, by keyword or tag; others are passed over.

    Raises:
        FormatError: The file is text, or cannot be opened.
        Exception: Whatever pydicom meets first in a damaged header.
    """
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    start = first_bytes(path, 512)
    if start[128:132] != b"DICM" and looks_like_text(start):
        raise FormatError(path, "The file is text, not a DICOM file.")
    seen: list[tuple[int, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if int(tag) in _PIXELS:
            seen.append((int(tag), length))
            return True
        return False

    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # odd but readable values, of which clinical files are full
        dataset = read_partial(file, stop_when=at_pixels, force=True, specific_tags=[Tag(name) for name in keywords])
        begin = file.tell()
    if not seen:
        return dataset, None
    tag, length = seen[0]
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID") or "")
    known = length != _UNDEFINED and syntax != _DEFLATED
    return dataset, PixelElement(dtype=_PIXELS[tag], length=length if known else None, begin=begin)


def number(dataset: Any, keyword: str, *, strict: bool = True) -> float | None:
    """Return the first number of a value; None where there is none.

    Args:
        dataset: A pydicom dataset, or a dictionary by keyword.
        keyword: Which value.
        strict: Whether something that is no number is an error, or counts as nothing.

    Raises:
        ValueError: ``strict``, and there is something that is no number.
    """
    try:
        parts = _parts(dataset.get(keyword))
        return _float(keyword, parts[0]) if parts else None
    except (ValueError, TypeError):
        if strict:
            raise
        return None


def numbers(dataset: Any, keyword: str, count: int) -> Vector | None:
    """Return ``count`` finite numbers; None where there is nothing.

    Raises:
        ValueError: There is something else.
    """
    parts = _parts(dataset.get(keyword))
    if not parts:
        return None
    found = tuple(_float(keyword, part) for part in parts)
    if len(found) != count:
        raise ValueError(f"{keyword} has {len(found)} values, not {count}")
    return found


def near(a: Vector | None, b: Vector | None, tolerance: float) -> bool:
    """Tell whether two vectors are equal within a tolerance; nothing is near to nothing."""
    if a is None or b is None:
        return a is b
    return bool(np.allclose(a, b, rtol=0.0, atol=tolerance))


def _parts(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)


def _float(keyword: str, value: Any) -> float:
    text = str(value).strip()
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")  # a decimal comma, of programs that write numbers as their country does
    try:
        result = float(text)
    except ValueError:
        raise ValueError(f"{keyword} is '{text[:40]}', which is not a number") from None
    if not np.isfinite(result):
        raise ValueError(f"{keyword} is {text[:40]}")
    return result
