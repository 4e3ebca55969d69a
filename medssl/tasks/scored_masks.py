"""Predictions against label maps, case by case, in the source geometry: finding the files, reading, scoring."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from medssl import geometry
from medssl.engine.card import load_card
from medssl.errors import DataError, MedSSLError
from medssl.evaluation.overlap import LabelMap
from medssl.evaluation.region_scoring import score_regions
from medssl.evaluation.scoring import StructureScore, score_case
from medssl.tasks.truths import Reference, Truth, grid_difference, read_labels, read_truth, refuse_unknown, scans_in

__all__ = ["PREDICTED", "find_predictions", "score_map", "score_predictions"]

PREDICTED = "predictions"


def find_predictions(run: Path) -> dict[str, Path]:
    """Return the predictions in a run folder, or in a folder of predictions, by file name without suffix.

    Raises:
        DataError: If there is none.
    """
    if not run.exists():
        raise DataError(f"{run}: no such folder. Name a fine-tuning run, or a folder of label maps.")
    folder = run / PREDICTED if (run / PREDICTED).is_dir() else run
    found = scans_in(folder) if folder.is_dir() else {}
    if not found:
        if (run / "run.yaml").is_file():
            load_card(run)  # of a run that has not ended it says how to close it
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
        guess, affine = read_labels(file, truth.meaning)
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
    true, true_affine = read_truth(truth)
    refuse_unknown(guess, truth.meaning, Path(name))
    turned, affine = geometry.to_canonical(guess, guess_affine)
    difference = grid_difference(true.shape, true_affine, turned.shape, affine)
    if difference and {"label-shape-differs", "label-affine-differs"} & set(truth.meaning.accept):
        # the store took the label on its image's grid, and a prediction lies there
        shape = (turned.shape[0], turned.shape[1], turned.shape[2])
        moved = geometry.resample_to_grid(true.astype(np.int32), true_affine, shape, affine, order=0, fill=0)
        true = moved.astype(np.int32)
        true_affine, difference = affine, ""
    if difference:
        raise DataError(f"{name} lies on another grid than {truth.path}: {difference}")
    scored = np.ascontiguousarray(turned).astype(guess.dtype, copy=False)
    regions = {region.written: region for region in truth.meaning.regions if region.name in structures.values()}
    spacing_mm = geometry.spacing_mm(true_affine)
    if regions:
        return score_regions(
            true,
            scored,
            case=truth.case,
            patient=truth.patient,
            regions=list(regions.values()),
            spacing_mm=spacing_mm,
            tolerance_mm=tolerance_mm,
        )
    return score_case(
        true,
        scored,
        case=truth.case,
        patient=truth.patient,
        structures=structures,
        spacing_mm=spacing_mm,
        tolerance_mm=tolerance_mm,
    )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _file_stem(case: str) -> str:
    """Return the name under which a prediction of this id is written, where the id itself is no file name."""
    from medssl.tasks.inference import prediction_file

    return prediction_file(case).removesuffix(".nii.gz")
