"""One synthetic patient: organs as smooth implicit functions, seen by a CT or an MR scanner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, did_you_mean
from medssl.phantoms.fields import smooth_field
from medssl.randomness import numpy_generator

__all__ = ["CLASSES", "Modality", "Phantom", "centred_affine", "phantom", "scan_mr"]

Modality = Literal["CT", "MR"]
Field = npt.NDArray[np.float32]
_ANATOMY, _CT, _MR = 0, 1, 2  # what a stream of random numbers is for; the anatomy is the same in both modalities

CLASSES = {
    0: "background",
    1: "liver",
    2: "spleen",
    3: "left kidney",
    4: "right kidney",
    5: "left lung",
    6: "right lung",
    7: "heart",
    8: "spine",
    9: "aorta",
}


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A synthetic patient.

    Attributes:
        values: int16, axes (z, y, x); HU for CT, arbitrary positive numbers for MR.
        labels: uint8, the same axes; the keys of ``CLASSES``.
        affine: 4x4, RAS+, mm; the volume is centred on the world's origin.
        modality: "CT" or "MR".
    """

    values: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    modality: Modality


@dataclass(frozen=True, kw_only=True)
class _Organ:
    """An ellipsoid (or a tube along z where ``tube``), in units of half the field of view, x to the right.

    ``hu`` is the plain CT value, ``enhanced`` what full contrast agent adds, ``mr`` the MR signal of a typical
    sequence, ``grain`` how strong the organ's texture is against noise-free tissue.
    """

    label: int
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    hu: float
    mr: float
    enhanced: float = 0.0
    grain: float = 1.0
    tube: bool = False


# Painted in this order; a later organ covers an earlier one. Label 0 is tissue that no label names.
_ORGANS = (
    _Organ(label=0, centre=(0.0, 0.12, -0.66), radii=(0.50, 0.32, 0.30), hu=10.0, mr=0.45, grain=4.0),  # bowel
    _Organ(label=5, centre=(-0.38, 0.00, 0.50), radii=(0.29, 0.38, 0.46), hu=-830.0, mr=0.06, grain=3.0),
    _Organ(label=6, centre=(0.38, 0.00, 0.50), radii=(0.30, 0.38, 0.44), hu=-830.0, mr=0.06, grain=3.0),
    _Organ(label=7, centre=(-0.09, 0.14, 0.34), radii=(0.24, 0.22, 0.25), hu=45.0, mr=0.60, enhanced=120.0),
    _Organ(label=0, centre=(-0.30, 0.20, -0.14), radii=(0.20, 0.19, 0.18), hu=25.0, mr=0.30, grain=2.0),  # stomach
    _Organ(label=1, centre=(0.30, 0.04, -0.17), radii=(0.40, 0.38, 0.27), hu=58.0, mr=0.70, enhanced=50.0, grain=1.5),
    _Organ(label=1, centre=(0.02, 0.18, -0.10), radii=(0.26, 0.20, 0.15), hu=58.0, mr=0.70, enhanced=50.0, grain=1.5),
    _Organ(label=2, centre=(-0.50, -0.14, -0.16), radii=(0.16, 0.22, 0.21), hu=48.0, mr=0.52, enhanced=75.0),
    _Organ(label=3, centre=(-0.30, -0.26, -0.46), radii=(0.13, 0.12, 0.21), hu=32.0, mr=0.82, enhanced=160.0),
    _Organ(label=4, centre=(0.31, -0.26, -0.52), radii=(0.13, 0.12, 0.21), hu=32.0, mr=0.82, enhanced=160.0),
    _Organ(label=9, centre=(-0.08, -0.16, -0.3), radii=(0.07, 0.07, 0.75), hu=40.0, mr=0.2, enhanced=220.0, tube=True),
    _Organ(label=8, centre=(0.0, -0.36, 0.0), radii=(0.15, 0.13, 2.0), hu=230.0, mr=0.38, grain=5.0, tube=True),
)
_BODY = (0.84, 0.62, 1.30)
_FAT_HU, _MUSCLE_HU, _BONE_HU, _AIR_HU = -100.0, 48.0, 420.0, -1000.0
_FAT_MR, _MUSCLE_MR, _BONE_MR = 0.95, 0.32, 0.12


def phantom(
    subject: int,
    *,
    modality: Modality = "CT",
    shape: tuple[int, int, int] = (64, 64, 64),
    spacing_mm: tuple[float, float, float] = (5.0, 5.0, 5.0),
    seed: int = 0,
) -> Phantom:
    """Make a patient: the same one for the same (seed, subject), as CT or as MR.

    The torso is scaled to fill the field of view along each axis. Subjects differ in pose (a few degrees, shift,
    size), in the place, size and outline of every organ, in contrast, and for MR in gain and bias field.

    Args:
        subject: Which patient, counted from 0.
        modality: "CT" (HU) or "MR" (arbitrary units).
        shape: Voxels (z, y, x), at least 8 each.
        spacing_mm: Voxel size (z, y, x).
        seed: Names the population.

    Raises:
        ConfigError: The modality is unknown or the shape too small.

    Example:
        >>> made = phantom(0, modality="MR", shape=(16, 16, 16))
        >>> made.values.shape, sorted(set(made.labels.ravel().tolist()))[:3]
        ((16, 16, 16), [0, 1, 2])
    """
    if modality not in ("CT", "MR"):
        raise ConfigError(f"Unknown modality '{modality}'. {did_you_mean(str(modality), ['CT', 'MR'])}")
    if min(shape) < 8:
        raise ConfigError(f"A phantom needs at least 8 voxels along each axis. Got the shape {shape}.")
    anatomy = numpy_generator(seed, subject, _ANATOMY)
    appearance = numpy_generator(seed, subject, _CT if modality == "CT" else _MR)
    x, y, z = _body_coordinates(anatomy, shape)
    soft = 1.0 / min(shape)  # half a voxel: the edge of an organ fills its voxels in part, as in a real scan

    image = np.full(shape, _AIR_HU if modality == "CT" else 0.0, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.uint8)
    fine = smooth_field(anatomy, shape, 26) + 0.6 * smooth_field(anatomy, shape, 13)
    ridges = 1.0 - np.abs(smooth_field(anatomy, shape, 16))  # near 1 along thin sheets and threads, like vessels
    contrast = float(appearance.uniform(0.0, 1.0))
    tissue = _tissue(modality, appearance)

    body = ((x / _BODY[0]) ** 2 + (y / _BODY[1]) ** 2 + (z / _BODY[2]) ** 4) ** 0.5
    fat_depth = 0.07 + 0.04 * float(anatomy.uniform())
    _paint(image, (body - 1.0) * 0.6, tissue(_FAT_HU, _FAT_MR) + 8.0 * tissue.per_grain * fine, soft)
    _paint(image, (body - 1.0) * 0.6 + fat_depth, tissue(_MUSCLE_HU, _MUSCLE_MR) + 12.0 * tissue.per_grain * fine, soft)
    _paint(image, _ribs(body, y, z, fat_depth), tissue(_BONE_HU, _BONE_MR), soft)
    for organ in _ORGANS:
        outside = _organ_function(organ, (x, y, z), anatomy, shape)
        level = tissue(organ.hu + organ.enhanced * contrast, organ.mr)
        grain = 12.0 * organ.grain * tissue.per_grain * fine
        if organ.label in (1, 5, 6):  # liver and lungs: vessels
            vessel = tissue(60.0 + 140.0 * contrast, 0.25) if organ.label == 1 else tissue(20.0, 0.30)
            grain = grain + np.clip((ridges - 0.93) * 14.0, 0.0, 1.0) * 0.5 * (vessel - level)
        if organ.label == 8:  # discs between vertebrae
            disc = np.clip(3.0 * (np.cos(z * 24.0) - 0.55), 0.0, 1.0)
            grain = grain + disc * (tissue(80.0, 0.75) - level)
        _paint(image, outside, level + grain, soft)
        labels[outside < 0] = organ.label
    values = _scan_ct(image, appearance) if modality == "CT" else scan_mr(image, appearance)
    return Phantom(values=values, labels=labels, affine=centred_affine(shape, spacing_mm), modality=modality)


class _tissue:  # noqa: N801 - reads as a function of (HU, MR signal)
    """Picks the value of a tissue for the modality, each with a small deviation of its own."""

    def __init__(self, modality: Modality, generator: np.random.Generator) -> None:
        self._ct, self._generator = modality == "CT", generator
        self.per_grain = 1.0 if self._ct else 0.002

    def __call__(self, hu: float, mr: float) -> float:
        deviation = float(self._generator.standard_normal())
        return hu + 6.0 * deviation if self._ct else mr * float(np.exp(0.08 * deviation))


def _body_coordinates(generator: np.random.Generator, shape: tuple[int, int, int]) -> tuple[Field, Field, Field]:
    """Return, for every voxel, where in the standard body (x, y, z) it lies: pose and smooth deformation undone."""
    axes = [((np.arange(n) + 0.5) * 2.0 / n - 1.0).astype(np.float32) for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    angles = np.deg2rad(generator.normal(0.0, (3.0, 3.0, 6.0)))
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    turn = (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    )
    scale = np.exp(generator.normal(0.0, 0.05, 3)) * float(np.exp(generator.normal(0.0, 0.04)))
    shift = generator.normal(0.0, (0.04, 0.04, 0.07))
    matrix = (turn / scale[:, None]).astype(np.float32)
    placed = []
    for row in range(3):
        bent = smooth_field(generator, shape, 6) * np.float32(0.025)
        linear = matrix[row, 0] * (x - np.float32(shift[0])) + matrix[row, 1] * (y - np.float32(shift[1]))
        placed.append(linear + matrix[row, 2] * (z - np.float32(shift[2])) + bent)
    return placed[0], placed[1], placed[2]


def _organ_function(
    organ: _Organ, place: tuple[Field, Field, Field], generator: np.random.Generator, shape: tuple[int, int, int]
) -> Field:
    """Return roughly the signed distance to the organ's surface, negative inside."""
    centre = np.array(organ.centre) + generator.normal(0.0, 0.012, 3)
    radii = np.array(organ.radii) * np.exp(generator.normal(0.0, 0.07, 3))
    q = [(axis - np.float32(c)) / np.float32(r) for axis, c, r in zip(place, centre, radii, strict=True)]
    squared = q[0] ** 2 + q[1] ** 2 + (q[2] ** 8 if organ.tube else q[2] ** 2)
    outline = smooth_field(generator, shape, 9) * np.float32(0.06)
    result: Field = ((np.sqrt(squared) - 1.0 + outline) * np.float32(min(radii))).astype(np.float32)
    return result


def _ribs(body: Field, y: Field, z: Field, fat_depth: float) -> Field:
    """Return the implicit function of slanted hoops under the fat, around the chest."""
    shell = np.abs((body - 1.0) * 0.6 + fat_depth + 0.05) - 0.025
    hoop = 0.35 - np.cos((z + 0.35 * y) * 30.0)
    chest = 0.0 - z  # ribs above the middle only
    result: Field = np.maximum(np.maximum(shell, hoop * 0.03), chest).astype(np.float32)
    return result


def _paint(image: Field, outside: Field, value: npt.NDArray[np.floating[Any]] | float, soft: float) -> None:
    share = np.clip(0.5 - outside / np.float32(2.0 * soft), 0.0, 1.0)
    image += share * (value - image)


def _scan_ct(image: Field, generator: np.random.Generator) -> npt.NDArray[np.int16]:
    noise = generator.uniform(6.0, 16.0) * generator.standard_normal(image.shape, dtype=np.float32)
    values: npt.NDArray[np.int16] = np.clip(np.rint(image + noise), -1024, 3071).astype(np.int16)
    return values


def scan_mr(image: Field, generator: np.random.Generator) -> npt.NDArray[np.int16]:
    """Return the magnitude image: gain, coil sensitivity and Rician noise."""
    gain = 600.0 * float(np.exp(generator.normal(0.0, 0.6)))
    bias = np.exp(np.float32(0.22) * smooth_field(generator, (image.shape[0], image.shape[1], image.shape[2]), 4))
    sigma = np.float32(generator.uniform(0.015, 0.035))
    real = image * bias + sigma * generator.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * generator.standard_normal(image.shape, dtype=np.float32)
    values: npt.NDArray[np.int16] = np.clip(np.rint(np.hypot(real, imaginary) * gain), 0, 32767).astype(np.int16)
    return values


def centred_affine(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Return the affine of a grid (z, y, x) with this voxel size, centred on the world's origin."""
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape[::-1], spacing[::-1], strict=True)]
    return affine
