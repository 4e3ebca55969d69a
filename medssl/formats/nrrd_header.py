"""Headers of NRRD (.nrrd, .nhdr): checked line by line before SimpleITK reads them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medssl.errors import FormatError
from medssl.formats.named_data import data_file
from medssl.formats.text_header import TextHeader, numbered, numbers, promise, require, sizes_of, whole

__all__ = ["read_nrrd_header"]

_HEAD_BYTES = 1 << 20
_NAMES = {
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
    2: "short, short int, signed short, signed short int, int16, int16_t, ushort, unsigned short, unsigned "
    "short int, uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t, "
    "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
_BYTES = {name: size for size, names in _NAMES.items() for name in names.split(", ")}
_ON_THE_GRID = {"domain", "space", "time", "???", "none", "stub", "scalar"}
_VECTOR = re.compile(r"none|\([^)]*\)", re.I)


def read_nrrd_header(path: Path) -> TextHeader:
    """Read and check the header.

    Args:
        path: A .nrrd or .nhdr file.

    Raises:
        FormatError: It is no header of a scan of real numbers, or names data outside of its folder.
    """
    fields, rest, end = _fields(path)
    require(path, fields, ("dimension", "sizes", "type", "encoding"), kind="NRRD")
    axes = whole(path, "dimension", fields["dimension"], 1, 16)
    size = sizes_of(path, "sizes", fields["sizes"].split(), axes)
    _components(path, fields, size)
    if not 2 <= axes <= 4:
        raise FormatError(path, f"The image has {axes} axes; a scan has 3, or 4 with frames.")
    kind = fields["type"].lower()
    if kind not in _BYTES:
        raise FormatError(path, f"The voxels are of the type '{kind[:40]}'; only real numbers are read.")
    _geometry(path, fields, axes)
    data = _data(path, fields.get("data file", fields.get("datafile", "")), rest)
    skipped = [
        whole(path, name, fields.get(name, "0"), low, 2**62) for name, low in (("line skip", 0), ("byte skip", -1))
    ]
    encoding = fields["encoding"].lower()
    if encoding in ("raw", "gz", "gzip") and (encoding == "raw" or not any(skipped)):
        there = sum(file.stat().st_size for file in data) if data else path.stat().st_size - end
        promise(path, size, _BYTES[kind], there=there, packed=encoding != "raw")
    return TextHeader(size=size, data=data)


def _fields(path: Path) -> tuple[dict[str, str], list[str], int]:
    """Return the fields, the lines of a list of files, and where the header ends."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.startswith(b"NRRD"):
        raise FormatError(path, f"The file does not start as a {path.suffix.lower()} file does.")
    fields: dict[str, str] = {}
    place = head.find(b"\n") + 1
    if not place:
        raise FormatError(path, "The header cannot be read: it is one line. Copy or download it again.")
    while place < len(head):
        stop = head.find(b"\n", place)
        stop = len(head) if stop < 0 else stop
        line = head[place:stop].decode("latin-1").strip()
        place = stop + 1
        if not line:
            break
        if line.startswith("#") or ":=" in line:
            continue
        key, separator, value = line.partition(": ")
        if not separator:
            key, separator, value = line.partition(":")
        if not separator:
            raise FormatError(path, f"The header cannot be read: '{line[:40]}' is not a field of an NRRD file.")
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() in ("data file", "datafile") and value.strip().upper().startswith("LIST"):
            rest = head[place:].decode("latin-1").splitlines()
            return fields, [row.strip() for row in rest if row.strip()], len(head)
    return fields, [], min(place, len(head))


def _components(path: Path, fields: dict[str, str], size: tuple[int, ...]) -> None:
    """Refuse an axis that counts components of a voxel and no places."""
    kinds = fields.get("kinds", "").lower().split()
    directions = [word.lower() for word in _VECTOR.findall(fields.get("space directions", ""))]
    for axis, count in enumerate(size):
        kind = kinds[axis] if axis < len(kinds) else "???"
        nowhere = axis < len(directions) and directions[axis] == "none" and axis == 0 and kind in ("???", "none")
        if kind not in _ON_THE_GRID or nowhere:
            named = "of no place in space" if nowhere else f"of the kind '{kind[:30]}'"
            raise FormatError(
                path,
                f"Axis {axis} ({count} long) is {named}: colour, vectors or layers, of which one is read. "
                f"Each voxel has {count} components. Write them as single files.",
            )


def _geometry(path: Path, fields: dict[str, str], axes: int) -> None:
    if "spacings" in fields:
        texts = fields["spacings"].split()
        sizes = [text for n, text in enumerate(texts) if n < 3 or text.lower() != "nan"]  # frames have none
        numbers(path, "spacings", sizes, len(sizes), positive=True)
        if len(texts) != axes:
            raise FormatError(path, f"The header has {axes} axes and {len(texts)} 'spacings'. Fix the header.")
    if "space directions" in fields:
        vectors = [word for word in _VECTOR.findall(fields["space directions"]) if word.lower() != "none"]
        if not vectors:
            raise FormatError(path, "The header's 'space directions' name no direction. Fix the header.")
        width = len(vectors[0].strip("()").split(","))
        rows = [numbers(path, "space directions", word.strip("()").split(","), width) for word in vectors]
        if any(np.linalg.norm(row) < 1e-9 for row in rows):
            raise FormatError(path, "The voxel size in 'space directions' is zero. Fix the header.")
        unit = np.array([np.array(row) / np.linalg.norm(row) for row in rows])
        if len(rows) == width and abs(np.linalg.det(unit)) < 1e-3:
            raise FormatError(path, "The 'space directions' are no axes of a grid: two are parallel. Fix the header.")
    if "space origin" in fields:
        texts = fields["space origin"].strip("() ").split(",")
        numbers(path, "space origin", texts, len(texts))


def _data(path: Path, named: str, rest: list[str]) -> tuple[Path, ...]:
    if not named or named.upper() == "LOCAL":
        return ()
    if named.upper().startswith("LIST"):
        return tuple(data_file(path, name) for name in rest)
    if "%" in named and len(named.split()) >= 3:
        return numbered(path, named.split())
    return (data_file(path, named),)
