"""The best, the median and the worst case of a run, drawn in the geometry of their source files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import DataError, MedSSLError
from medssl.formats.label_image import Grid, image_of_label
from medssl.formats.label_map import label_of
from medssl.formats.reading import read
from medssl.reporting.material import Material
from medssl.reporting.pictures import Plane, Volume, cut_planes, focus_of, grey_levels
from medssl.store.entry import Entry
from medssl.tasks.inference import prediction_file

__all__ = ["Case", "chosen_cases", "draw_case"]

_RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Case:
    """One scored case.

    Attributes:
        id: The scan's id.
        rank: "best", "median" or "worst".
        dice: Mean Dice over its structures.
        lowest: The structure with the lowest Dice, where there are several.
    """

    id: str
    rank: str
    dice: float
    lowest: tuple[str, float] | None = None


def chosen_cases(folder: Path, run: str) -> tuple[list[Case], str]:
    """Return the best, the median (the lower of two) and the worst case of a run, and why there is none.

    Args:
        folder: Where scores.parquet lies.
        run: The run's name in it.
    """
    import polars as pl

    path = folder / "scores.parquet"
    if not path.is_file():
        return [], "scores.parquet is not beside scores.json"
    try:
        frame = pl.read_parquet(path).filter(pl.col("run") == run)
        rows = frame.select("case", "structure", "dice").filter(pl.col("dice").is_finite()).rows()
    except (OSError, pl.exceptions.PolarsError) as error:
        return [], f"scores.parquet cannot be read ({error})"
    by_case: dict[str, list[tuple[float, str]]] = {}
    for case, structure, dice in rows:
        by_case.setdefault(str(case), []).append((float(dice), str(structure)))
    ordered = sorted(((float(np.mean([d for d, _ in s])), case) for case, s in by_case.items()), reverse=True)
    if not ordered:
        return [], "no case has a score"
    places = dict.fromkeys((0, len(ordered) // 2, len(ordered) - 1))
    ranks = _RANKS if len(places) == 3 else (_RANKS[0], _RANKS[-1]) if len(places) == 2 else ("only",)
    chosen = []
    for rank, place in zip(ranks, places, strict=True):
        dice, case = ordered[place]
        low, structure = min(by_case[case])
        chosen.append(Case(case, rank, dice, (structure, low) if len(by_case[case]) > 1 else None))
    return chosen, ""


def draw_case(
    case: Case, *, folder: Path, run: str, compared: str | None, material: Material
) -> tuple[list[Plane], str]:
    """Return the three planes of a case with the contours of truth, prediction and the compared run's prediction.

    Args:
        case: Which.
        folder: Folder of the scores; of the predictions too, where the run is not known.
        run: The run's name.
        compared: Name of the run it is compared with; left out where its prediction is not found.
        material: Where runs, stores and manifests are.

    Returns:
        The planes, and "" or why there are none.
    """
    sources = _sources(case.id, material)
    if sources is None:
        return [], "no store or manifest says where the scan and its label are"
    image_path, paths, label_path, modality = sources
    guess_path = _prediction(case.id, run, folder, material)
    if guess_path is None:
        return [], f"its prediction is not in {run}"
    try:
        guess = _canonical(guess_path)
        truth = _on_grid(_truth(case.id, label_path, image_path, paths, material), guess)
        values, affine = _image(case.id, image_path, paths, guess, material)
    except (MedSSLError, OSError, ValueError) as error:
        return [], str(error)
    masks = [truth, guess[0]]
    other_path = _prediction(case.id, compared, None, material) if compared else None
    if other_path is not None:
        try:
            masks.append(_on_grid(_canonical(other_path), guess))
        except (MedSSLError, OSError, ValueError):
            other_path = None  # the compared contour is an extra; the case is shown without it
    volume = Volume(values, geometry.spacing_mm(affine), *grey_levels(values, hounsfield=modality == "CT"))
    focus = focus_of(masks[:2], volume.spacing_mm)
    if focus is None:
        return [], "neither truth nor prediction marks anything"
    return cut_planes(volume, focus[0], masks=masks, view=focus[1]), ""


def _sources(case: str, material: Material) -> tuple[Path, list[Path], Path, str] | None:
    """Return (image, files of a series, label, modality) of a scan."""
    for manifest in material.manifests.values():
        for row in manifest.rows():
            if row["id"] == case and row["label_path"]:
                files = [Path(p) for p in row["paths"] or ()]
                return Path(row["path"]), files, Path(row["label_path"]), row["modality"] or ""
    entry = _entry(case, material)
    if entry is None or entry[0].label_path is None:
        return None
    return Path(entry[0].source_path), [], Path(entry[0].label_path), entry[0].modality


def _truth(
    case: str, label: Path, image: Path, paths: Sequence[Path], material: Material
) -> tuple[npt.NDArray[Any], geometry.Affine]:
    """Return the label of a case in canonical axes, read as the store reads it; what is not known is background."""
    if not label.exists():
        raise DataError(f"{label.name} is not there any more")
    classes: Mapping[int, str] = {}
    ignored: Sequence[int] = ()
    grid: Grid | None = None
    frame = 0
    found = _entry(case, material)
    if found is not None:
        entry, store, _ = found
        classes, ignored, grid = store.classes, store.ignored, (entry.source_shape, entry.source_affine)
        frame = int(store.settings.get("frame", 0))
    else:
        for manifest in material.manifests.values():
            if case in set(manifest.frame["id"]):
                classes, ignored = manifest.classes, manifest.ignored
                break
    header = image_of_label(label, image, paths=paths, grid=grid)
    frame = frame if header is not None and header.frames > 1 else 0
    read_as = label_of(label, header, classes=classes, ignored=ignored, frame=frame)
    turned, affine = geometry.to_canonical(np.maximum(read_as.values, 0).astype(np.int16), read_as.header.affine)
    return turned, affine


def _entry(case: str, material: Material) -> tuple[Entry, Any, int] | None:
    for store in material.stores.values():
        for index, entry in enumerate(store.entries):
            if entry.id == case:
                return entry, store, index
    return None


def _prediction(case: str, run: str | None, folder: Path | None, material: Material) -> Path | None:
    record = material.run_of(run) if run else None
    places = [record.folder] if record is not None else [folder] if folder is not None else []
    names = (prediction_file(case), f"{case}.nii.gz", f"{case}.nii")
    for place in places:
        for parent in (place / "predictions", place):
            for name in names:
                if (parent / name).is_file():
                    return parent / name
    return None


def _canonical(path: Path) -> tuple[npt.NDArray[Any], geometry.Affine]:
    """Return a prediction in canonical axes, as whole numbers."""
    if not path.exists():
        raise DataError(f"{path.name} is not there any more")
    label = label_of(path, None)
    turned, affine = geometry.to_canonical(label.values.astype(np.int16), label.header.affine)
    return turned, affine


def _on_grid(
    labels: tuple[npt.NDArray[Any], geometry.Affine], grid: tuple[npt.NDArray[Any], geometry.Affine]
) -> npt.NDArray[Any]:
    """Return a label map on another's grid; untouched where it lies there already."""
    values, affine = labels
    if values.shape == grid[0].shape and np.allclose(affine, grid[1], atol=1e-2):
        return values
    return geometry.resample_to_grid(values, affine, _shape(grid[0]), grid[1], order=0, fill=0)


def _image(
    case: str, path: Path, paths: Sequence[Path], grid: tuple[npt.NDArray[Any], geometry.Affine], material: Material
) -> tuple[npt.NDArray[Any], geometry.Affine]:
    """Return the image on the grid of the prediction: from its source file, else from the store."""
    if path.exists():
        scan = read(path, paths=paths)
        values, affine = geometry.to_canonical(scan.values, scan.header.affine)
        if values.shape == grid[0].shape and np.allclose(affine, grid[1], atol=1e-2):
            return values, grid[1]
        values = np.asarray(values, dtype=np.float32)
    else:
        found = _entry(case, material)
        if found is None:
            raise DataError("the scan itself is not there any more")
        entry, store, index = found
        stored = store.values(index).astype(np.float32) * entry.slope + entry.intercept
        values, affine = geometry.to_canonical(stored, np.array(entry.affine))
    fill = float(np.nanmin(values))
    return geometry.resample_to_grid(values, affine, _shape(grid[0]), grid[1], order=1, fill=fill), grid[1]


def _shape(values: npt.NDArray[Any]) -> tuple[int, int, int]:
    z, y, x = values.shape
    return z, y, x
