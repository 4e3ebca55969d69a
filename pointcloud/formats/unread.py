"""Formats of clouds and meshes that are known and not read: named with a way out, so that no file is passed over."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from medssl.errors import FormatError
from pointcloud.formats.files import size_of

__all__ = ["read"]

_WAYS = {
    ".e57": "E57 scans are not read. Save them as LAS, PLY or PCD, with CloudCompare for instance.",
    ".ptx": "PTX scans are not read. Save them as LAS, PLY or PTS, with CloudCompare for instance.",
    ".vtk": "VTK files are not read. Save the surface as PLY or STL, with 3D Slicer or ParaView for instance.",
    ".vtp": "VTK files are not read. Save the surface as PLY or STL, with 3D Slicer or ParaView for instance.",
    ".3mf": "3MF files are not read. Save the mesh as PLY, STL or GLB, with MeshLab for instance.",
    ".dae": "COLLADA files are not read. Save the mesh as PLY, OBJ or GLB, with MeshLab or Blender for instance.",
    ".x3d": "X3D files are not read. Save the mesh as PLY, OBJ or GLB, with MeshLab or Blender for instance.",
    ".wrl": "VRML files are not read. Save the mesh as PLY, OBJ or GLB, with MeshLab or Blender for instance.",
    ".drc": "Draco files are not read. Decompress them to PLY or OBJ with draco_decoder.",
}


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> NoReturn:
    """Say which format it is, and how to save it as one that is read.

    Raises:
        FormatError: Always.
    """
    del item, samples, seed
    size_of(path)
    raise FormatError(path, _WAYS[path.suffix.lower()])
