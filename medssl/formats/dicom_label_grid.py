"""Where structures of DICOM labels lie: on the slices of the scan that they label, or on a grid of their own."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import FormatError
from medssl.formats.scan import Scan, ScanHeader

__all__ = ["Pixels2D", "PlaneGrid", "Structure", "clean_name", "grid_of_image", "label_scan", "merged"]

Points = npt.NDArray[np.float64]
Pixels2D = tuple[int, npt.NDArray[np.intp], npt.NDArray[np.intp]]  # a slice, and rows and columns of voxels in it
_OFF_VOXELS = 0.1  # farther off the centres of voxels than this, and grids are not the same
_LONGEST_NAME = 64


@dataclass(frozen=True, kw_only=True)
class PlaneGrid:
    """Parallel slices, each where it really is, which an affine cannot say of a series with gaps.

    Attributes:
        origins: (slices, 3); centre of the first voxel of each in LPS+ mm.
        row: Direction along a row (x) in LPS+.
        column: Direction along a column (y) in LPS+.
        spacing: (between rows, between columns) in mm.
        rows: Voxels along y.
        columns: Voxels along x.
        affine: 4x4, RAS+.
    """

    origins: Points
    row: Points
    column: Points
    spacing: tuple[float, float]
    rows: int
    columns: int
    affine: npt.NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        return len(self.origins), self.rows, self.columns

    @property
    def normal(self) -> Points:
        """Unit normal of the slices."""
        normal = np.cross(self.row, self.column)
        return np.asarray(normal / np.linalg.norm(normal))

    @property
    def half_step_mm(self) -> float:
        """Half the usual distance between slices."""
        along = np.sort(self.origins @ self.normal)
        return 0.5 * (float(np.median(np.diff(along))) if len(along) > 1 else geometry.spacing_mm(self.affine)[0])

    def nearest(self, point: Points) -> tuple[int, float]:
        """Return the slice that a point in LPS+ mm is nearest to, and how far its plane is away in mm."""
        away = np.abs((point - self.origins) @ self.normal)
        place = int(np.argmin(away))
        return place, float(away[place])

    def indices(self, points: Points, place: int) -> Points:
        """Return (row, column) of points (n, 3) in the plane of a slice, in voxels from its first centre."""
        offset = points - self.origins[place]
        return np.stack([offset @ self.column / self.spacing[0], offset @ self.row / self.spacing[1]], axis=1)

    def place_of_plane(
        self, origin: Points, row: Points, column: Points, spacing: tuple[float, float], shape: tuple[int, int]
    ) -> tuple[int, npt.NDArray[np.intp]] | None:
        """Say which voxels of this grid those of another plane are.

        Returns:
            The slice, and a 2x3 matrix from (row, column, 1) there to (row, column) here; None where voxels' centres
            do not coincide.
        """
        ends = np.array([[0, 0], [0, shape[1] - 1], [shape[0] - 1, 0]], dtype=float)
        points = origin + np.outer(ends[:, 0] * spacing[0], column) + np.outer(ends[:, 1] * spacing[1], row)
        place, away = self.nearest(origin)
        if away > 2 * self.half_step_mm * _OFF_VOXELS or np.ptp((points - origin) @ self.normal) > 0.1:
            return None
        here = self.indices(points, place)
        whole = np.rint(here)
        if float(np.abs(here - whole).max()) > _OFF_VOXELS:
            return None
        matrix = np.zeros((2, 3))
        matrix[:, 2] = whole[0]
        for axis, end in ((1, 1), (0, 2)):
            if shape[axis] > 1:
                matrix[:, axis] = (whole[end] - whole[0]) / (shape[axis] - 1)
            else:
                matrix[axis, axis] = 1.0
        steps = np.abs(np.rint(matrix[:, :2]))
        if np.abs(matrix - np.rint(matrix)).max() > 1e-9 or not (np.sort(steps, axis=None) == [0, 0, 1, 1]).all():
            return None
        return place, np.rint(matrix).astype(np.intp)


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One structure of a label: its name, about how many voxels it has, and a way to go through them slice by slice."""

    name: str
    voxels: int
    pieces: Callable[[], Iterator[Pixels2D]]


def clean_name(name: Any, number: int) -> str:
    r"""Return a structure's name without control characters and needless spaces; a name where there is none.

    Example:
        >>> clean_name("Left\x00 kidney ", 3), clean_name("", 3)
        ('Left kidney', 'structure 3')
    """
    text = "".join(" " if unicodedata.category(c).startswith("C") else c for c in str(name or ""))
    return " ".join(text.split())[:_LONGEST_NAME].strip() or f"structure {number}"


def grid_of_image(image: ScanHeader) -> PlaneGrid:
    """Return where the slices of a scan are; of a DICOM series, where each of them says it is.

    Raises:
        FormatError: The files of a series cannot be read.
    """
    slices: Sequence[Any] = ()
    if image.format == "dicom":
        from medssl.formats.dicom import series_of

        slices = series_of(image.paths).stack.frames[0]
    origin, spacing, flat = geometry.itk_from_affine(image.affine)
    direction = np.array(flat).reshape(3, 3)
    origins = np.array(origin) + np.outer(np.arange(image.shape[0]) * spacing[2], direction[:, 2])
    if slices and len(slices) == image.shape[0] and all(one.position is not None for one in slices):
        origins = np.array([one.position for one in slices])
    return PlaneGrid(
        origins=origins,
        row=direction[:, 0],
        column=direction[:, 1],
        spacing=(spacing[1], spacing[0]),
        rows=image.shape[1],
        columns=image.shape[2],
        affine=image.affine,
    )


def label_scan(path: Path, grid: PlaneGrid, values: npt.NDArray[Any], notes: Sequence[str]) -> Scan:
    """Return a label map on a grid of slices.

    Args:
        path: The label's file.
        grid: Where the slices lie.
        values: Numbers of structures, (z, y, x).
        notes: What a person should know of it.
    """
    header = ScanHeader(
        path=path,
        paths=(path,),
        format="dicom",
        shape=grid.shape,
        affine=grid.affine,
        dtype=values.dtype.name,
        warnings=tuple(notes),
    )
    return Scan(header=header, values=values)


def merged(
    path: Path, shape: tuple[int, int, int], structures: Sequence[Structure], classes: Mapping[int, str] | None
) -> tuple[npt.NDArray[Any], list[str]]:
    """Paint structures into one label map; where several claim a voxel, the smallest of them keeps it.

    The smallest, because what lies inside another is what was drawn for its own sake: a tumour in its organ, an organ
    in the outline of the body.

    Args:
        path: The label, for errors.
        shape: Voxels (z, y, x).
        structures: What to paint.
        classes: Label value -> name; None numbers the names in alphabetical order from 1.

    Returns:
        Label values, and notes that begin with "structures".

    Raises:
        FormatError: A structure is not among the classes.
    """
    named = classes if classes is not None else dict(enumerate(sorted({one.name for one in structures}), 1))
    value_of = {name: value for value, name in sorted(named.items(), reverse=True)}
    unknown = sorted({one.name for one in structures} - set(value_of))
    if unknown:
        raise FormatError(
            path, f"It holds the structure '{unknown[0]}', which the classes do not name. Run index again."
        )
    values = np.zeros(shape, dtype=np.uint8 if max(named, default=0) < 256 else np.uint16)
    overlaps: Counter[tuple[str, str]] = Counter()
    names = {value: name for name, value in value_of.items()}
    sizes = Counter[str]()
    for one in structures:
        sizes[one.name] += one.voxels
    for one in sorted(structures, key=lambda one: (-sizes[one.name], one.name)):
        value = value_of[one.name]
        for place, rows, columns in one.pieces():
            there = values[place, rows, columns]
            taken, counts = np.unique(there[(there != 0) & (there != value)], return_counts=True)
            for other, count in zip(taken.tolist(), counts.tolist(), strict=True):
                overlaps[one.name, names[other]] += count
            values[place, rows, columns] = value
    notes = []
    if overlaps:
        said = "; ".join(f"{count} voxels of {a} and {b}" for (a, b), count in overlaps.most_common(4))
        more = f"; and {len(overlaps) - 4} more pairs" if len(overlaps) > 4 else ""
        notes.append(
            f"structures overlap: {sum(overlaps.values())} voxels belong to several ({said}{more}); the smaller "
            "structure keeps them"
        )
        present = set(np.unique(values).tolist())
        gone = sorted({one.name for one in structures if one.voxels and value_of[one.name] not in present})
        if gone:
            notes.append(f"structures hidden: nothing is left of {', '.join(gone)}, which smaller ones cover")
    return values, notes
