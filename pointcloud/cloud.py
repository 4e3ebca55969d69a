"""One cloud of points in memory, whatever file it came from, and the checks that every cloud passes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError, FormatError, MedSSLError
from pointcloud.colours import bytes_of_colours

__all__ = ["UNITS", "Cloud", "make_cloud", "refusal"]

UNITS = ("unknown", "mm", "m")

_FAR = 16.0  # extents; beyond, float32 resolves less than a millionth of the cloud
_TOO_WIDE = 1e18  # squared distances beyond overflow float32
_STRAY = 1e3  # times the spread of the middle half
_EXACT = {2: 2**11, 4: 2**24, 8: 2**53}  # bytes of a real number -> up to where it tells whole numbers apart


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Points and what is known of each; the rows of every array belong together.

    Attributes:
        points: Float32 (N, 3), in ``unit``, relative to ``offset``.
        normals: Float32 (N, 3) of length 1 (0 where the file has none), or None.
        colours: Uint8 (N, 3), red, green, blue, or None.
        intensity: Float32 (N,), the scanner's own scale, or None.
        labels: Int64 (N,), a class of each point, or None.
        label: The class of the whole cloud, or None.
        unit: "mm", "m" or "unknown".
        offset: Float64 (3,): ``points + offset`` is where the file had them. Not 0 only where the coordinates are so
            large that float32 would have rounded the shape away.
        path: The file it came from, or None.
        item: Which cloud of that file, counted from 0.
        warnings: What a careful reader noticed and a person should know.
        left_out: Int64, the rows of the file that are no points here, for their coordinates are not finite.
    """

    points: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32] | None = None
    colours: npt.NDArray[np.uint8] | None = None
    intensity: npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[np.int64] | None = None
    label: int | None = None
    unit: str = "unknown"
    offset: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    path: Path | None = None
    item: int = 0
    warnings: tuple[str, ...] = ()
    left_out: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    def positions(self) -> npt.NDArray[np.float64]:
        """Return the points where the file had them, float64 (N, 3)."""
        result: npt.NDArray[np.float64] = self.points.astype(np.float64) + self.offset
        return result

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Cloud:
        """Return the cloud of these rows, in this order, with everything that belongs to them."""
        return replace(
            self,
            points=self.points[rows],
            normals=None if self.normals is None else self.normals[rows],
            colours=None if self.colours is None else self.colours[rows],
            intensity=None if self.intensity is None else self.intensity[rows],
            labels=None if self.labels is None else self.labels[rows],
        )


def refusal(path: Path | None, reason: str) -> MedSSLError:
    """Return the error for a cloud that is not one, with its file's name where it has a file."""
    return FormatError(path, reason) if path is not None else DataError(reason)


def make_cloud(
    points: npt.ArrayLike,
    *,
    normals: npt.ArrayLike | None = None,
    colours: npt.ArrayLike | None = None,
    intensity: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    label: int | None = None,
    unit: str = "unknown",
    path: Path | None = None,
    item: int = 0,
    warnings: tuple[str, ...] = (),
) -> Cloud:
    """Check arrays and make a cloud of them.

    Rows with NaN or infinite coordinates are left out and counted in a warning: scanners mark missing returns so.
    Points at the same place are kept and counted. Large coordinates are centred in float64 before they are rounded.

    Args:
        points: Real numbers (N, 3).
        normals: Real numbers (N, 3); scaled to length 1. Rows that are NaN or 0 become 0.
        colours: (N, 3): bytes, or numbers whose range ``bytes_of_colours`` decides.
        intensity: Real numbers (N,). What is NaN or infinite becomes 0 and is counted.
        labels: Whole numbers (N,) that int64 can hold.
        label: The class of the whole cloud.
        unit: One of ``UNITS``.
        path: The file, for messages and for the record.
        item: Which cloud of the file.
        warnings: What the reader noticed.

    Raises:
        FormatError: These are not the points of a cloud; ``DataError`` where there is no path.
    """
    if unit not in UNITS:
        raise refusal(path, f"The unit is '{unit}'. Allowed: {', '.join(UNITS)}.")
    values = np.asarray(points)
    if values.dtype.kind not in "iuf":
        raise refusal(path, f"The coordinates are of type {values.dtype}; only real numbers are read.")
    if values.ndim != 2 or values.shape[1] != 3:
        raise refusal(path, f"The coordinates have shape {values.shape}; (points, 3) was expected.")
    given = {
        "normals": (normals, (len(values), 3)),
        "colours": (colours, (len(values), 3)),
        "intensity": (intensity, (len(values),)),
        "labels": (labels, (len(values),)),
    }
    parts = {name: np.asarray(part) for name, (part, _) in given.items() if part is not None}
    for name, part in parts.items():
        if part.shape != given[name][1] or part.dtype.kind not in "iufb":
            raise refusal(path, f"The {name} have shape {part.shape} and type {part.dtype} for {len(values)} points.")
    if len(values) == 0:
        raise refusal(path, "The cloud has no points.")
    noticed = list(warnings)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        lost = int((~finite).sum())
        if lost == len(values):
            raise refusal(path, "Every point has NaN or infinite coordinates.")
        noticed.append(f"{lost} of {len(values)} points have NaN or infinite coordinates and were left out.")
        values = values[finite]
        parts = {name: part[finite] for name, part in parts.items()}
    placed, offset = _centred(values.astype(np.float64), path, noticed)
    colours_read = None
    if "colours" in parts:
        colours_read, told = bytes_of_colours(parts["colours"], path)
        noticed.extend(told)
    return Cloud(
        points=placed,
        normals=_unit_normals(parts["normals"], noticed) if "normals" in parts else None,
        colours=colours_read,
        intensity=_measured(parts["intensity"], noticed) if "intensity" in parts else None,
        labels=_whole_labels(parts["labels"], path) if "labels" in parts else None,
        label=label,
        unit=unit,
        offset=offset,
        path=path,
        item=item,
        warnings=tuple(noticed),
        left_out=np.flatnonzero(~finite).astype(np.int64),
    )


def _centred(
    values: npt.NDArray[np.float64], path: Path | None, noticed: list[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    if len(values) == 1:
        raise refusal(path, "The cloud has one point; a shape needs more.")
    low, high = values.min(axis=0), values.max(axis=0)
    with np.errstate(over="ignore"):
        extent = float((high - low).max())
    if extent == 0.0:
        raise refusal(path, f"All {len(values)} points lie at one place.")
    if not extent < _TOO_WIDE:
        raise refusal(path, f"The coordinates span {extent:.3g}, more than float32 can measure. Scale them down.")
    quarter, middle, three = np.percentile(values, [25, 50, 75], axis=0)
    spread = float((three - quarter).max())
    if spread > 0:
        strays = int((np.abs(values - middle).max(axis=1) > _STRAY * spread).sum())
        if strays:
            noticed.append(
                f"{strays} points lie more than {_STRAY:.0f} times the spread of the cloud away from it. "
                "Look whether they belong to it."
            )
    offset = np.zeros(3)
    if float(np.abs(values).max()) > _FAR * extent:
        offset = np.round((low + high) / 2)
        noticed.append(
            f"The coordinates are large ({np.abs(values).max():.6g}) for their extent ({extent:.4g}); they are kept "
            "relative to an offset."
        )
    placed = (values - offset).astype(np.float32)
    doubles = len(placed) - len(np.unique(np.ascontiguousarray(placed).view(np.dtype((np.void, 12)))))
    if doubles:
        noticed.append(f"{doubles} of {len(placed)} points repeat the place of another.")
    return placed, offset


def _unit_normals(values: npt.NDArray[np.generic], noticed: list[str]) -> npt.NDArray[np.float32] | None:
    known = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    known /= np.maximum(np.abs(known).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)  # squares may overflow
    length = np.linalg.norm(known, axis=1, keepdims=True)
    if not length.any():
        noticed.append("All normals are 0, so they are not read.")
        return None
    scaled: npt.NDArray[np.float64] = np.divide(known, length, out=np.zeros_like(known), where=length > 0)
    return scaled.astype(np.float32)


def _measured(values: npt.NDArray[np.generic], noticed: list[str]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    lost = int((~np.isfinite(rounded)).sum())
    if lost:
        noticed.append(f"{lost} points have an intensity that is NaN or infinite; it is taken as 0.")
        rounded = np.nan_to_num(rounded, nan=0.0, posinf=0.0, neginf=0.0)
    return rounded


def _whole_labels(values: npt.NDArray[np.generic], path: Path | None) -> npt.NDArray[np.int64]:
    if values.dtype.kind == "f":
        reals = values.astype(np.float64)
        missing = int((~np.isfinite(reals)).sum())
        if missing:
            raise refusal(
                path, f"{missing} of {len(reals)} points have no label (NaN or infinite), the others have one."
            )
        if (reals != np.floor(reals)).any():
            raise refusal(path, "The labels of the points are not whole numbers.")
        if np.abs(reals).max() > _EXACT.get(values.dtype.itemsize, 2**53):
            raise refusal(
                path, f"A label is {np.abs(reals).max():.17g}, which {values.dtype} does not tell from its neighbours."
            )
    elif values.dtype.kind == "u" and int(values.max()) > np.iinfo(np.int64).max:  # type: ignore[call-overload]
        raise refusal(path, f"A label is {values.max()}; labels of up to {np.iinfo(np.int64).max} are read.")
    return values.astype(np.int64)
