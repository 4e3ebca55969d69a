"""What NIfTI headers say besides geometry: where the voxels begin, in which unit, and what they mean."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

from medssl.errors import FormatError

__all__ = ["check_offset", "intent_notes", "unit_mm"]

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, m, mm, micrometre
_UNIT_BITS, _INTENT_LABEL = 0x07, 1002
_HEADERS = {348: ("f", 108), 540: ("q", 168)}  # sizeof_hdr -> type and place of vox_offset


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
    order, length = next(
        ((order, n) for order in "<>" if (n := struct.unpack_from(f"{order}i", head)[0]) in _HEADERS), ("", 0)
    )
    if not length or len(head) < length:
        raise FormatError(path, "This is not a readable NIfTI file: it does not start with a header of 348 or 540 bytes.")
    kind, place = _HEADERS[length]
    offset = float(struct.unpack_from(order + kind, head, place)[0])
    least = length + 4
    if not math.isfinite(offset) or not least <= offset <= 2**62 or not offset.is_integer():
        raise FormatError(
            path,
            f"The voxels would begin at byte {offset:g} (vox_offset); the header ends at {least}. Write the file anew.",
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


def _head(path: Path, count: int) -> bytes:
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            return bytes(file.read(count))
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(path, f"The gzip archive is truncated or damaged ({error}). Copy it again.") from error
