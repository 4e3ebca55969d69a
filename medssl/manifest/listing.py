"""A plain CSV that lists scans: one column of paths, and whatever else is known."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from medssl.errors import ManifestError
from medssl.formats.table import format_of
from medssl.manifest.picture_folders import stacks_of
from medssl.manifest.rules.owners import owners_of
from medssl.manifest.sources import Found, Source, modality_of_name

__all__ = ["found_in_csv"]

_COLUMNS = {
    "path": ("path", "image", "scan", "file", "filename", "img", "image_path", "filepath"),
    "label": ("label", "label_path", "mask", "seg", "segmentation", "gt"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id", "participant_id", "case"),
    "study": ("study", "session", "visit", "study_id"),
    "modality": ("modality",),
    "channel": ("channel", "contrast", "sequence"),
    "split": ("split", "set", "subset"),
}
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
           "test": "test", "testing": "test", "": ""}  # fmt: skip


def found_in_csv(path: Path, is_cloud: Callable[[Path], bool] = lambda _: False) -> Found:
    """Return the scans and clouds that a CSV lists. Paths are taken as seen from the CSV's folder.

    Args:
        path: The CSV; comma, semicolon or tab; the first row names the columns.
        is_cloud: Tells clouds, whose scenes `clouds.listed_clouds` finds, from scans, whose patients are found here.

    Raises:
        ManifestError: It has no column of paths, or a split of an unknown name.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read as text ({error}). Save it as CSV in UTF-8.") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max(",;\t", key=first.count))
    heads = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
    column = {key: next((heads[n] for n in names if n in heads), None) for key, names in _COLUMNS.items()}
    if column["path"] is None:
        found = ", ".join(heads) or "nothing"
        raise ManifestError(
            f"{path}: no column of paths. Found: {found}. Allowed names: {', '.join(_COLUMNS['path'])}."
        )

    def cell(row: dict[str, str], key: str) -> str:
        name = column[key]
        return (row.get(name) or "").strip() if name is not None else ""

    sources, seen = [], set()
    for number, row in enumerate(reader, start=2):
        if not cell(row, "path") or cell(row, "path") in seen:
            continue
        seen.add(cell(row, "path"))
        split = cell(row, "split").lower()
        if split not in _SPLITS:
            raise ManifestError(f"{path}, row {number}: unknown split '{split}'. Allowed: train, val, test, or empty.")
        scan, label = _absolute(path.parent, cell(row, "path")), cell(row, "label")
        sources.append(
            Source(
                path=scan,
                kind="cloud" if scan.exists() and is_cloud(scan) else "volume",
                paths=_slices(scan),
                relative=cell(row, "path").replace("\\", "/").removeprefix("./"),
                label_path=_absolute(path.parent, label) if label else None,
                modality=modality_of_name(cell(row, "modality")) or cell(row, "modality").upper(),
                patient=cell(row, "patient"),
                patient_rule="given" if cell(row, "patient") else "",
                study=cell(row, "study"),
                channel=cell(row, "channel"),
                split=_SPLITS[split],
                error=None if scan.exists() else "The list names this file, and it is not there.",
            )
        )
    sources = _with_owners(sources)
    used = {name for name in column.values() if name is not None}
    ignored = [name for name in heads.values() if name not in used]
    notes = (f"Columns of {path.name} that were not used: {', '.join(ignored)}.",) if ignored else ()
    return Found(sources=tuple(sources), notes=notes, layout="csv")


def _with_owners(sources: list[Source]) -> list[Source]:
    """Guess from the names what the columns do not say of patients, visits and contrasts."""
    owners = owners_of(source.relative for source in sources if source.kind == "volume")
    result = []
    for source in sources:
        if source.kind == "cloud":
            result.append(source)
            continue
        owner = owners[source.relative]
        result.append(
            replace(
                source,
                patient=source.patient or owner.patient,
                patient_rule=source.patient_rule or owner.rule,
                study=source.study or owner.study,
                channel=source.channel or owner.channel,
            )
        )
    return result


def _slices(scan: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder that are slices of one scan, in their order; none where it is no such folder."""
    if not scan.is_dir():
        return ()
    pictures = [path for path in sorted(scan.iterdir()) if path.is_file() and format_of(path) == "image"]
    stacks, _ = stacks_of(pictures, scan, "stacks")
    return stacks[0].slices if len(stacks) == 1 else ()


def _absolute(folder: Path, name: str) -> Path:
    return (folder / name).resolve() if not Path(name).is_absolute() else Path(name)
