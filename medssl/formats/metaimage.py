"""Headers of MetaImage (.mha, .mhd): checked line by line, for SimpleITK crashes or hangs on some that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.errors import FormatError
from medssl.formats.named_data import data_file
from medssl.formats.text_header import TextHeader, numbered, numbers, promise, require, sizes_of, whole

__all__ = ["read_metaimage_header"]

_HEAD_BYTES = 1 << 20
_TYPES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
_PLACES = ("Offset", "Origin", "Position", "CenterOfRotation")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")


def read_metaimage_header(path: Path) -> TextHeader:
    """Read and check the header.

    Args:
        path: A .mha or .mhd file.

    Raises:
        FormatError: It is no header of a scan of real numbers, or names data outside of its folder.
    """
    fields, rest, end = _fields(path)
    if fields.get("ObjectType", "Image").lower() != "image":
        raise FormatError(path, f"It holds a '{fields['ObjectType'][:40]}', not an image.")
    require(path, fields, ("NDims", "DimSize", "ElementType"), kind="MetaImage")
    axes = whole(path, "NDims", fields["NDims"], 2, 4)
    size = sizes_of(path, "DimSize", fields["DimSize"].split(), axes)
    channels = whole(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1, 2**20)
    if channels != 1:
        raise FormatError(
            path, f"Each voxel has {channels} components (colour or vectors); one is read. Write them as single files."
        )
    kind = fields["ElementType"]
    if kind not in _TYPES:
        raise FormatError(path, f"The voxels are of the type '{kind[:40]}'. Allowed: {', '.join(_TYPES)}.")
    _geometry(path, fields, axes)
    data = _data(path, fields["ElementDataFile"], rest, size[-1])
    there = sum(file.stat().st_size for file in data) if data else path.stat().st_size - end
    packed = fields.get("CompressedData", "False").lower() in ("true", "1", "t")
    if fields.get("BinaryData", "True").lower() in ("true", "1", "t"):
        promise(path, size, _TYPES[kind], there=there, packed=packed)
    return TextHeader(size=size, data=data, warnings=_warnings(fields))


def _geometry(path: Path, fields: dict[str, str], axes: int) -> None:
    for name in ("ElementSpacing", "ElementSize"):
        if name in fields:
            numbers(path, name, fields[name].split(), axes, positive=True)
    for name in _PLACES:
        if name in fields:
            numbers(path, name, fields[name].split(), axes)
    for name in _MATRICES:
        if name in fields:
            matrix = np.array(numbers(path, name, fields[name].split(), axes * axes)).reshape(axes, axes)
            if np.abs(matrix).max() > 1e3 or abs(np.linalg.det(matrix)) < 1e-6:
                raise FormatError(path, f"The directions in '{name}' are no axes of a grid. Fix the header.")
    for name in ("HeaderSize", "CompressedDataSize"):
        if name in fields:
            whole(path, name, fields[name], -1, 2**62)


def _fields(path: Path) -> tuple[dict[str, str], list[str], int]:
    """Return the fields, the lines behind the last of them, and where that ends."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    fields: dict[str, str] = {}
    place = 0
    while place < len(head):
        stop = head.find(b"\n", place)
        stop = len(head) if stop < 0 else stop
        line = head[place:stop].decode("latin-1").strip()
        place = stop + 1
        if not line:
            continue
        key, separator, value = line.partition("=")
        if not separator or not key.strip().isidentifier():
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            rest = head[place:].decode("latin-1").splitlines() if path.suffix.lower() == ".mhd" else []
            return fields, [row.strip() for row in rest if row.strip()], min(place, len(head))
    raise FormatError(path, "The header does not end in 'ElementDataFile', so it is not a readable MetaImage.")


def _data(path: Path, named: str, rest: list[str], slices: int) -> tuple[Path, ...]:
    if named.upper() == "LOCAL":
        return ()
    words = named.split()
    if words[:1] and words[0].upper() == "LIST":
        files = tuple(data_file(path, name) for name in rest)
    elif "%" in named:
        files = numbered(path, words)
    else:
        return (data_file(path, named),)
    if len(words) < 2 and words[0].upper() == "LIST" and len(files) != slices:
        raise FormatError(path, f"It lists {len(files)} data files for {slices} slices. Copy the folder again.")
    return files


def _warnings(fields: dict[str, str]) -> tuple[str, ...]:
    said = [
        fields.get(f"ElementToIntensityFunction{name}", default) for name, default in (("Slope", "1"), ("Offset", "0"))
    ]
    try:
        plain = [float(text) for text in said] == [1.0, 0.0]
    except ValueError:
        plain = False
    if plain:
        return ()
    return (f"intensity function: slope {said[0]} and offset {said[1]} of the header were not applied, as by ITK",)
