"""Classes of patients and scans (a diagnosis, a grade) from a table into the rows of a manifest.

A target is a word by name: ``{"diagnosis": "DCM"}``. Columns that could name a person, dates, free text and
measurements are no classes and never get in; of lines that fit no scan only the numbers are told, for their cells may
be names.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medssl.errors import ConfigError, ManifestError, did_you_mean
from medssl.formats.privacy import hashed
from medssl.manifest.patients import patient_key
from medssl.manifest.sources import stem

__all__ = ["TargetReport", "add_targets", "names_no_patient", "read_table", "targets_of"]

MOST_CLASSES = 30
_LONGEST_WORD = 48
_MISSING = {"", "na", "n/a", "nan", "none", "null", "?", "-", "unknown", "not available", "missing"}
_IDENTIFYING = re.compile(
    r"name|birth|\bdob\b|address|street|\bcity\b|phone|e-?mail|\bmrn\b|\bssn\b|insurance|accession|postal|\bzip\b|"
    r"physician|doctor|hospital|institution|date|time\b|comment|note|remark",
    re.I,
)
_STRUCTURAL = {"split", "set", "subset", "fold", "path", "image", "scan", "file", "filename", "label_path", "mask"}
_DATE = re.compile(r"^\d{1,4}[-./]\d{1,2}[-./]\d{1,4}$|^(19|20)\d{6}$")
_FORBIDDEN = "may name or date a person"


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """What became of a table of targets.

    Attributes:
        file: Name of the table.
        key: The column that names patients or scans.
        by: "patient" or "scan": what its cells name.
        taken: Target -> class -> patients who have it.
        left_out: Column -> why it holds no classes.
        matched: Scans that got a target.
        bare: Ids of readable scans that the table says nothing of.
        strangers: Numbers of lines that fit no scan, the head being line 1.
        conflicts: Target -> patients of whom the table says several things; they get none.
    """

    file: str
    key: str
    by: str
    taken: dict[str, dict[str, int]]
    left_out: dict[str, str]
    matched: int
    bare: tuple[str, ...]
    strangers: tuple[int, ...]
    conflicts: dict[str, int]

    def lines(self) -> list[str]:
        """Return the report as sentences."""
        said = [f"targets of {self.file}, matched by '{self.key}' ({self.by}s): {self.matched} scans"]
        for name, classes in self.taken.items():
            counts = ", ".join(f"{label} {count}" for label, count in classes.items())
            said.append(f"  {name}: {sum(classes.values())} patients ({counts})")
        if self.left_out:
            said.append("  left out: " + "; ".join(f"{column} ({why})" for column, why in self.left_out.items()))
        return said

    def doubts(self) -> list[str]:
        """Return what a user should look at."""
        said = []
        if self.bare:
            shown = ", ".join(self.bare[:5]) + (", ..." if len(self.bare) > 5 else "")
            said.append(f"{self.file}: {len(self.bare)} scans have no target ({shown})")
        if self.strangers:
            shown = ", ".join(map(str, self.strangers[:8])) + (", ..." if len(self.strangers) > 8 else "")
            said.append(f"{self.file}: {len(self.strangers)} lines fit no scan (lines {shown})")
        for name, count in self.conflicts.items():
            said.append(f"{self.file}: {name} differs between lines of one {self.by} for {count}; they get none")
        return said


def targets_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the targets of a manifest's row; empty where it has none."""
    return dict(json.loads(row.get("targets") or "{}"))


def add_targets(
    rows: Sequence[dict[str, Any]], path: Path, *, key: str = "", columns: Mapping[str, str] | None = None
) -> TargetReport:
    """Put the classes of a table into rows, in place.

    The key is the column whose cells fit the most scans: by id, file name or path, or by patient (in the spelling of
    the manifest, in the one that `patient_key` makes a key of, or as the number of a DICOM patient).

    Args:
        rows: Rows of a manifest, with their ids and patients.
        path: A CSV or TSV whose first line names the columns.
        key: The column that names patients or scans; found when empty.
        columns: Target -> column. Where empty, every column that holds classes gives a target of its own name.

    Raises:
        ManifestError: The table cannot be read, no column fits a scan, or none holds classes.
        ConfigError: A column that is asked for is not there, or must not or cannot be taken.
    """
    heads, lines = read_table(path)
    for name in [key, *(columns or {}).values()]:
        if name and name not in heads:
            raise ConfigError(f"{path}: there is no column '{name}'. {did_you_mean(name, heads)}")
    scans, patients = _names(rows)
    found = {head: _fits(lines, head, scans, patients) for head in ([key] if key else heads)}
    best = max(found, key=lambda head: len({row for _, fitting in found[head].values() for row in fitting}))
    fits = found[best]
    if not any(fitting for _, fitting in fits.values()):
        raise ManifestError(
            f"{path}: no column names a scan or a patient of the manifest. Columns: {', '.join(heads)}. "
            "Keys are ids, file names or patients as in the manifest; name the column with targets_key=COLUMN."
        )
    by = Counter(kind for kind, fitting in fits.values() if fitting).most_common(1)[0][0]
    chosen, left_out = _chosen(path, lines, [head for head in heads if head != best], dict(columns or {}))
    taken, conflicts = _give(rows, lines, fits, chosen)
    good = [row for row in rows if not row.get("error")]
    touched = {row for _, fitting in fits.values() for row in fitting}
    return TargetReport(
        file=path.name,
        key=best,
        by=by,
        taken=taken,
        left_out=left_out,
        matched=len([row for place, row in enumerate(rows) if place in touched and not row.get("error")]),
        bare=tuple(row["id"] for row in good if not targets_of(row)),
        strangers=tuple(number for number, (_, fitting) in fits.items() if not fitting),
        conflicts=conflicts,
    )


def read_table(path: Path) -> tuple[list[str], dict[int, dict[str, str]]]:
    """Return the heads of a CSV or TSV, and the cells of every line by its number, the head being line 1.

    Raises:
        ManifestError: It cannot be read, or has too few columns or lines.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read as text ({error}). Save it as CSV in UTF-8.") from error
    content = text.splitlines()
    first = content[0] if content else ""
    reader = csv.reader(content, delimiter=max(",;\t", key=first.count))
    heads = [head.strip() for head in next(reader, [])]
    lines = {}
    for cells in reader:
        if any(cell.strip() for cell in cells):
            lines[reader.line_num] = dict(zip(heads, [cell.strip() for cell in cells], strict=False))
    if len(heads) < 2 or not lines:
        raise ManifestError(
            f"{path}: a table of targets has a first line of column names, and a key and classes in the lines below. "
            f"Found: {len(heads)} columns and {len(lines)} lines."
        )
    return heads, lines


def names_no_patient(head: str) -> bool:
    """Tell whether a column is, by its name, no key of patients: a split, a file, a date.

    Example:
        >>> names_no_patient("split"), names_no_patient("patient_id")
        (True, False)
    """
    return head.lower() in _STRUCTURAL or bool(_IDENTIFYING.search(head.replace("_", " ")))


def _names(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return the rows that each name of a scan, and each name of a patient, stands for."""
    scans: defaultdict[str, list[int]] = defaultdict(list)
    patients: defaultdict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        file = PurePosixPath(str(row["path"]).replace("\\", "/"))
        for name in {row["id"].lower(), file.name.lower(), stem(file.name).lower(), str(file).lower()}:
            scans[name].append(place)
        patients[(row["patient"] or row["id"]).lower()].append(place)
    return dict(scans), dict(patients)


def _fits(
    lines: Mapping[int, Mapping[str, str]], head: str, scans: Mapping[str, list[int]], patients: Mapping[str, list[int]]
) -> dict[int, tuple[str, list[int]]]:
    """Return what the cell of every line names: ("scan" or "patient", rows)."""
    fits = {}
    for number, line in lines.items():
        cell = line.get(head, "")
        name = PurePosixPath(cell.replace("\\", "/")).name
        as_patient = [cell, patient_key(cell) if cell else "", hashed(cell) if cell else ""]
        of_patient = next((patients[p.lower()] for p in as_patient if p and p.lower() in patients), [])
        of_scan = next((scans[s.lower()] for s in (cell, name, stem(name)) if s and s.lower() in scans), [])
        # a name that stands for both is the patient's: their other scans share it
        fits[number] = ("patient", of_patient) if len(of_patient) >= len(of_scan) else ("scan", of_scan)
    return fits


def _chosen(
    path: Path, lines: Mapping[int, Mapping[str, str]], heads: Sequence[str], columns: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return target -> column, and column -> why it is left out."""
    why = {head: _no_classes(head, [line.get(head, "") for line in lines.values()]) for head in heads}
    if columns:
        for target, head in columns.items():
            reason = why.get(head, "it is the key")
            if reason:
                raise ConfigError(f"{path}: '{head}' cannot be the target '{target}': {reason}.")
        return dict(columns), {head: "not asked for" for head in heads if head not in columns.values()}
    chosen = {head: head for head in heads if not why[head]}
    if not chosen:
        listed = "; ".join(f"{head} ({reason})" for head, reason in why.items())
        raise ManifestError(f"{path}: no column holds classes: {listed}. Classes are 2 to {MOST_CLASSES} short words.")
    return chosen, {head: reason for head, reason in why.items() if reason}


def _no_classes(head: str, cells: Sequence[str]) -> str:
    """Return why a column holds no classes, "" where it does."""
    known = [cell for cell in cells if cell.lower() not in _MISSING]
    different = set(known)
    if _IDENTIFYING.search(head.replace("_", " ")) or any(_DATE.match(cell) for cell in different):
        return _FORBIDDEN
    if head.lower() in _STRUCTURAL:
        return "it is no property of a patient"
    if len(different) < 2:
        return "it has fewer than two values"
    if len(different) > min(MOST_CLASSES, max(2, len(known) // 2)):
        return f"it has {len(different)} values in {len(known)} lines"
    if max(map(len, different)) > _LONGEST_WORD:
        return "it holds free text"
    return ""


def _give(
    rows: Sequence[dict[str, Any]],
    lines: Mapping[int, Mapping[str, str]],
    fits: Mapping[int, tuple[str, list[int]]],
    chosen: Mapping[str, str],
) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    taken, conflicts = {}, {}
    for target, head in chosen.items():
        said: defaultdict[int, set[str]] = defaultdict(set)
        for number, (_, fitting) in fits.items():
            cell = lines[number].get(head, "")
            if cell.lower() not in _MISSING:
                for place in fitting:
                    said[place].add(cell)
        patients: dict[str, str] = {}
        torn = set()
        for place, words in said.items():
            row = rows[place]
            if len(words) > 1:
                torn.add(row["patient"] or row["id"])
                continue
            row["targets"] = json.dumps({**targets_of(row), target: next(iter(words))}, sort_keys=True)
            patients[row["patient"] or row["id"]] = next(iter(words))
        taken[target] = dict(sorted(Counter(patients.values()).items()))
        if torn:
            conflicts[target] = len(torn)
    return taken, conflicts
