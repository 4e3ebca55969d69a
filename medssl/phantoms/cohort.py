"""A folder of synthetic patients in the layout of the Medical Segmentation Decathlon, some of them as DICOM."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import ConfigError
from medssl.formats.nifti import write_nifti
from medssl.phantoms.anatomy import CLASSES, Modality, phantom
from medssl.writing import atomic_write

__all__ = ["Cohort", "write_cohort"]


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """What was written.

    Attributes:
        folder: The cohort's folder.
        images: Every image: NIfTI files, then folders of DICOM series.
        labels: The label file of each image, None where it has none.
    """

    folder: Path
    images: tuple[Path, ...]
    labels: tuple[Path | None, ...]


def write_cohort(
    folder: Path,
    *,
    subjects: int = 12,
    modality: Modality = "CT",
    shape: tuple[int, int, int] = (64, 64, 64),
    spacing_mm: tuple[float, float, float] = (5.0, 5.0, 5.0),
    seed: int = 0,
    unlabelled: int = 0,
    dicom: int = 0,
) -> Cohort:
    """Write synthetic patients: ``imagesTr``, ``labelsTr``, ``imagesTs`` and ``dataset.json``, and ``dicom/`` if asked.

    Files that exist already are written anew with the same content.

    Args:
        folder: Made where it is missing.
        subjects: How many patients in all.
        modality: "CT" or "MR".
        shape: Voxels (z, y, x).
        spacing_mm: Voxel size (z, y, x).
        seed: Names the population.
        unlabelled: How many of them come without labels, in ``imagesTs``.
        dicom: How many of them (the last ones, labelled) come as DICOM: ``dicom/case_007/*.dcm``, the labels as
            ``dicom/case_007_seg.nii.gz``.

    Raises:
        ConfigError: More patients without labels or as DICOM than there are.
    """
    if subjects < 1 or min(unlabelled, dicom) < 0 or unlabelled + dicom > subjects:
        raise ConfigError(
            f"Of {subjects} subjects, {unlabelled} cannot be unlabelled and {dicom} DICOM: ask for at least 1 subject "
            "and for no more of either kind than there are."
        )
    folder = Path(folder)
    images: list[Path] = []
    labels: list[Path | None] = []
    as_nifti = subjects - dicom
    for subject in range(subjects):
        made = phantom(subject, modality=modality, shape=shape, spacing_mm=spacing_mm, seed=seed)
        name = f"case_{subject:03d}"
        label: Path | None
        if subject >= as_nifti:
            from medssl.formats.dicom_write import write_series

            image, label = folder / "dicom" / name, folder / "dicom" / f"{name}_seg.nii.gz"
            write_series(image, made.values, made.affine, modality=modality, patient_id=f"phantom-{seed}-{subject}")
        elif subject >= as_nifti - unlabelled:
            image, label = folder / "imagesTs" / f"{name}.nii.gz", None
            write_nifti(image, made.values, made.affine)
        else:
            image, label = folder / "imagesTr" / f"{name}.nii.gz", folder / "labelsTr" / f"{name}.nii.gz"
            write_nifti(image, made.values, made.affine)
        if label is not None:
            write_nifti(label, made.labels, made.affine)
        images.append(image)
        labels.append(label)
    cohort = Cohort(folder=folder, images=tuple(images), labels=tuple(labels))
    _write_dataset_json(cohort, modality, as_nifti)
    return cohort


def _write_dataset_json(cohort: Cohort, modality: Modality, as_nifti: int) -> None:
    pairs = list(zip(cohort.images, cohort.labels, strict=True))[:as_nifti]

    def relative(path: Path) -> str:
        return "./" + path.relative_to(cohort.folder).as_posix()

    training = [{"image": relative(image), "label": relative(label)} for image, label in pairs if label is not None]
    test = [relative(image) for image, label in pairs if label is None]
    described = {
        "name": "Phantoms",
        "description": "Synthetic torsos with organs; no patient.",
        "reference": "medssl.phantoms",
        "licence": "CC0-1.0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI" if modality == "MR" else "CT"},
        "labels": {str(number): name for number, name in CLASSES.items()},
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }
    with atomic_write(cohort.folder / "dataset.json", suffix=".json") as aside:
        aside.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
