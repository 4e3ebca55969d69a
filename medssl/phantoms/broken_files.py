"""A folder of scans that are broken in the ways that real folders are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from medssl.formats.nifti import write_nifti
from medssl.phantoms.anatomy import phantom

__all__ = ["write_bad_folder"]


def write_bad_folder(folder: Path, *, seed: int = 0) -> dict[str, Path]:
    """Write two good scans and one of every kind of trouble.

    Args:
        folder: Made where it is missing.
        seed: Names the population that the scans come from.

    Returns:
        From the kind of trouble to the file or folder: ``good``, ``accented`` (good, its path has spaces and letters
        beyond ASCII), ``truncated_gzip``, ``text``, ``zero_length``, ``nan``, ``constant``, ``duplicate`` (of
        ``good``), ``four_dimensional``, ``no_permission`` (readable all the same for root), ``two_slices`` (a DICOM
        series), ``empty_dicom`` (a file of no bytes inside ``mixed_series``), ``mixed_series`` (two good series and a
        localiser in one folder).
    """
    from medssl.formats.dicom_write import write_series

    folder = Path(folder)
    shape, spacing = (24, 20, 22), (12.0, 15.0, 14.0)

    def made(subject: int) -> tuple[np.ndarray, np.ndarray]:
        one = phantom(subject, modality="CT", shape=shape, spacing_mm=spacing, seed=seed)
        return one.values, one.affine

    kinds = {
        "good": folder / "good.nii.gz",
        "accented": folder / "Müller und Søn ñ" / "über scan №1.nii.gz",
        "truncated_gzip": folder / "truncated.nii.gz",
        "text": folder / "text.nii.gz",
        "zero_length": folder / "empty.nii.gz",
        "nan": folder / "nan.nii.gz",
        "constant": folder / "constant.nii.gz",
        "duplicate": folder / "copy of good.nii.gz",
        "four_dimensional": folder / "four_dimensional.nii.gz",
        "no_permission": folder / "no_permission.nii.gz",
        "two_slices": folder / "two_slices",
        "mixed_series": folder / "mixed",
        "empty_dicom": folder / "mixed" / "empty.dcm",
    }
    values, affine = made(0)
    write_nifti(kinds["good"], values, affine)
    shutil.copyfile(kinds["good"], kinds["duplicate"])
    write_nifti(kinds["accented"], *made(1))
    whole = kinds["good"].read_bytes()
    kinds["truncated_gzip"].write_bytes(whole[: len(whole) // 2])
    kinds["text"].write_text("<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n", encoding="utf-8")
    kinds["zero_length"].write_bytes(b"")
    broken = made(2)[0].astype(np.float32)
    broken[3:6, 4:8, 5:9] = np.nan
    broken[10, 10, 10] = np.inf
    write_nifti(kinds["nan"], broken, affine)
    write_nifti(kinds["constant"], np.full(shape, 7, dtype=np.int16), affine)
    write_nifti(kinds["four_dimensional"], np.stack([made(3)[0], made(4)[0]]), affine)
    kinds["no_permission"].unlink(missing_ok=True)
    write_nifti(kinds["no_permission"], *made(5))
    kinds["no_permission"].chmod(0)

    write_series(kinds["two_slices"], made(6)[0][:2], affine, modality="CT", patient_id="two-slices")
    mixed = kinds["mixed_series"]
    write_series(mixed, made(7)[0], affine, modality="CT", patient_id="mixed", name="a")
    write_series(mixed, made(8)[0], affine, modality="CT", patient_id="mixed", name="b")
    write_series(mixed, made(8)[0][:1], affine, modality="CT", patient_id="mixed", name="scout", localizer=True)
    kinds["empty_dicom"].write_bytes(b"")
    return kinds
