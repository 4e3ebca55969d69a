"""The table of formats of clouds, by suffix: what a file's name promises, and which module reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from medssl.suffixes import Format, FormatTable

__all__ = [
    "FORMATS",
    "CloudFormat",
    "bare_name",
    "format_of",
]


@dataclass(frozen=True, kw_only=True)
class CloudFormat(Format):
    """One format; its module's ``read`` serves it.

    Attributes:
        sure: Whether the name alone says cloud. A .txt or .bin may be anything, so a walk over folders takes it only
            where it is told to.
        several: Whether a file may hold several clouds; the module then has ``count`` too.
    """

    sure: bool = True
    several: bool = False


FORMATS = FormatTable(
    "format of clouds",
    (
        CloudFormat(name="ply", suffixes=(".ply",), target="pointcloud.formats.ply"),
        CloudFormat(name="pcd", suffixes=(".pcd",), target="pointcloud.formats.pcd"),
        CloudFormat(
            name="xyz", suffixes=(".xyz", ".xyzn", ".xyzrgb", ".xyzi", ".pts"), target="pointcloud.formats.text"
        ),
        CloudFormat(name="text", suffixes=(".txt", ".csv", ".asc"), target="pointcloud.formats.text", sure=False),
        CloudFormat(
            name="numpy", suffixes=(".npy", ".npz"), target="pointcloud.formats.arrays", sure=False, several=True
        ),
        CloudFormat(name="off", suffixes=(".off",), target="pointcloud.formats.off"),
        CloudFormat(name="obj", suffixes=(".obj",), target="pointcloud.formats.obj"),
        CloudFormat(name="stl", suffixes=(".stl",), target="pointcloud.formats.stl"),
        CloudFormat(name="glb", suffixes=(".glb", ".gltf"), target="pointcloud.formats.scenes"),
        CloudFormat(name="las", suffixes=(".las", ".laz"), target="pointcloud.formats.las"),
        CloudFormat(name="nuscenes", suffixes=(".pcd.bin",), target="pointcloud.formats.lidar_bin"),
        CloudFormat(name="kitti", suffixes=(".bin",), target="pointcloud.formats.lidar_bin", sure=False),
        CloudFormat(name="h5", suffixes=(".h5", ".hdf5"), target="pointcloud.formats.hdf5", sure=False, several=True),
        CloudFormat(name="vtk", suffixes=(".vtk",), target="pointcloud.formats.unread", sure=False),
        CloudFormat(name="vtp", suffixes=(".vtp",), target="pointcloud.formats.unread"),
        CloudFormat(
            name="other",
            suffixes=(".e57", ".ptx", ".3mf", ".dae", ".x3d", ".wrl", ".drc"),
            target="pointcloud.formats.unread",
        ),
    ),
)


def bare_name(name: str) -> str:
    """Return a file's name without the suffix of its format.

    Example:
        >>> bare_name("sweep.pcd.bin"), bare_name("chair_0001.OFF"), bare_name("notes")
        ('sweep', 'chair_0001', 'notes')
    """
    ending = FORMATS.suffix_of(PurePath(name))
    return name[: -len(ending)] or name if ending else name


def format_of(path: PurePath) -> str | None:
    """Return the name of the format that the file's suffix promises, or None.

    Example:
        >>> format_of(PurePath("a.pcd.bin")), format_of(PurePath("a.PCD"))
        ('nuscenes', 'pcd')
    """
    return FORMATS.format_of(path)
