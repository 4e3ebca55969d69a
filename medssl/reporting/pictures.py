"""Three planes of a scan as small pictures for a page: thumbnails with the body box, overlays with contours.

Shown the radiological way: the patient's front or head is up, the patient's right is on the left. Pixels are square.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry

__all__ = [
    "PLANES",
    "Plane",
    "Volume",
    "cut_planes",
    "focus_of",
    "grey_levels",
    "named_planes",
    "picture_of_file",
    "picture_source",
]

PLANES = ("axial", "coronal", "sagittal")
Box = tuple[tuple[int, int, int], tuple[int, int, int]]
_EDGE = 320  # pixels along the longer side
_MARGIN_MM = 25.0
_SMALLEST_VIEW_MM = 80.0


@dataclass(frozen=True)
class Volume:
    """An image in canonical axes: x, y, z grow towards right, anterior and superior.

    Attributes:
        values: (z, y, x).
        spacing_mm: (z, y, x).
        low: Value shown black.
        high: Value shown white.
    """

    values: npt.NDArray[Any]
    spacing_mm: tuple[float, float, float]
    low: float
    high: float

    @classmethod
    def turned(cls, values: npt.NDArray[Any], affine: geometry.Affine, levels: tuple[float, float]) -> Volume:
        """Return a volume of an array in any axis order."""
        canonical, upright = geometry.to_canonical(values, affine)
        return cls(canonical, geometry.spacing_mm(upright), *levels)


@dataclass(frozen=True)
class Plane:
    """One plane, ready for a page.

    Attributes:
        name: "axial", "coronal" or "sagittal".
        source: The picture as a data URI.
        width: Of the picture, pixels; coordinates of ``paths`` are in them.
        height: Likewise.
        paths: SVG path of each contour set, in the order of the masks that were given; "" where none is cut.
        box: (x, y, width, height) of the body box; None where none was given or it is not cut.
        place: Which slice, such as "z 31 of 64".
    """

    name: str
    source: str
    width: int
    height: int
    paths: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None
    place: str = ""


def named_planes(planes: Sequence[Plane], channel: str) -> list[Plane]:
    """Return planes that say which channel they show."""
    return [replace(plane, place=f"{channel}, {plane.place}") for plane in planes]


def cut_planes(
    volume: Volume,
    at: Sequence[int],
    *,
    masks: Sequence[npt.NDArray[Any]] = (),
    body: Box | None = None,
    view: Box | None = None,
    edge: int = _EDGE,
) -> list[Plane]:
    """Cut the three planes through a voxel.

    Args:
        volume: The image.
        at: The voxel, (z, y, x).
        masks: Label maps in the same axes; the borders of every value above 0 are drawn.
        body: First and one-past-last voxel of the body.
        view: The part that is shown; all when None.
        edge: Pixels along the longer side.
    """
    first, last = view or ((0, 0, 0), volume.values.shape)
    planes = []
    for axis, name in enumerate(PLANES):
        rows, columns = [a for a in range(3) if a != axis]
        window = (slice(first[rows], last[rows]), slice(first[columns], last[columns]))
        index = int(np.clip(at[axis], 0, volume.values.shape[axis] - 1))
        cut = np.take(volume.values, index, axis=axis)[window]
        shown = np.clip(
            (np.nan_to_num(cut.astype(np.float32), nan=volume.low) - volume.low) / ((volume.high - volume.low) or 1.0),
            0,
            1,
        )
        # rows grow upwards on the page; in the axial and coronal planes the patient's right is on the left, and in
        # the sagittal one the front
        tall, wide = cut.shape[0] * volume.spacing_mm[rows], cut.shape[1] * volume.spacing_mm[columns]
        scale = edge / max(tall, wide)
        height, width = max(1, round(tall * scale)), max(1, round(wide * scale))
        source = picture_source(shown[::-1, ::-1], width, height)
        paths = tuple(_contours(np.take(mask, index, axis=axis)[window], width, height) for mask in masks)
        box = None
        if body is not None and body[0][axis] <= index < body[1][axis]:
            box = _box(body, (rows, columns), first, cut.shape, width, height)
        letter = "zyx"[axis]
        planes.append(
            Plane(name, source, width, height, paths, box, f"{letter} {index + 1} of {volume.values.shape[axis]}")
        )
    return planes


def focus_of(masks: Sequence[npt.NDArray[Any]], spacing_mm: Sequence[float]) -> tuple[tuple[int, int, int], Box] | None:
    """Return the voxel to cut through, where the marked area is largest along each axis, and a part around it.

    Args:
        masks: Label maps in the same axes.
        spacing_mm: Voxel size (z, y, x).

    Returns:
        The voxel and the part to show; None where nothing is marked.
    """
    marked = np.logical_or.reduce([mask > 0 for mask in masks])
    if not marked.any():
        return None
    at, first, last = [], [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        area = marked.sum(axis=others)
        at.append(int(np.argmax(area)))
        inside = np.flatnonzero(area)
        size = (inside[-1] + 1 - inside[0]) * spacing_mm[axis]
        margin = max(_MARGIN_MM, (_SMALLEST_VIEW_MM - size) / 2) / spacing_mm[axis]
        first.append(max(0, int(inside[0] - margin)))
        last.append(min(marked.shape[axis], int(np.ceil(inside[-1] + 1 + margin))))
    return (at[0], at[1], at[2]), ((first[0], first[1], first[2]), (last[0], last[1], last[2]))


def grey_levels(values: npt.NDArray[Any], *, hounsfield: bool) -> tuple[float, float]:
    """Return the values shown black and white: a soft-tissue window for HU, else the 0.5 and 99.5 percentiles."""
    if hounsfield:
        return -160.0, 240.0
    strided = values[tuple(slice(None, None, max(1, n // 64)) for n in values.shape)]
    known = strided[np.isfinite(strided)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, (0.5, 99.5))
    return float(low), float(high)


def picture_source(shown: npt.NDArray[Any], width: int, height: int) -> str:
    """Return grey values in [0, 1] as a data URI of the given size."""
    from PIL import Image

    image = Image.fromarray((shown * 255).round().astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    return _encoded(image)


def picture_of_file(path: Path, *, widest: int = 1400) -> tuple[str, int, int]:
    """Return a picture file as a data URI, made smaller where it is wide, with its width and height.

    Raises:
        OSError: The file is not a picture.
    """
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if image.width > widest:
        image = image.resize((widest, round(image.height * widest / image.width)), Image.Resampling.LANCZOS)
    return _encoded(image), image.width, image.height


def _encoded(image: Any) -> str:
    """Return a PIL image as WebP, or PNG where this build of PIL has no WebP."""
    from PIL import features

    file, kind = io.BytesIO(), "webp" if features.check("webp") else "png"
    image.save(file, format=kind, **({"quality": 82, "method": 4} if kind == "webp" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _contours(mask: npt.NDArray[Any], width: int, height: int) -> str:
    """Return the borders of every value above 0 as one SVG path."""
    from skimage.measure import approximate_polygon, find_contours

    tall, wide = mask.shape
    parts = []
    for value in np.unique(mask[mask > 0]):
        padded = np.pad(mask == value, 1).astype(np.float32)
        for line in find_contours(padded, 0.5):
            rows, columns = approximate_polygon(line, 0.15).T - 1
            ys, xs = height - (rows + 0.5) * height / tall, width - (columns + 0.5) * width / wide
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True)) + "Z")
    return "".join(parts)


def _box(
    body: Box, axes: tuple[int, int], first: Sequence[int], shape: tuple[int, ...], width: int, height: int
) -> tuple[float, float, float, float]:
    """Return (x, y, width, height) of the body box on the page."""
    rows, columns = axes
    top, bottom = ((np.clip(body[i][rows] - first[rows], 0, shape[0])) / shape[0] * height for i in (1, 0))
    left, right = ((np.clip(body[i][columns] - first[columns], 0, shape[1])) / shape[1] * width for i in (1, 0))
    return (round(width - left, 1), round(height - top, 1), round(left - right, 1), round(top - bottom, 1))
