"""Label maps that predictions are compared with: which file, what its values mean, and how it is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl import formats, geometry
from medssl.errors import DataError, FormatError, UnfitError
from medssl.evaluation.overlap import LabelMap
from medssl.formats.label_image import Grid, image_of_label
from medssl.formats.label_map import label_of
from medssl.manifest.label_doubts import case_of, counts_of, stray_values
from medssl.nameless import nameless_job
from medssl.pool import isolated
from medssl.regions import Region

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = [
    "Meaning",
    "Reference",
    "Truth",
    "grid_difference",
    "read_labels",
    "read_reference",
    "read_truth",
    "refuse_unknown",
    "scans_in",
    "without_names",
]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What the values of a cohort's label files mean.

    Attributes:
        classes: Value -> name, the background included where it is named; empty where nothing says so.
        ignored: Values that say "not known".
        regions: Unions of values that are scored in place of single ones.
        accept: Faults of labels that the store took all the same, see `medssl.store.accepting`.
        frame: Which frame of 4D images the store holds.
    """

    classes: Mapping[int, str] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    accept: tuple[str, ...] = ()
    frame: int = 0


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The label map of one case.

    Attributes:
        case: The scan's id.
        patient: Key of the patient.
        split: "train", "val", "test" or "".
        path: The label file in its source geometry.
        image: The scan; None where it is not known.
        files: The files of a series or a stack that the scan is made of.
        grid: Shape (z, y, x) and affine of the scan as it was stored; None where no store says so.
        meaning: What the values of the file mean.
    """

    case: str
    patient: str
    split: str
    path: Path
    image: Path | None = None
    files: tuple[Path, ...] = ()
    grid: Grid | None = None
    meaning: Meaning = field(default_factory=Meaning)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The cases that predictions are compared with.

    Attributes:
        truths: One for each labelled case.
        classes: Name of each structure by its label value, without the background; empty where unknown.
        by_patient: Whether patients are known; where not, every case counts as a patient of its own.
        regions: Unions of values that are scored in place of single ones.
        refused: Cases whose label the store refused, with the reason; they are not scored.
        cases: Case -> the scans that are its channels, in their order, where a manifest has cases of several.
    """

    truths: tuple[Truth, ...]
    classes: Mapping[int, str]
    by_patient: bool = True
    regions: tuple[Region, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    cases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def named_as(self, predicted: Collection[str]) -> Reference:
        """Return one truth a case where predictions are named after cases of several channels, not after scans."""
        if not self.cases.keys() & set(predicted):
            return self
        case_of = {scan: case for case, scans in self.cases.items() for scan in scans}
        of_scan = {truth.case: truth for truth in self.truths}
        found: dict[str, Truth] = {}
        for truth in self.truths:
            case = case_of.get(truth.case, truth.case)
            # Of the first channel, on whose grid the case's label lies.
            lead = next((of_scan[scan] for scan in self.cases.get(case, ()) if scan in of_scan), truth)
            found.setdefault(case, replace(lead, case=case))
        return replace(self, truths=tuple(found.values()))

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
        from medssl.store.sources import files_of_store, no_files

        index = read_index(data)
        files = files_of_store(data, index)
        meaning = Meaning(
            classes=index.classes,
            ignored=index.ignored,
            regions=index.regions,
            accept=tuple(index.settings.get("accept", ())),
            frame=int(index.settings.get("frame", 0)),
        )
        truths = [
            Truth(
                case=entry.id,
                patient=entry.patient or entry.id,
                split=entry.split,
                path=label,
                image=found_files.images[found_files.first],
                grid=(entry.source_shape, entry.source_affine),
                meaning=meaning,
            )
            for entry in index.entries
            if (found_files := files.get(entry.id)) and (label := found_files.label)
        ]
        if len(truths) < sum(entry.label_file is not None for entry in index.entries):
            raise no_files(data, index)
        splits = {entry.id: entry.split for entry in index.entries}
        found = Reference(
            truths=tuple(truths),
            classes=_foreground(index.classes),
            regions=index.regions,
            refused={case: why for case, why in index.refused_labels.items() if case in splits},
        )
    elif data.suffix in (".parquet", ".csv"):
        from medssl.manifest.channel_cases import cases_of
        from medssl.manifest.schema import read_manifest

        manifest = read_manifest(data)
        rows = list(manifest.labelled().rows())
        meaning = Meaning(classes=_named(manifest, rows), ignored=manifest.ignored, regions=manifest.regions)
        truths = [
            Truth(
                case=r["id"],
                patient=r["patient"] or r["id"],
                split=r["split"] or "",
                path=Path(r["label_path"]),
                image=Path(r["path"]),
                files=tuple(Path(p) for p in r["paths"] or ()),
                meaning=meaning,
            )
            for r in rows
        ]
        order, groups = cases_of(rows, manifest.settings.get("channels", ()))
        found = Reference(
            truths=tuple(truths),
            classes=_foreground(meaning.classes),
            regions=manifest.regions,
            cases={group.id: tuple(row["id"] for n in order for row in group.rows.get(n, ())) for group in groups},
        )
    elif data.is_dir():
        truths = [Truth(case=case, patient=case, split="", path=path) for case, path in sorted(scans_in(data).items())]
        found = Reference(truths=tuple(truths), classes={}, by_patient=False)
    else:
        raise DataError(
            f"{data}: predictions are compared with a store, a manifest (.parquet, .csv) or a folder of label maps. "
            "It is none of these. Name one with --data."
        )
    if not found.truths:
        raise DataError(f"{data}: no scan has a label map. Index the scans together with their labels.")
    return found


def without_names(reference: Reference, case: str, reason: str) -> str:
    """Return why a case could not be scored without the names of its files, for what is kept."""
    own = [truth for truth in reference.truths if truth.case == case]
    paths = [path for truth in own for path in (truth.path, truth.image, *truth.files) if path and path != Path()]
    return nameless_job(case, map(str, paths)).text(reason)


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


def read_truth(truth: Truth) -> tuple[LabelMap, geometry.Affine]:
    """Return the label map of a case in canonical axes, read as the store reads it, and its affine.

    Voxels that the data set says to ignore, and what the store was told to take for "not known", are -1.

    Raises:
        FormatError: It cannot be read, or holds values that the data set knows nothing of.
    """
    meaning, path = truth.meaning, truth.path
    if not path.exists():
        raise FormatError(path, "The label map does not exist. Was it moved since the manifest was made?")
    image = isolated(partial(image_of_label, paths=truth.files, grid=truth.grid), path, truth.image)
    frame = meaning.frame if image is not None and image.frames > 1 else 0
    understood = partial(label_of, classes=meaning.classes, ignored=meaning.ignored, frame=frame)
    label = isolated(understood, path, image)
    values = label.values
    if label.lowest < -1 or (label.lowest < 0 and "label-negative" in meaning.accept):
        values = np.maximum(values, -1)
    unknown = _unknown(values, meaning)
    if unknown and "label-stray" in meaning.accept:
        values = np.where(np.isin(values, unknown), -1, values.astype(np.int32))
    elif unknown:
        raise UnfitError(
            path,
            f"The label holds {unknown[:5]}, which the data does not name ({_listed(meaning)}). Fix the label, "
            "or make the store again with `medssl cache`.",
            "label-stray",
        )
    return _turned(values, label.header.affine)


def read_labels(path: Path, meaning: Meaning | None = None) -> tuple[LabelMap, geometry.Affine]:
    """Return a label map, such as a prediction, turned to canonical axes, so that axis orders compare, and its affine.

    Args:
        path: The file.
        meaning: What its values mean, where that is known: others are refused.

    Raises:
        FormatError: If it cannot be read, or holds anything but whole numbers that are known.
    """
    if not path.exists():
        raise FormatError(path, "The label map does not exist. Was it moved since the manifest was made?")
    meaning = meaning or Meaning()
    label = isolated(partial(label_of, classes=meaning.classes), path, None)
    return _turned(label.values, label.header.affine)


def refuse_unknown(values: LabelMap, meaning: Meaning, path: Path) -> None:
    """Refuse a prediction that holds values which the data does not name.

    Raises:
        UnfitError: It does; says which.
    """
    unknown = _unknown(values, meaning)
    if unknown:
        raise UnfitError(
            path,
            f"The prediction holds {unknown[:5]}, which the data does not name ({_listed(meaning)}). Was the run "
            "fitted on another store?",
            "class-unknown",
        )


def _unknown(values: LabelMap, meaning: Meaning) -> list[int]:
    """Return the values above 0 that the data set does not name; none where it names nothing."""
    known = {*meaning.classes, *meaning.ignored, *(region.written for region in meaning.regions)}
    if not any(value > 0 for value in known):
        return []
    return [int(value) for value in np.unique(values) if value > 0 and int(value) not in known]


def _listed(meaning: Meaning) -> str:
    named = [f"{value} {name}" for value, name in sorted(meaning.classes.items()) if value > 0]
    return ", ".join(named[:8]) + (", ..." if len(named) > 8 else "")


def _named(manifest: Manifest, rows: list[dict[str, Any]]) -> dict[int, str]:
    """Return the classes as a store of this manifest would have them."""
    counts = counts_of(rows)
    strays = stray_values(counts, manifest.classes, case_of(rows))
    seen = {value for values in counts.values() for value in values if value > 0 and value not in strays}
    return {value: f"structure {value}" for value in sorted(seen)} | manifest.classes


def _turned(values: LabelMap, affine: geometry.Affine) -> tuple[LabelMap, geometry.Affine]:
    turned, canonical = geometry.to_canonical(values, affine)
    labels: LabelMap = np.ascontiguousarray(turned).astype(values.dtype, copy=False)
    return labels, canonical


def scans_in(folder: Path) -> dict[str, Path]:
    """Return the scans and label maps of a folder by file name without suffix."""
    return {
        path.name.split(".nii")[0] if ".nii" in path.name else path.stem: path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and formats.is_scan_name(path)
    }


def _foreground(classes: Mapping[int, str]) -> dict[int, str]:
    return {value: name for value, name in sorted(classes.items()) if value > 0}
