"""STL meshes, binary and text, distinguished by what they hold and not by how they begin."""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud
from pointcloud.formats.files import contents
from pointcloud.formats.numbers import reals
from pointcloud.mesh import Mesh, cloud_of_mesh

__all__ = ["read"]

_HEAD, _FACE = 84, 50  # bytes
_ROW = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_CLOSED = re.compile(rb"end\s?solid\b")
_NAME = re.compile(rb"(end\s?)?solid\b")


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read a mesh and draw points from its surface; ``samples=0`` takes the corners of every face.

    A binary file may begin with "solid" as a text does: where the number of faces and the size of the file agree, it is
    binary. Normals of the file are not read, since the corners say them. STL has no unit.

    Raises:
        FormatError: The file is damaged or truncated, or has no faces.
    """
    del item
    raw = contents(path)
    warnings: tuple[str, ...] = ()
    if _is_text(raw):
        corners = _text(path, raw)
    else:
        corners, warnings = _binary(path, raw)
    if not len(corners):
        raise FormatError(path, "The mesh has 0 faces, so there is no surface.")
    mesh = Mesh(vertices=corners.reshape(-1, 3), faces=np.arange(3 * len(corners), dtype=np.int64).reshape(-1, 3))
    return cloud_of_mesh(mesh, samples=samples, seed=seed, path=path, warnings=warnings)


def _is_text(raw: bytes) -> bool:
    if len(raw) >= _HEAD and _HEAD + _FACE * _promised(raw) == len(raw):
        return False
    return raw.lstrip()[:5].lower() == b"solid" and b"\0" not in raw


def _promised(raw: bytes) -> int:
    found: int = struct.unpack_from("<I", raw, 80)[0]
    return found


def _text(path: Path, raw: bytes) -> npt.NDArray[np.float64]:
    lines = [line.strip() for line in raw.replace(b"\r", b"\n").lower().split(b"\n")]
    if not any(_CLOSED.match(line) for line in lines):
        raise FormatError(path, "The text has no 'endsolid': the file is truncated.")
    words = [word for line in lines if not _NAME.match(line) for word in line.split()]
    at = [number for number, word in enumerate(words) if word == b"vertex"]
    facets, ended = words.count(b"facet") - _count(words, b"end", b"facet"), words.count(b"endfacet")
    ended += _count(words, b"end", b"facet")
    if facets != ended or len(at) != 3 * facets:
        raise FormatError(
            path,
            f"The text has {facets} facets, {ended} ends of facets and {len(at)} vertices; each facet has one end and "
            "three vertices: the file is damaged.",
        )
    try:
        numbers = [word.decode("ascii") for number in at for word in words[number + 1 : number + 4]]
        return reals(numbers).reshape(-1, 3, 3)
    except ValueError:
        raise FormatError(path, "A vertex is not three numbers.") from None


def _count(words: list[bytes], first: bytes, second: bytes) -> int:
    """Return how often one word follows another; some programs write ``end facet``."""
    return sum(pair == (first, second) for pair in pairwise(words)) if first in words else 0


def _binary(path: Path, raw: bytes) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    if len(raw) < _HEAD:
        raise FormatError(
            path, f"The file has {len(raw)} bytes; an STL file has {_HEAD} or more, or begins with 'solid'."
        )
    faces = _promised(raw)
    if _HEAD + _FACE * faces > len(raw):
        raise FormatError(
            path, f"The header promises {faces} faces of 50 bytes; {len(raw) - _HEAD} bytes follow: truncated."
        )
    rows = np.frombuffer(raw, _ROW, faces, _HEAD)
    told = []
    if len(raw) > _HEAD + _FACE * faces:
        told.append(f"{len(raw) - _HEAD - _FACE * faces} bytes follow the last face; they are not read.")
    if rows["attribute"].any():
        told.append(f"The attributes of {int((rows['attribute'] != 0).sum())} faces (mostly colours) are not read.")
    return rows["corners"].astype(np.float64), tuple(told)
