"""What NIfTI headers say besides geometry: where the voxels begin, in which unit, and what they mean."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

from medssl.errors import FormatError

__all__ = ["check_offset", "intent_notes", "size_notes", "unit_mm"]

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, m, mm, micrometre
_UNIT_BITS, _INTENT_LABEL = 0x07, 1002
_HEADERS = {348: ("f", 108), 540: ("q", 168)}  # sizeof_hdr -> type and place of vox_offset
_SIZES = {348: ("3f", 80), 540: ("3d", 112)}  # ... of pixdim[1..3]


def check_offset(path: Path) -> None:
    """Refuse a file whose voxels would begin within its header or within an extension of it.

    Args:
        path: A .nii or .nii.gz file.

    Raises:
        FormatError: They would, or it is no NIfTI header.
    """
    head = _head(path, 544)
    if len(head) < 348:
        raise FormatError(path, f"The file is truncated: {len(head)} bytes, and a NIfTI header has 348. Copy it again.")
    order, length = _order(head)
    if not length:
        raise FormatError(
            path, "This is not a readable NIfTI file: it does not start with a header of 348 or 540 bytes."
        )
    kind, place = _HEADERS[length]
    offset = float(struct.unpack_from(order + kind, head, place)[0])
    least = length + 4
    if not math.isfinite(offset) or not least <= offset <= 2**62 or not offset.is_integer():
        raise FormatError(
            path,
            f"The voxels would begin at byte {offset:g} (vox_offset); the header ends at {least}. Save the file again.",
        )
    if len(head) <= length or head[length] == 0:
        return
    end, head = least, _head(path, min(int(offset), 1 << 26))
    while end + 8 <= offset and end + 8 <= len(head):
        size = struct.unpack_from(f"{order}i", head, end)[0]
        if size < 16 or size % 16:
            return  # padding, or the work of a writer that knows no extensions; nothing of it is read
        end += size
    if end > offset:
        raise FormatError(
            path, f"The voxels would begin at byte {offset:g}, within an extension of the header that ends at {end}."
        )


def unit_mm(raw: Any) -> tuple[float, list[str]]:
    """Return how many mm the header's unit of length is, and what is doubtful about it."""
    code = int(raw["xyzt_units"]) & _UNIT_BITS
    if code in _MM_PER_UNIT:
        return _MM_PER_UNIT[code], []
    return 1.0, [f"unit of length: the header's code {code} is none that is known; mm were taken"]


def intent_notes(raw: Any) -> list[str]:
    """Return what the header says that the values mean, where that matters."""
    if int(raw["intent_code"]) == _INTENT_LABEL:
        return ["intent: the header says that the values are labels"]
    return []


def size_notes(header: Path, shape: tuple[int, ...]) -> list[str]:
    """Return what is wrong with the voxel sizes as they stand in the file; nibabel mends them without a word.

    Args:
        header: The file that holds the header.
        shape: Voxels (x, y, z); of an axis of one voxel only a size that is no number matters.
    """
    head = _head(header, 544)
    order, length = _order(head)
    kind, place = _SIZES.get(length, ("", 0))
    if not kind:
        return []
    sizes = struct.unpack_from(order + kind, head, place)[: len(shape)]
    found = [size for size, count in zip(sizes, shape, strict=False) if count > 1 or not math.isfinite(size)]
    said = " x ".join(f"{size:g}" for size in sizes)
    if not all(math.isfinite(size) and size != 0 for size in found):
        return [f"no voxel size: the header's pixdim says {said} (x, y, z), and where it counts 1 was taken for it"]
    if any(size < 0 for size in found):
        return [f"negative voxel size: the header's pixdim says {said} (x, y, z); its sign was dropped"]
    return []


def _order(head: bytes) -> tuple[str, int]:
    """Return the order of bytes and the length that the header names; "" and 0 where it is no NIfTI header."""
    known = ((order, struct.unpack_from(f"{order}i", head)[0]) for order in "<>" if len(head) >= 4)
    return next(((order, length) for order, length in known if length in _HEADERS and len(head) >= length), ("", 0))


def _head(path: Path, count: int) -> bytes:
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            return bytes(file.read(count))
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(path, f"The gzip archive is truncated or damaged ({error}). Copy it again.") from error
