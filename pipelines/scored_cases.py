"""Predictions against label maps, case by case, in the source geometry: finding the files, reading, scoring."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl import formats, geometry
from medssl.errors import DataError, FormatError, MedSSLError
from medssl.evaluation.overlap import LabelMap
from medssl.evaluation.scoring import StructureScore, score_case

__all__ = [
    "Reference",
    "Truth",
    "find_predictions",
    "grid_difference",
    "read_labels",
    "read_reference",
    "score_map",
    "score_predictions",
]

_PREDICTIONS = "predictions"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The label map of one case.

    Attributes:
        case: The scan's id.
        patient: Key of the patient.
        split: "train", "val", "test" or "".
        path: The label file in its source geometry.
    """

    case: str
    patient: str
    split: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The cases that predictions are compared with.

    Attributes:
        truths: One for each labelled case.
        classes: Name of each structure by its label value, without the background; empty where unknown.
        by_patient: Whether patients are known; where not, every case counts as a patient of its own.
    """

    truths: tuple[Truth, ...]
    classes: Mapping[int, str]
    by_patient: bool = True

    def of_split(self, split: str | None) -> Reference:
        """Return the cases of one split; with None those of "test", or all where there is no test split."""
        if split is None:
            split = "test" if any(t.split == "test" for t in self.truths) else ""
        return replace(self, truths=tuple(t for t in self.truths if t.split == split)) if split else self


def read_reference(data: Path) -> Reference:
    """Find the label maps that predictions are to be compared with.

    Args:
        data: A store, a manifest (.parquet or .csv), or a folder of label files named like the predictions.

    Raises:
        DataError: If there is no labelled case.
        CacheError: If a store cannot be read.
        ManifestError: If a manifest cannot be read.
    """
    if (data / "store.json").is_file():
        from medssl.store.index import read_index

        index = read_index(data)
        truths = [
            Truth(case=entry.id, patient=entry.patient or entry.id, split=entry.split, path=Path(entry.label_path))
            for entry in index.entries
            if entry.label_path
        ]
        found = Reference(truths=tuple(truths), classes=_foreground(index.classes))
    elif data.suffix in (".parquet", ".csv"):
        from medssl.manifest.schema import read_manifest

        manifest = read_manifest(data)
        truths = [
            Truth(case=r["id"], patient=r["patient"] or r["id"], split=r["split"] or "", path=Path(r["label_path"]))
            for r in manifest.labelled().rows()
        ]
        found = Reference(truths=tuple(truths), classes=_foreground(manifest.classes))
    elif data.is_dir():
        truths = [Truth(case=case, patient=case, split="", path=path) for case, path in sorted(_scans_in(data).items())]
        found = Reference(truths=tuple(truths), classes={}, by_patient=False)
    else:
        raise DataError(
            f"{data}: predictions are compared with a store, a manifest (.parquet, .csv) or a folder of label maps. "
            "It is none of these. Name one with --data."
        )
    if not found.truths:
        raise DataError(f"{data}: no scan has a label map. Index the scans together with their labels.")
    return found


def find_predictions(run: Path) -> dict[str, Path]:
    """Return the predictions in a run folder, or in a folder of predictions, by file name without suffix.

    Raises:
        DataError: If there is none.
    """
    if not run.exists():
        raise DataError(f"{run}: no such folder. Name a fine-tuning run, or a folder of label maps.")
    folder = run / _PREDICTIONS if (run / _PREDICTIONS).is_dir() else run
    found = _scans_in(folder) if folder.is_dir() else {}
    if not found:
        raise DataError(
            f"{run}: no predictions (expected {folder / 'CASE.nii.gz'}). "
            "Make them with: medssl finetune, or name a folder that holds label maps."
        )
    return found


def score_predictions(
    predictions: Mapping[str, Path],
    reference: Reference,
    *,
    structures: Mapping[int, str],
    tolerance_mm: float | Mapping[str, float],
    workers: int | None = None,
    on_case: Callable[[str], None] | None = None,
) -> tuple[list[StructureScore], dict[str, str]]:
    """Score every case of the reference, several at a time; a case that cannot be scored is listed with the reason.

    Args:
        predictions: Files as `find_predictions` gives them.
        reference: The cases.
        structures: Name of each label value to score.
        tolerance_mm: Tolerance of the surface Dice: one, or one for each name.
        workers: Threads; None takes one for each CPU.
        on_case: Told of each case that is finished.

    Returns:
        The rows in the order of the reference, and the cases without a score with the reason.
    """

    def score(truth: Truth) -> list[StructureScore]:
        file = predictions.get(truth.case) or predictions.get(_file_stem(truth.case))
        if file is None:
            raise DataError("there is no prediction for it")
        guess, affine = read_labels(file)
        return score_map(truth, guess, affine, structures=structures, tolerance_mm=tolerance_mm, name=str(file))

    rows: dict[str, list[StructureScore]] = {}
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(workers or _processors()) as pool:
        waiting = {pool.submit(score, truth): truth.case for truth in reference.truths}
        for future in as_completed(waiting):
            case = waiting[future]
            try:
                rows[case] = future.result()
            except (MedSSLError, OSError, ValueError, MemoryError) as error:
                failed[case] = str(error) or type(error).__name__
            if on_case is not None:
                on_case(case)
    ordered = [row for truth in reference.truths for row in rows.get(truth.case, [])]
    return ordered, {truth.case: failed[truth.case] for truth in reference.truths if truth.case in failed}


def grid_difference(
    shape: tuple[int, ...], affine: geometry.Affine, other_shape: tuple[int, ...], other_affine: geometry.Affine
) -> str:
    """Say how two grids differ, "" where they are one: corners within a tenth of a voxel.

    Args:
        shape: Shape (z, y, x).
        affine: Its affine.
        other_shape: Shape of the other grid.
        other_affine: Its affine.
    """
    if shape != other_shape:
        return f"shape {other_shape} against {shape}"
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in shape[::-1]])).reshape(3, -1)
    corners = np.vstack([ends, np.ones(ends.shape[1])])
    apart = np.linalg.norm(((affine - other_affine) @ corners)[:3], axis=0).max()
    return f"corners up to {apart:.2f} mm apart" if apart > 0.1 * min(geometry.spacing_mm(affine)) else ""


def score_map(
    truth: Truth,
    guess: LabelMap,
    guess_affine: geometry.Affine,
    *,
    structures: Mapping[int, str],
    tolerance_mm: float | Mapping[str, float],
    name: str = "the prediction",
) -> list[StructureScore]:
    """Score one predicted label map against the label file of its case.

    Args:
        truth: The case.
        guess: Predicted label values, (z, y, x), on the grid of the source in any axis order.
        guess_affine: Its affine.
        structures: Name of each label value to score.
        tolerance_mm: Tolerance of the surface Dice: one, or one for each name.
        name: What the prediction is called in errors.

    Raises:
        DataError: If the two lie on different grids.
        FormatError: If the label file cannot be read.
    """
    true, true_affine = read_labels(truth.path)
    turned, affine = geometry.to_canonical(guess, guess_affine)
    difference = grid_difference(true.shape, true_affine, turned.shape, affine)
    if difference:
        raise DataError(f"{name} lies on another grid than {truth.path}: {difference}")
    return score_case(
        true,
        np.ascontiguousarray(turned).astype(guess.dtype, copy=False),
        case=truth.case,
        patient=truth.patient,
        structures=structures,
        spacing_mm=geometry.spacing_mm(true_affine),
        tolerance_mm=tolerance_mm,
    )


def read_labels(path: Path) -> tuple[LabelMap, geometry.Affine]:
    """Return a label map turned to canonical axes, so that files of other axis orders compare, and its affine.

    Raises:
        FormatError: If it cannot be read, or holds anything but whole numbers.
    """
    if not path.exists():
        raise FormatError(path, "The label map is not there. Was it moved since the manifest was made?")
    scan = formats.read(path)
    values = scan.values
    if values.dtype.kind == "f":
        whole = np.nan_to_num(values, nan=0.5, posinf=0.5, neginf=0.5)
        if not (whole == np.round(whole)).all():
            raise FormatError(path, "It holds values that are not whole numbers, so it is no label map.")
        values = whole.astype(np.int32)
    turned, affine = geometry.to_canonical(values, scan.header.affine)
    labels: npt.NDArray[np.integer] = np.ascontiguousarray(turned).astype(turned.dtype, copy=False)
    return labels, affine


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _file_stem(case: str) -> str:
    """Return the name under which a prediction of this id is written, where the id itself is no file name."""
    from medssl.tasks.inference import prediction_file

    return prediction_file(case).removesuffix(".nii.gz")


def _scans_in(folder: Path) -> dict[str, Path]:
    return {
        path.name.split(".nii")[0] if ".nii" in path.name else path.stem: path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and formats.is_scan_name(path)
    }


def _foreground(classes: Mapping[int, str]) -> dict[int, str]:
    return {value: name for value, name in sorted(classes.items()) if value > 0}
