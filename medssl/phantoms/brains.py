"""Synthetic heads with a lesion, in the four sequences of BraTS; one part of the lesion shows in one sequence alone.

Labels are those of BraTS up to 2020: 1 is the necrotic core, 2 the oedema, 4 the rim that enhances. The rim has the
signal of the oedema in every sequence but ``t1ce``, so a network that lacks that channel cannot find it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError
from medssl.formats.nifti import write_nifti
from medssl.phantoms.anatomy import centred_affine, scan_mr
from medssl.phantoms.fields import smooth_field
from medssl.randomness import numpy_generator

__all__ = ["BRAIN_CLASSES", "SEQUENCES", "Brain", "brain", "write_brains"]

Field = npt.NDArray[np.float32]
SEQUENCES = ("t1", "t1ce", "t2", "flair")
BRAIN_CLASSES = {0: "background", 1: "necrotic core", 2: "oedema", 4: "enhancing rim"}
_ANATOMY, _APPEARANCE = 20, 21  # what a stream of random numbers is for; those below are of the torsos
# Signals in t1, t1ce, t2, flair.
_SCALP = (0.95, 0.95, 0.60, 0.60)
_SKULL = (0.08, 0.08, 0.06, 0.06)
_GREY = (0.50, 0.52, 0.55, 0.55)
_WHITE = (0.70, 0.72, 0.42, 0.42)
_FLUID = (0.20, 0.20, 0.95, 0.12)
_OEDEMA = (0.48, 0.50, 0.85, 0.95)
_RIM = (0.48, 1.20, 0.85, 0.95)
_CORE = (0.30, 0.32, 0.75, 0.40)


@dataclass(frozen=True, kw_only=True)
class Brain:
    """A synthetic head.

    Attributes:
        values: int16, (4, z, y, x), in the order of ``SEQUENCES``; arbitrary positive numbers.
        labels: uint8, (z, y, x); the keys of ``BRAIN_CLASSES``.
        affine: 4x4, RAS+, mm; the volume is centred on the world's origin.
    """

    values: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]


def brain(
    subject: int,
    *,
    shape: tuple[int, int, int] = (48, 56, 48),
    spacing_mm: tuple[float, float, float] = (3.5, 3.5, 3.5),
    seed: int = 0,
) -> Brain:
    """Make a head: the same one for the same (seed, subject), all sequences on one grid.

    Heads differ in size and folds, and in place, size and outline of the lesion; each sequence has a gain, a bias field
    and noise of its own.

    Args:
        subject: Which patient, counted from 0.
        shape: Voxels (z, y, x), at least 16 each.
        spacing_mm: Voxel size (z, y, x).
        seed: Names the population.

    Raises:
        ConfigError: The shape is too small.
    """
    if min(shape) < 16:
        raise ConfigError(f"A head needs at least 16 voxels along each axis. Got the shape {shape}.")
    generator = numpy_generator(seed, subject, _ANATOMY)
    axes = [((np.arange(n) + 0.5) * 2.0 / n - 1.0).astype(np.float32) for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    size = np.exp(generator.normal(0.0, 0.04, 3))
    radius = np.sqrt((x / (0.72 * size[0])) ** 2 + (y / (0.86 * size[1])) ** 2 + (z / (0.84 * size[2])) ** 2)
    radius = radius + np.float32(0.02) * smooth_field(generator, shape, 6)
    folds = smooth_field(generator, shape, 14)
    ventricle = np.sqrt((np.abs(x) - 0.12) ** 2 / 0.006 + y**2 / 0.09 + (z - 0.05) ** 2 / 0.03)
    lesion = _lesion(generator, (x, y, z), shape)

    tissue = np.zeros(shape, dtype=np.int8)
    tissue[radius < 1.0] = 1  # scalp
    tissue[radius < 0.92] = 2  # skull
    tissue[radius < 0.84] = 3  # grey matter
    tissue[radius + 0.07 * folds < 0.68] = 4  # white matter
    tissue[(ventricle < 1.0) & (radius < 0.6)] = 5
    labels = np.zeros(shape, dtype=np.uint8)
    inside = radius < 0.82
    for number, edge in ((2, 1.0), (4, 0.66), (1, 0.42)):
        labels[(lesion < edge) & inside] = number
    for number, kind in ((2, 6), (4, 7), (1, 8)):
        tissue[labels == number] = kind

    kinds = np.array([(0.0,) * 4, _SCALP, _SKULL, _GREY, _WHITE, _FLUID, _OEDEMA, _RIM, _CORE], dtype=np.float32)
    values = []
    for number in range(len(SEQUENCES)):
        image = kinds[tissue, number] * (1.0 + np.float32(0.02) * folds * (tissue > 0))
        values.append(scan_mr(image.astype(np.float32), numpy_generator(seed, subject, _APPEARANCE, number)))
    return Brain(values=np.stack(values), labels=labels, affine=centred_affine(shape, spacing_mm))


def write_brains(
    folder: Path,
    *,
    subjects: int = 8,
    shape: tuple[int, int, int] = (48, 56, 48),
    spacing_mm: tuple[float, float, float] = (3.5, 3.5, 3.5),
    seed: int = 0,
) -> list[Path]:
    """Write heads as BraTS has them: ``case_000/case_000_t1.nii.gz``, ``..._t1ce``, ``_t2``, ``_flair`` and ``_seg``.

    Files that exist already are written anew with the same content.

    Args:
        folder: Made where it is missing.
        subjects: How many.
        shape: Voxels (z, y, x).
        spacing_mm: Voxel size (z, y, x).
        seed: Names the population.

    Returns:
        The folder of each patient.
    """
    folders = []
    for subject in range(subjects):
        made = brain(subject, shape=shape, spacing_mm=spacing_mm, seed=seed)
        name = f"case_{subject:03d}"
        folders.append(Path(folder) / name)
        for sequence, values in zip(SEQUENCES, made.values, strict=True):
            write_nifti(folders[-1] / f"{name}_{sequence}.nii.gz", values, made.affine)
        write_nifti(folders[-1] / f"{name}_seg.nii.gz", made.labels, made.affine)
    return folders


def _lesion(generator: np.random.Generator, place: tuple[Field, Field, Field], shape: tuple[int, int, int]) -> Field:
    """Return the distance from the middle of the lesion, 1 at its border."""
    side = 1.0 if generator.random() < 0.5 else -1.0
    centre = (side * generator.uniform(0.22, 0.34), generator.uniform(-0.3, 0.3), generator.uniform(-0.15, 0.3))
    radii = generator.uniform(0.24, 0.34, 3)
    squared = sum(
        ((axis - np.float32(c)) / np.float32(r)) ** 2 for axis, c, r in zip(place, centre, radii, strict=True)
    )
    result: Field = (np.sqrt(squared) + np.float32(0.05) * smooth_field(generator, shape, 8)).astype(np.float32)
    return result
