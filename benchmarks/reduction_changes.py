"""What happens to a scan on its way to a second copy: the changes of benchmarks/reduction_recall.py, each as a file.

A change is a pure function of (scan, generator), so the same seed writes the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medssl import geometry
from medssl.formats.arrays import write_npz
from medssl.formats.dicom_write import write_series
from medssl.formats.itk import write_itk
from medssl.formats.nifti import write_nifti

__all__ = ["CHANGES", "Change", "Image", "applies", "write_change"]

Array = npt.NDArray[Any]
Generator = np.random.Generator


@dataclass(frozen=True)
class Image:
    """Voxels (z, y, x) in canonical orientation, their affine, and whether they are HU."""

    values: Array
    affine: npt.NDArray[np.float64]
    hounsfield: bool

    @property
    def spread(self) -> float:
        """Distance of the 0.5 % and 99.5 % intensities."""
        low, high = np.percentile(self.values, (0.5, 99.5))
        return float(high - low)


@dataclass(frozen=True)
class Change:
    """One way to make a copy.

    Attributes:
        name: What is done.
        severity: How much of it.
        group: "same array", "re-export", "cut", "turned" or "rotated".
        make: The changed image.
        suffix: Kind of file; "dicom" is a folder.
    """

    name: str
    severity: str
    group: str
    make: Callable[[Image, Generator], Image]
    suffix: str = ".nii"

    @property
    def key(self) -> str:
        """Name and severity in one word."""
        return f"{self.name}-{self.severity}".replace(" ", "_").replace("%", "").replace("/", "per")


def applies(change: Change, image: Image) -> bool:
    """Tell whether a change makes sense for an image: integers for DICOM, slices enough for half of them."""
    if change.suffix == "dicom":
        return image.values.dtype.kind in "iu"
    if change.name == "resample" and change.severity in ("slices by twos", "every other slice"):
        return image.values.shape[0] >= 24
    return True


def write_change(change: Change, image: Image, path: Path, generator: Generator) -> Path:
    """Write the changed image at ``path`` plus its suffix and return where it lies (a folder for DICOM)."""
    made = change.make(image, generator)
    target = path.with_name(path.name + ("" if change.suffix == "dicom" else change.suffix))
    if change.suffix == "dicom":
        write_series(target, made.values, made.affine, modality="CT" if image.hounsfield else "MR")
    elif change.suffix in (".mha", ".nrrd"):
        write_itk(target, made.values, made.affine)
    elif change.suffix == ".npz":
        write_npz(target, made.values, made.affine)
    else:
        write_nifti(target, np.ascontiguousarray(made.values), made.affine)
        if change.name == "slope and intercept":
            _with_slope(target, made)
    return target


def _with_slope(path: Path, image: Image) -> None:
    """Store the same numbers as twice the integers with the slope 0.5 and an intercept, exactly."""
    import nibabel

    low = float(np.floor(image.values.min()))
    stored = np.rint((image.values.astype(np.float64) - low) * 2).astype(np.int32)
    made = nibabel.Nifti1Image(stored.transpose(2, 1, 0), image.affine)
    made.header.set_slope_inter(0.5, low)
    nibabel.save(made, path)


def _same(image: Image, generator: Generator) -> Image:
    return image


def _with(image: Image, values: Array, affine: Array | None = None) -> Image:
    return Image(values, image.affine if affine is None else affine, image.hounsfield)


def _oriented(order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Callable[[Image, Generator], Image]:
    """Keep every voxel where it is in the world, in another axis order, as the header says."""

    def make(image: Image, generator: Generator) -> Image:
        values = image.values.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
        turn = np.zeros((4, 4))
        turn[3, 3] = 1.0
        for new, old in enumerate(order):  # axes here are (z, y, x); the affine's columns are (x, y, z)
            turn[2 - old, 2 - new] = -1.0 if flips[new] else 1.0
            turn[2 - old, 3] = image.values.shape[old] - 1 if flips[new] else 0.0
        return _with(image, np.ascontiguousarray(values), image.affine @ turn)

    return make


def _typed(dtype: str) -> Callable[[Image, Generator], Image]:
    return lambda image, generator: _with(image, image.values.astype(dtype))


def _resampled(factor: float) -> Callable[[Image, Generator], Image]:
    """Change the voxel size by a factor; thick slices (2.5 times the finest axis or more) are left as they are."""

    def make(image: Image, generator: Generator) -> Image:
        old = geometry.spacing_mm(image.affine)
        new = tuple(s * factor if s < 2.5 * min(old) else s for s in old)
        shape, affine = geometry.resized_grid(image.values.shape, image.affine, (new[0], new[1], new[2]))
        smooth = image.values.astype(np.float32)
        if factor > 1:  # as resampling tools do against aliasing
            sigma = [0.35 * factor if n != o else 0.0 for n, o in zip(new, old, strict=True)]
            smooth = ndimage.gaussian_filter(smooth, sigma)
        values = geometry.resample_to_grid(smooth, image.affine, shape, affine, order=1, fill=float(image.values.min()))
        return _with(image, values, affine)

    return make


def _slices_by_twos(image: Image, generator: Generator) -> Image:
    count = len(image.values) // 2
    values = image.values[: 2 * count].astype(np.float32).reshape(count, 2, *image.values.shape[1:]).mean(axis=1)
    old = geometry.spacing_mm(image.affine)
    affine = geometry.resized_grid(image.values.shape, image.affine, (old[0] * 2, old[1], old[2]))[1]
    return _with(image, values, affine)


def _every_other_slice(image: Image, generator: Generator) -> Image:
    first = int(generator.integers(0, 2))
    affine = geometry.crop_affine(image.affine, (first, 0, 0)) @ np.diag([1.0, 1.0, 2.0, 1.0])  # of x, y, z
    return _with(image, image.values[first::2], affine)


def _eight_bit(low: float, high: float) -> Callable[[Image, Generator], Image]:
    """Stretch from one percentile to another to 0..255."""

    def make(image: Image, generator: Generator) -> Image:
        return _with(image, _stretched(image.values, *np.percentile(image.values, (low, high))))

    return make


def _stretched(values: Array, low: float, high: float) -> Array:
    result: Array = np.clip((values - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    return result


def _windowed(centre: float, width: float, low: float, high: float) -> Callable[[Image, Generator], Image]:
    """A window of CT in HU to 8 bits; of MR, between two percentiles."""

    def make(image: Image, generator: Generator) -> Image:
        if image.hounsfield:
            return _with(image, _stretched(image.values, centre - width / 2, centre + width / 2))
        return _eight_bit(low, high)(image, generator)

    return make


def _affine_intensity(scale: float, offset: float) -> Callable[[Image, Generator], Image]:
    return lambda image, generator: _with(
        image, image.values.astype(np.float32) * np.float32(scale) + np.float32(offset)
    )


def _padded(share: float) -> Callable[[Image, Generator], Image]:
    """Add a share of each axis, divided between both ends at random, of the lowest value; position kept in mm."""

    def make(image: Image, generator: Generator) -> Image:
        pads = []
        for length in image.values.shape:
            total = max(1, round(length * share))
            before = int(generator.integers(0, total + 1))
            pads.append((before, total - before))
        values = np.pad(image.values, pads, constant_values=image.values.min())
        return _with(image, values, geometry.crop_affine(image.affine, (-pads[0][0], -pads[1][0], -pads[2][0])))

    return make


def _noisy(share: float) -> Callable[[Image, Generator], Image]:
    def make(image: Image, generator: Generator) -> Image:
        noise = generator.normal(0, share * image.spread, image.values.shape)
        return _with(image, (image.values + noise).astype(np.float32))

    return make


def _blurred(sigma: float) -> Callable[[Image, Generator], Image]:
    return lambda image, generator: _with(image, ndimage.gaussian_filter(image.values.astype(np.float32), sigma))


def _shaded(strength: float) -> Callable[[Image, Generator], Image]:
    """Multiply by a smooth field from 1 - strength to 1 + strength, above the lowest value."""

    def make(image: Image, generator: Generator) -> Image:
        low = float(np.percentile(image.values, 0.5))
        rough = generator.normal(size=(3, 3, 3))
        zoom = [n / 3 for n in image.values.shape]
        field = ndimage.zoom(rough, zoom, order=3, mode="nearest", grid_mode=True)
        field = 1 + strength * field / np.abs(field).max()
        return _with(image, (low + (image.values - low) * field).astype(np.float32))

    return make


def _cut(shares: tuple[float, float, float]) -> Callable[[Image, Generator], Image]:
    """Take a share away from each axis (z, y, x), divided between both ends at random."""

    def make(image: Image, generator: Generator) -> Image:
        parts, origin = [], []
        for length, share in zip(image.values.shape, shares, strict=True):
            total = round(length * share)
            begin = int(generator.integers(0, total + 1))
            parts.append(slice(begin, begin + length - total))
            origin.append(begin)
        affine = geometry.crop_affine(image.affine, (origin[0], origin[1], origin[2]))
        return _with(image, image.values[tuple(parts)], affine)

    return make


def _defaced(depth: float) -> Callable[[Image, Generator], Image]:
    """Empty a block at the front: the lower 60 % along z, the middle 70 % across, a share of the depth of the body."""

    def make(image: Image, generator: Generator) -> Image:
        nz, ny, nx = image.values.shape
        body = np.flatnonzero((image.values > image.values.min() + 0.1 * image.spread).mean(axis=(0, 2)) > 0.05)
        front = int(body[-1]) + 1 if len(body) else ny  # y grows to the front
        back = front - round(depth * (front - (int(body[0]) if len(body) else 0)))
        values = image.values.copy()
        values[: round(0.6 * nz), back:, round(0.15 * nx) : round(0.85 * nx)] = image.values.min()
        return _with(image, values)

    return make


def _turned(order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Callable[[Image, Generator], Image]:
    """Turn the array and leave the header's directions: what the file says of its orientation is wrong now."""

    def make(image: Image, generator: Generator) -> Image:
        values = image.values.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
        spacing = geometry.spacing_mm(image.affine)
        z, y, x = (spacing[axis] for axis in order)
        return _with(image, np.ascontiguousarray(values), np.diag([x, y, z, 1.0]))

    return make


def _rotated(degrees: float) -> Callable[[Image, Generator], Image]:
    """Turn about the long axis, in plane, with linear interpolation; corners take the nearest value."""
    return lambda image, generator: _with(
        image,
        ndimage.rotate(image.values.astype(np.float32), degrees, axes=(1, 2), reshape=False, order=1, mode="nearest"),
    )


_KEEP = (0, 1, 2)
CHANGES = (
    *(
        Change("container", name, "same array", _same, suffix)
        for name, suffix in (
            (".nii", ".nii"),
            (".nii.gz", ".nii.gz"),
            (".mha", ".mha"),
            (".nrrd", ".nrrd"),
            (".npz", ".npz"),
            ("DICOM", "dicom"),
        )
    ),
    Change("orientation", "LPS", "same array", _oriented(_KEEP, (False, True, True))),
    Change("orientation", "axes swapped", "same array", _oriented((2, 0, 1), (True, False, True))),
    Change("dtype", "float32", "same array", _typed("float32")),
    Change("dtype", "float64", "same array", _typed("float64")),
    Change("slope and intercept", "0.5", "same array", _same),
    Change("resample", "voxels x 0.75", "re-export", _resampled(0.75)),
    Change("resample", "voxels x 1.25", "re-export", _resampled(1.25)),
    Change("resample", "voxels x 1.6", "re-export", _resampled(1.6)),
    Change("resample", "slices by twos", "re-export", _slices_by_twos),
    Change("8-bit", "0.1 to 99.9 %", "re-export", _eight_bit(0.1, 99.9)),
    Change("window", "wide", "re-export", _windowed(-300, 1400, 1, 99)),
    Change("window", "narrow", "re-export", _windowed(40, 400, 5, 95)),
    Change("intensities", "x 0.5 + 700", "re-export", _affine_intensity(0.5, 700)),
    Change("intensities", "negated", "re-export", _affine_intensity(-1, 0)),
    Change("pad", "10 %", "re-export", _padded(0.10)),
    Change("pad", "25 %", "re-export", _padded(0.25)),
    Change("noise", "2 %", "re-export", _noisy(0.02)),
    Change("noise", "5 %", "re-export", _noisy(0.05)),
    Change("blur", "0.7 voxels", "re-export", _blurred(0.7)),
    Change("blur", "1.2 voxels", "re-export", _blurred(1.2)),
    Change("bias field", "15 %", "re-export", _shaded(0.15)),
    Change("bias field", "30 %", "re-export", _shaded(0.30)),
    Change("crop along z", "20 %", "cut", _cut((0.2, 0, 0))),
    Change("crop along z", "40 %", "cut", _cut((0.4, 0, 0))),
    Change("crop in plane", "10 %", "cut", _cut((0, 0.1, 0.1))),
    Change("crop in plane", "25 %", "cut", _cut((0, 0.25, 0.25))),
    Change("crop all axes", "15 %", "cut", _cut((0.15, 0.15, 0.15))),
    Change("deface", "15 % deep", "cut", _defaced(0.15)),
    Change("deface", "25 % deep", "cut", _defaced(0.25)),
    Change("flip, no header", "x", "turned", _turned(_KEEP, (False, False, True))),
    Change("flip, no header", "y", "turned", _turned(_KEEP, (False, True, False))),
    Change("flip, no header", "z", "turned", _turned(_KEEP, (True, False, False))),
    Change("axes swapped, no header", "z y", "turned", _turned((1, 0, 2), (False, True, False))),
    Change("rotation", "2 degrees", "rotated", _rotated(2)),
    Change("rotation", "5 degrees", "rotated", _rotated(5)),
    # At the end, for the place in this list is part of a change's seed.
    Change("resample", "every other slice", "re-export", _every_other_slice),
)
