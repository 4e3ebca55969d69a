"""A plain CSV that lists scans: one column of paths, and whatever else is known."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medssl.errors import ManifestError
from medssl.formats.table import format_of
from medssl.local_places import remote_fault
from medssl.manifest.picture_folders import stacks_of
from medssl.manifest.rules.channels import body_of
from medssl.manifest.rules.owners import owners_of
from medssl.manifest.sources import Found, Source, modality_of_name

__all__ = ["SPLIT_NAMES", "found_in_csv"]

_COLUMNS = {
    "path": ("path", "image", "scan", "file", "filename", "img", "image_path", "filepath"),
    "label": ("label", "label_path", "mask", "seg", "segmentation", "gt"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id", "participant_id", "case"),
    "study": ("study", "session", "visit", "study_id"),
    "modality": ("modality",),
    "channel": ("channel", "contrast", "sequence"),
    "split": ("split", "set", "subset"),
    "case": ("case", "case_id"),
}
_ONE_EACH = re.compile(r"(?:image|path|scan|file)_(.+)")  # image_t1, image_t2: a channel a column
_ABSENT = "The list names this file, and it is not there."
SPLIT_NAMES = {  # what tables and folders call a split -> its name here
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "": "",
}


def found_in_csv(path: Path, is_cloud: Callable[[Path], bool] = lambda _: False) -> Found:
    """Return the scans and clouds that a CSV lists. Paths are taken as seen from the CSV's folder.

    A row is a scan; rows of one ``case`` are its channels where a column ``channel`` names them. Or a row is a case,
    with a column for each channel (``image_t1``, ``image_t2``).

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
    column, wide = _meanings(heads)
    if column["path"] is None and not wide:
        found = ", ".join(heads) or "nothing"
        raise ManifestError(
            f"{path}: no column of paths. Found: {found}. Allowed names: {', '.join(_COLUMNS['path'])}."
        )

    def cell(row: Mapping[str, str], key: str) -> str:
        name = column[key]
        return (row.get(name) or "").strip() if name is not None else ""

    def images(row: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return (path, channel) of each image of a row."""
        if not wide:
            return [(cell(row, "path"), cell(row, "channel"))]
        return [(value, name) for name, head in wide.items() if (value := (row.get(head) or "").strip())]

    sources, seen = [], set()
    for number, row in enumerate(reader, start=2):
        split = cell(row, "split").lower()
        if split not in SPLIT_NAMES:
            raise ManifestError(f"{path}, row {number}: unknown split '{split}'. Allowed: train, val, test, or empty.")
        label = cell(row, "label")
        patient = cell(row, "patient") or cell(row, "case")  # a case is of one patient
        for image, channel in images(row):
            if not image or image in seen:
                continue
            seen.add(image)
            scan = _absolute(path.parent, image)
            sources.append(
                Source(
                    path=scan,
                    kind="cloud" if scan.exists() and is_cloud(scan) else "volume",
                    paths=_slices(scan),
                    relative=image.replace("\\", "/").removeprefix("./"),
                    label_path=_absolute(path.parent, label) if label else None,
                    modality=modality_of_name(cell(row, "modality")) or cell(row, "modality").upper(),
                    patient=patient,
                    patient_rule="given" if patient else "",
                    study=cell(row, "study"),
                    channel=channel,
                    case=cell(row, "case") or (f"row-{number}" if wide else ""),
                    split=SPLIT_NAMES[split],
                    error=None if scan.exists() else _absence(image),
                )
            )
    sources = _with_owners(sources)
    if wide and column["case"] is None:
        sources = _named_after_images(sources)
    used = {name for name in [*column.values(), *wide.values()] if name is not None}
    ignored = [name for name in heads.values() if name not in used]
    notes = (f"Columns of {path.name} that were not used: {', '.join(ignored)}.",) if ignored else ()
    return Found(sources=tuple(sources), notes=notes, layout="csv", channels=tuple(wide))


def _absence(image: str) -> str:
    fault = remote_fault(image)
    return f"The list names what cannot be read here: {fault}" if fault else _ABSENT


def _meanings(heads: Mapping[str, str]) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return what is known -> its column, and channel -> its column of images."""
    column = {key: next((heads[n] for n in names if n in heads), None) for key, names in _COLUMNS.items()}
    wide = {match[1]: heads[n] for n in heads if n not in _COLUMNS["path"] and (match := _ONE_EACH.fullmatch(n))}
    wide = wide if column["path"] is None and len(wide) > 1 else {}
    if column["channel"] is None and not wide:
        column["case"] = None  # by itself it names the patient
    elif column["patient"] == column["case"]:
        column["patient"] = next((heads[n] for n in _COLUMNS["patient"] if n in heads and n != "case"), None)
    return column, wide


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
                body=body_of(owner),
            )
        )
    return result


def _named_after_images(sources: Sequence[Source]) -> list[Source]:
    """Name the cases of rows after the patient and visit of their first image; rows of one name stay apart."""
    names: dict[str, str] = {}
    for source in sources:
        if source.case not in names:
            name = "-".join(part for part in (source.patient, source.study) if part)
            names[source.case] = f"{name}-{source.case}" if name in names.values() else name
    firsts = {source.case: source for source in reversed(sources)}
    return [
        replace(
            source,
            case=names[source.case],
            patient=firsts[source.case].patient,
            patient_rule=firsts[source.case].patient_rule,
        )
        for source in sources
    ]


def _slices(scan: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder that are slices of one scan, in their order; none where it is no such folder."""
    if not scan.is_dir():
        return ()
    pictures = [path for path in sorted(scan.iterdir()) if path.is_file() and format_of(path) == "image"]
    stacks, _ = stacks_of(pictures, scan, "stacks")
    return stacks[0].slices if len(stacks) == 1 else ()


def _absolute(folder: Path, name: str) -> Path:
    return (folder / name).resolve() if not Path(name).is_absolute() else Path(name)
