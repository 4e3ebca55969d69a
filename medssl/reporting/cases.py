"""The best, the median and the worst case of a run, drawn in the geometry of their source files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import DataError, MedSSLError
from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.formats.label_image import Grid, image_of_label
from medssl.formats.label_map import label_of
from medssl.formats.reading import read
from medssl.pool import isolated
from medssl.reporting.material import Material
from medssl.reporting.pictures import Plane, Volume, cut_planes, focus_of, grey_levels, named_planes
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

    path = folder / SCORES
    if not path.is_file():
        return [], f"{SCORES} is not beside scores.json"
    try:
        frame = ScoreTable.read(path).frame
    except DataError as error:
        return [], str(error)
    own = frame.filter((pl.col("run") == run) & (pl.col("metric") == "dice") & pl.col("value").is_finite())
    rows = own.select("item", "target", "value").rows()
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
    images, label_path = sources
    guess_path = _prediction(case.id, run, folder, folder, material)
    if guess_path is None:
        return [], f"its prediction is not in {run}"
    try:
        guess = _canonical(guess_path)
        truth = _on_grid(_truth(case.id, label_path, images[0], material), guess)
        shown = [_image(case.id, image, guess, material) for image in images]
    except (MedSSLError, OSError, ValueError) as error:
        return [], str(error)
    masks = [truth, guess[0]]
    other_path = _prediction(case.id, compared, None, folder, material) if compared else None
    if other_path is not None:
        try:
            masks.append(_on_grid(_canonical(other_path), guess))
        except (MedSSLError, OSError, ValueError):
            other_path = None  # the compared contour is an extra; the case is shown without it
    focus = focus_of(masks[:2], geometry.spacing_mm(guess[1]))
    if focus is None:
        return [], "neither truth nor prediction marks anything"
    planes: list[Plane] = []
    for image, (values, affine) in zip(images, shown, strict=True):
        levels = grey_levels(values, hounsfield=image.modality == "CT")
        volume = Volume(values, geometry.spacing_mm(affine), *levels)
        cut = cut_planes(volume, focus[0], masks=masks, view=focus[1])
        planes += named_planes(cut, image.channel) if image.channel else cut
    return planes, ""


@dataclass(frozen=True)
class _Image:
    """A file to draw: the files of a series where it is one, and which channel of its case it is, "" for the only."""

    path: Path
    series: tuple[Path, ...] = ()
    modality: str = ""
    channel: str = ""
    place: int = 0


def _sources(case: str, material: Material) -> tuple[list[_Image], Path] | None:
    """Return the images of a case, one a channel that it has, and its label."""
    found = _entry(case, material)
    entry = found[0] if found is not None else None
    files = material.files_of(case) if entry is not None else None
    if entry is not None and files is not None and entry.more and files.label is not None:
        channels = [(number, c) for number, c in enumerate(entry.channels) if c.present and c.name in files.images]
        images = [
            _Image(files.images[c.name], files.series.get(c.name, ()), c.modality, c.name, n) for n, c in channels
        ]
        return images, files.label
    for manifest in material.manifests.values():
        for row in manifest.rows():
            if row["id"] == case and row["label_path"]:
                listed = tuple(Path(p) for p in row["paths"] or ())
                return [_Image(Path(row["path"]), listed, row["modality"] or "")], Path(row["label_path"])
    if entry is None or files is None or files.label is None:
        return None
    image = _Image(files.images[files.first], files.series.get(files.first, ()), entry.modality)
    return [image], files.label


def _truth(case: str, label: Path, image: _Image, material: Material) -> tuple[npt.NDArray[Any], geometry.Affine]:
    """Return the label of a case in canonical axes, read as the store reads it; what is not known is background."""
    if not label.exists():
        raise DataError(f"{label.name} no longer exists")
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
    header = isolated(partial(image_of_label, paths=image.series, grid=grid), label, image.path)
    frame = frame if header is not None and header.frames > 1 else 0
    read_as = isolated(partial(label_of, classes=classes, ignored=ignored, frame=frame), label, header)
    turned, affine = geometry.to_canonical(np.maximum(read_as.values, 0).astype(np.int16), read_as.header.affine)
    return turned, affine


def _entry(case: str, material: Material) -> tuple[Entry, Any, int] | None:
    for store in material.stores.values():
        for index, entry in enumerate(store.entries):
            if entry.id == case:
                return entry, store, index
    return None


def _prediction(case: str, run: str | None, folder: Path | None, near: Path, material: Material) -> Path | None:
    record = material.run_of(run, near=near) if run else None
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
        raise DataError(f"{path.name} no longer exists")
    label = isolated(label_of, path, None)
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
    case: str, image: _Image, grid: tuple[npt.NDArray[Any], geometry.Affine], material: Material
) -> tuple[npt.NDArray[Any], geometry.Affine]:
    """Return the image on the grid of the prediction: from its source file, else from the store."""
    if image.path.exists() and image.path != Path():
        scan = isolated(partial(read, paths=image.series), image.path)
        values, affine = geometry.to_canonical(scan.values, scan.header.affine)
        if values.shape == grid[0].shape and np.allclose(affine, grid[1], atol=1e-2):
            return values, grid[1]
        values = np.asarray(values, dtype=np.float32)
    else:
        found = _entry(case, material)
        if found is None:
            raise DataError("the scan itself no longer exists")
        entry, store, index = found
        channel = entry.channels[image.place]
        stored = store.values(index, image.place).astype(np.float32) * channel.slope + channel.intercept
        values, affine = geometry.to_canonical(stored, np.array(entry.affine))
    fill = float(np.nanmin(values))
    return geometry.resample_to_grid(values, affine, _shape(grid[0]), grid[1], order=1, fill=fill), grid[1]


def _shape(values: npt.NDArray[Any]) -> tuple[int, int, int]:
    z, y, x = values.shape
    return z, y, x
