"""GLB and glTF scenes, through trimesh: every part in its place, and a count of what is left out."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.extras import library
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.files import contents
from pointcloud.formats.gltf import described
from pointcloud.mesh import Mesh, cloud_of_mesh, joined

__all__ = ["read"]

_UNIT = "m"  # the standard of glTF says so


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read a mesh, or a scene of several with each in its place, and draw points from its surface.

    A scene of points alone gives these. Where there are surfaces too, the points beside them are left out and counted.

    Raises:
        FormatError: The file is damaged, or has no surface and no points that can be read.
        MissingDependencyError: trimesh is not there.
    """
    del item
    kind = path.suffix.lower().lstrip(".")
    found = described(path, contents(path), kind)
    trimesh: Any = library("trimesh", purpose=f"to read .{kind} files")
    resolver = trimesh.resolvers.FilePathResolver(str(path)) if kind == "gltf" else None
    try:
        with _quiet("trimesh"):
            content = io.BytesIO(found.content)
            scene = trimesh.load_scene(
                content, file_type=kind, process=False, resolver=resolver, skip_materials=True, merge_primitives=False
            )
            parts = [part for part in scene.dump() if len(getattr(part, "vertices", ()))]
    except Exception as error:  # trimesh lets whatever its parsers meet come through
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(path, f"trimesh cannot read it ({why}): the file is damaged.") from error
    warnings = list(found.warnings)
    solid = [part for part in parts if len(getattr(part, "faces", ()))]
    loose = [part for part in parts if isinstance(part, trimesh.PointCloud)]
    if solid:
        if loose:
            lost = sum(len(part.vertices) for part in loose)
            warnings.append(f"{len(loose)} parts of {lost} points lie beside the surfaces and were left out.")
        surfaces = [
            Mesh(
                vertices=np.asarray(part.vertices, dtype=np.float64),
                faces=np.asarray(part.faces, dtype=np.int64),
                colours=_colours(part) if found.coloured else None,
            )
            for part in solid
        ]
        return cloud_of_mesh(
            joined(surfaces), samples=samples, seed=seed, unit=_UNIT, path=path, warnings=tuple(warnings)
        )
    if not loose:
        raise FormatError(path, " ".join(["The file has no faces and no points.", *warnings]))
    warnings.append("The file has no faces; its vertices are taken as the points.")
    colours = [_colours(part) for part in loose] if found.coloured else []
    points = np.concatenate([np.asarray(part.vertices, dtype=np.float64) for part in loose])
    there = [each for each in colours if each is not None]
    return make_cloud(
        points,
        colours=np.concatenate(there) if there and len(there) == len(loose) else None,
        unit=_UNIT,
        path=path,
        warnings=tuple(warnings),
    )


def _colours(part: Any) -> npt.NDArray[np.uint8] | None:
    found = part.colors if hasattr(part, "colors") else getattr(part.visual, "vertex_colors", None)
    colours = np.asarray(found) if found is not None else np.zeros((0, 4), np.uint8)
    fits = colours.shape == (len(part.vertices), 4) and colours.dtype == np.uint8
    return np.ascontiguousarray(colours[:, :3]) if fits else None


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
