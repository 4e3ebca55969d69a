"""The one table of cloud formats, by suffix: what a file's name promises, and which module reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

__all__ = ["FORMATS", "Format", "bare_name", "format_of", "is_cloud_name", "row_of"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One row of the table.

    Attributes:
        name: What the manifest calls it.
        suffixes: Endings of file names, lower case; the longest that fits decides.
        module: Dotted path of the module whose ``read`` serves it, imported when first used.
        sure: Whether the name alone says cloud. A .txt or .bin may be anything, so a walk over folders takes it only
            where it is told to.
        several: Whether a file may hold several clouds; the module then has ``count`` too.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    sure: bool = True
    several: bool = False


FORMATS = (
    Format(name="ply", suffixes=(".ply",), module="pointcloud.formats.ply"),
    Format(name="pcd", suffixes=(".pcd",), module="pointcloud.formats.pcd"),
    Format(name="xyz", suffixes=(".xyz", ".xyzn", ".xyzrgb", ".xyzi", ".pts"), module="pointcloud.formats.text"),
    Format(name="text", suffixes=(".txt", ".csv", ".asc"), module="pointcloud.formats.text", sure=False),
    Format(name="numpy", suffixes=(".npy", ".npz"), module="pointcloud.formats.arrays", sure=False, several=True),
    Format(name="off", suffixes=(".off",), module="pointcloud.formats.off"),
    Format(name="obj", suffixes=(".obj",), module="pointcloud.formats.obj"),
    Format(name="stl", suffixes=(".stl",), module="pointcloud.formats.stl"),
    Format(name="glb", suffixes=(".glb", ".gltf"), module="pointcloud.formats.scenes"),
    Format(name="las", suffixes=(".las", ".laz"), module="pointcloud.formats.las"),
    Format(name="nuscenes", suffixes=(".pcd.bin",), module="pointcloud.formats.lidar_bin"),
    Format(name="kitti", suffixes=(".bin",), module="pointcloud.formats.lidar_bin", sure=False),
    Format(name="h5", suffixes=(".h5", ".hdf5"), module="pointcloud.formats.hdf5", sure=False, several=True),
    Format(name="vtk", suffixes=(".vtk",), module="pointcloud.formats.unread", sure=False),
    Format(name="vtp", suffixes=(".vtp",), module="pointcloud.formats.unread"),
    Format(
        name="other",
        suffixes=(".e57", ".ptx", ".3mf", ".dae", ".x3d", ".wrl", ".drc"),
        module="pointcloud.formats.unread",
    ),
)


def row_of(path: PurePath) -> Format | None:
    """Return the row that the file's suffix names, or None."""
    name = path.name.lower()
    if name.startswith("._"):
        return None  # what macOS leaves beside every file it copies to a foreign disk
    fitting = [(len(suffix), row) for row in FORMATS for suffix in row.suffixes if name.endswith(suffix)]
    return max(fitting, key=lambda found: found[0])[1] if fitting else None


def bare_name(name: str) -> str:
    """Return a file's name without the suffix of its format.

    Example:
        >>> bare_name("sweep.pcd.bin"), bare_name("chair_0001.OFF"), bare_name("notes")
        ('sweep', 'chair_0001', 'notes')
    """
    row = row_of(Path(name))
    fitting = [suffix for suffix in row.suffixes if name.lower().endswith(suffix)] if row else []
    return name[: -max(map(len, fitting))] or name if fitting else name


def format_of(path: PurePath) -> str | None:
    """Return the name of the format that the file's suffix promises, or None.

    Example:
        >>> format_of(Path("a.pcd.bin")), format_of(Path("a.PCD"))
        ('nuscenes', 'pcd')
    """
    row = row_of(path)
    return row.name if row else None


def is_cloud_name(path: Path) -> bool:
    """Tell whether a file of this name is a cloud, whatever lies beside it.

    Example:
        >>> is_cloud_name(Path("a.ply")), is_cloud_name(Path("notes.txt"))
        (True, False)
    """
    row = row_of(Path(path))
    return row is not None and row.sure
