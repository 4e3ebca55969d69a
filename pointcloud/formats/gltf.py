"""What a GLB or glTF file says of its parts, and which of them can be read, before a library believes it."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from medssl.errors import FormatError

__all__ = ["Described", "described", "files_of"]

_JSON = 0x4E4F534A
_SOLID_MODES, _LINES = {0: "points", 4: "triangles", 5: "triangles"}, {1, 2, 3}
_DRACO, _QUANTISED = "KHR_draco_mesh_compression", "KHR_mesh_quantization"
_UNREAD = {"EXT_meshopt_compression", "KHR_meshopt_compression"}
_BYTE, _FLOAT = 5121, 5126


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the description of a file says.

    Attributes:
        content: The file's bytes, without the parts that cannot be read.
        coloured: Whether every part has colours of its vertices, as bytes or reals.
        warnings: What was left out, with counts.
    """

    content: bytes
    coloured: bool
    warnings: tuple[str, ...]


def described(path: Path, raw: bytes, kind: str) -> Described:
    """Read the description and take out what trimesh would drop or misread without a word.

    Args:
        path: The file, for messages and for the files beside it.
        raw: Its bytes.
        kind: "glb" or "gltf".

    Raises:
        FormatError: The file is damaged, needs what cannot be read, or nothing of it can.
    """
    tree, rest = _tree(path, raw, kind)
    try:
        _check_files(path, tree)
        needed = _UNREAD & set(tree.get("extensionsRequired", []))
        if needed:
            raise FormatError(path, f"The file needs {', '.join(sorted(needed))}, which is not read. Save it without.")
        kept, left = [], Counter[str]()
        for mesh in tree.get("meshes", []):
            mine = []
            for part in mesh["primitives"]:
                why = _why_not(path, tree, part)
                if why:
                    left[why] += 1
                else:
                    mine.append(part)
            mesh["primitives"] = mine
            kept += mine
        told = [f"{count} parts are {what} and were left out." for what, count in left.items()]
        if not kept:
            found = " ".join(told) or "The file has no meshes and no points."
            raise FormatError(path, found.replace("were left out", "are not read"))
        colours = [part["attributes"].get("COLOR_0") for part in kept]
        coloured = all(c is not None and tree["accessors"][c]["componentType"] in (_BYTE, _FLOAT) for c in colours)
        if not coloured and any(c is not None for c in colours):
            with_colours = sum(c is not None for c in colours)
            told.append(f"Colours are not read: {with_colours} of {len(kept)} parts have some, or in 16 bits.")
        if tree.get("images"):
            told.append("Textures are not read.")
        return Described(content=_written(tree, rest, kind), coloured=coloured, warnings=tuple(told))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(path, f"The description of the file is damaged ({type(error).__name__}: {error}).") from error


def _tree(path: Path, raw: bytes, kind: str) -> tuple[dict[str, Any], bytes]:
    """Return the description, and the bytes of a GLB that come after it."""
    if kind == "glb":
        if raw[:4] != b"glTF" or len(raw) < 20:
            raise FormatError(path, f"The file does not begin with 'glTF' but with {raw[:8]!r}: it is not a GLB file.")
        version, length, size, chunk = struct.unpack_from("<IIII", raw, 4)
        if length > len(raw) or 20 + size > len(raw):
            raise FormatError(
                path, f"The header promises {max(length, 20 + size)} bytes; the file has {len(raw)}: truncated."
            )
        if version != 2 or chunk != _JSON:
            raise FormatError(path, f"The file is a GLB of version {version}; version 2 is read.")
        text, rest = raw[20 : 20 + size], raw[20 + size : length]
    else:
        text, rest = raw, b""
    try:
        tree = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"The description of the file is no JSON ({str(error)[:80]}): damaged.") from error
    if not isinstance(tree, dict) or not str(_version(tree)).startswith("2"):
        raise FormatError(path, "The description of the file is no glTF 2.0.")
    return tree, rest


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the file and, of a .gltf, the files of numbers that it names; those that it may not name are left out.

    Raises:
        OSError: The file cannot be opened.
    """
    if path.suffix.lower() != ".gltf":
        return (path,)
    try:
        buffers = json.loads(path.read_bytes().decode("utf-8-sig")).get("buffers", [])
        names = [PurePosixPath(unquote(str(buffer.get("uri", "data:")))) for buffer in buffers]
    except (ValueError, RecursionError, AttributeError, TypeError):
        return (path,)  # who reads it says what is wrong
    inside = [name for name in names if not name.is_absolute() and ".." not in name.parts and ":" not in str(name)]
    return (path, *dict.fromkeys(path.parent / name for name in inside if (path.parent / name).is_file()))


def _version(tree: dict[str, Any]) -> Any:
    asset = tree.get("asset")
    return asset.get("version", "2.0") if isinstance(asset, dict) else "2.0"


def _check_files(path: Path, tree: dict[str, Any]) -> None:
    """Hold the numbers of bytes against the files that they are in; files elsewhere are never opened."""
    for buffer in tree.get("buffers", []):
        name = buffer.get("uri", "data:")
        if name.startswith("data:"):
            continue
        inside = PurePosixPath(unquote(name))
        if "://" in name or inside.is_absolute() or ".." in inside.parts:
            raise FormatError(path, f"Its numbers are in '{name[:80]}', outside of its folder; this is not opened.")
        beside = path.parent / inside
        if not beside.is_file():
            raise FormatError(path, f"Its numbers are in '{name[:80]}', which is missing. Copy it beside the file.")
        if beside.stat().st_size < int(buffer["byteLength"]):
            raise FormatError(
                path, f"'{name[:80]}' has fewer than the {buffer['byteLength']} bytes promised: truncated."
            )
    most = sum(int(buffer["byteLength"]) for buffer in tree.get("buffers", []))
    for accessor in tree.get("accessors", []):
        if "bufferView" in accessor and not 0 <= int(accessor["count"]) <= most:
            raise FormatError(path, f"The description promises {accessor['count']} values in {most} bytes: damaged.")


def _why_not(path: Path, tree: dict[str, Any], part: dict[str, Any]) -> str:
    """Return why a part is not read, or "". A part that has its numbers twice keeps those that are not compressed."""
    mode = part.get("mode", 4)
    if mode in _LINES:
        return "lines"
    if mode not in _SOLID_MODES:
        return f"fans of triangles (mode {mode})"
    place = tree["accessors"][part["attributes"]["POSITION"]]
    extensions = part.get("extensions", {})
    if _DRACO in extensions:
        if "bufferView" in place:
            del extensions[_DRACO]
        elif importlib.util.find_spec("DracoPy") is None:
            return "compressed with Draco (pip install DracoPy)"
    elif "bufferView" not in place and "sparse" not in place:
        return "without places"
    if place["componentType"] != _FLOAT and place.get("normalized"):
        return f"stored with normalised whole numbers ({_QUANTISED})"
    return ""


def _written(tree: dict[str, Any], rest: bytes, kind: str) -> bytes:
    text = json.dumps(tree).encode()
    if kind == "gltf":
        return text
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), _JSON)
    return head + text + rest
