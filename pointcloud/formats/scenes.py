"""STL and GLB meshes, through trimesh."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.files import contents, library
from pointcloud.mesh import Mesh, cloud_of_mesh, joined

__all__ = ["read"]

_METRES = {".glb": "m"}  # the standard of glTF says so; STL has no unit


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read a mesh, or a scene of several with each in its place, and draw points from its surface.

    Raises:
        FormatError: The file is damaged, or has no surface.
        MissingDependencyError: trimesh is not there.
    """
    del item
    raw, kind = contents(path), path.suffix.lower().lstrip(".")
    _check_frame(path, raw, kind)
    trimesh: Any = library("trimesh", install="trimesh", purpose=f"to read .{kind} files")
    try:
        with _quiet("trimesh"):
            parts = trimesh.load_scene(io.BytesIO(raw), file_type=kind, process=False).dump()
    except Exception as error:  # trimesh lets whatever its parsers meet come through
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(path, f"trimesh cannot read it ({why}): the file is damaged.") from error
    unit = _METRES.get(f".{kind}", "unknown")
    surfaces = [
        Mesh(vertices=np.asarray(part.vertices, dtype=np.float64), faces=np.asarray(part.faces, dtype=np.int64))
        for part in parts
        if hasattr(part, "faces") and len(part.faces)
    ]
    if surfaces:
        return cloud_of_mesh(joined(surfaces), samples=samples, seed=seed, unit=unit, path=path)
    loose = [np.asarray(part.vertices, dtype=np.float64) for part in parts if len(getattr(part, "vertices", ()))]
    if not loose:
        raise FormatError(path, "The file has no faces and no points.")
    told = ("The file has no faces; its vertices are taken as the points.",)
    return make_cloud(np.concatenate(loose), unit=unit, path=path, warnings=told)


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Keep a library from writing tracebacks to the screen for what is said in our own error, or does not matter."""
    log, nowhere = logging.getLogger(logger), logging.NullHandler()
    before, log.propagate = log.propagate, False
    log.addHandler(nowhere)
    try:
        yield
    finally:
        log.removeHandler(nowhere)
        log.propagate = before


def _check_frame(path: Path, raw: bytes, kind: str) -> None:
    """Hold what the first bytes promise against the size, before a library fills the gap with silence."""
    if kind == "glb":
        if raw[:4] != b"glTF" or len(raw) < 12:
            raise FormatError(path, f"The file does not begin with 'glTF' but with {raw[:8]!r}: it is no GLB file.")
        length = struct.unpack_from("<I", raw, 8)[0]
        if length > len(raw):
            raise FormatError(path, f"The header promises {length} bytes; the file has {len(raw)}: truncated.")
        return
    if raw[:5].lower() == b"solid" and b"facet" in raw[:1024]:
        if b"endsolid" not in raw.lower():
            raise FormatError(path, "The text has no 'endsolid': the file is truncated.")
        return
    if raw[:5].lower() == b"solid" and b"endsolid" in raw[:1024].lower():
        raise FormatError(path, "The mesh has 0 faces, so there is no surface.")
    if len(raw) < 84:
        raise FormatError(path, f"The file has {len(raw)} bytes; an STL file has 84 or more, or begins with 'solid'.")
    faces = struct.unpack_from("<I", raw, 80)[0]
    if faces == 0:
        raise FormatError(path, "The mesh has 0 faces, so there is no surface.")
    if 84 + 50 * faces > len(raw):
        raise FormatError(
            path, f"The header promises {faces} faces of 50 bytes; {len(raw) - 84} bytes follow: truncated."
        )
