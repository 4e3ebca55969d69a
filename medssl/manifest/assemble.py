"""From the facts of single scans to the rows of a manifest: modality, patient, id and split, which need the others."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from medssl.manifest.patients import patient_key
from medssl.manifest.scales import HU, NOT_HU, OFFSET, scale_of
from medssl.manifest.sources import Source, modality_of_name, stem
from medssl.manifest.split import split_patients
from medssl.manifest.targets import targets_of

__all__ = ["assemble", "give_splits"]

_SEEN = "seen"  # where the flags of the reader itself are kept, for a later run that does not read again
_CLUES = {"looks-like-ct", "ct-offset"}  # said of the voxels alone; told only where they mean something
_PLAIN_FOLDERS = {"imagestr", "images", "image", "img"}


def assemble(
    pairs: Sequence[tuple[Source, Mapping[str, Any]]], *, modality: str, pattern: re.Pattern[str] | None
) -> list[dict[str, Any]]:
    """Return the rows, without splits.

    Args:
        pairs: Every source and what `describe` said of it, or what an earlier manifest's row says.
        modality: What the user says all scans are; empty where they do not.
        pattern: The user's rule for patient keys.
    """
    rows = []
    for source, facts in pairs:
        row = dict(facts)
        fields: dict[str, str] = json.loads(row.get("fields") or "{}")
        seen = fields[_SEEN].split() if _SEEN in fields else list(row["flags"])
        fields[_SEEN] = " ".join(seen)
        row["fields"] = json.dumps(fields, sort_keys=True)
        flags = [*source.flags, *(flag for flag in seen if flag not in _CLUES)]
        if source.kind == "volume":
            row["modality"], guessed = _modality(source, fields, seen, modality)
            if guessed:
                flags.append("modality-inferred")
            elif row["modality"] == "unknown" and not row.get("error"):
                flags.append("modality-unknown")
            row["units"] = _units(row, fields, seen, flags)
        row["flags"] = sorted(set(flags))
        matched = pattern.search(source.relative) if pattern else None
        row["patient"] = (
            patient_key(source.relative, pattern=pattern)
            if matched
            else source.patient or fields.get("patient") or _key(source)
        )
        row["study"] = source.study or fields.get("study")
        row["series"] = fields.get("series")
        row["id"] = _identity(source, fields)
        row["split"] = source.split
        targets = {**targets_of(row), **dict(source.targets)}
        row["targets"] = json.dumps(targets, sort_keys=True) if targets else None
        rows.append(row)
    _tell_apart(rows, [source for source, _ in pairs])
    return sorted(rows, key=lambda row: str(row["id"]))


def give_splits(rows: list[dict[str, Any]], *, val: float, test: float, seed: int, known: Mapping[str, str]) -> None:
    """Fill in the split of every readable row, by patient; patients who share a scan share a split.

    What a data set states goes first (a patient with one scan in its test folder is a test patient), then what an
    earlier run gave, then the draw. Patients whose rows are clouds of one class are drawn class by class, so that no
    class is missed by chance.

    Args:
        rows: The rows; changed in place.
        val: Share of patients for validation.
        test: Share of patients for testing.
        seed: Seed of the draw.
        known: Patient -> split of an earlier run.
    """
    good = [row for row in rows if not row.get("error")]
    group_of = _groups(good)
    fixed = {group_of[patient]: split for patient, split in known.items() if patient in group_of}
    stated: dict[str, str] = {}
    for row in good:
        if row["split"]:
            stated.setdefault(group_of[row["patient"]], row["split"])
    kinds = _classes_of_clouds(good, group_of)
    drawn = split_patients(group_of.values(), val=val, test=test, seed=seed, fixed={**fixed, **stated}, kinds=kinds)
    for row in rows:
        row["split"] = "" if row.get("error") else row["split"] or drawn[group_of[row["patient"]]]


def _classes_of_clouds(rows: Sequence[Mapping[str, Any]], group_of: Mapping[str, str]) -> dict[str, str]:
    """Return the class of each group of patients all of whose rows are clouds of that class."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        targets = json.loads(row["targets"] or "{}") if row.get("kind") == "cloud" else {}
        only = next(iter(targets.values())) if len(targets) == 1 else ""
        found[group_of[row["patient"]]].add(str(targets.get("class", only)))
    return {patient: words.pop() for patient, words in found.items() if len(words) == 1}


def _groups(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return for each patient the first of those that share a scan with them: copies under two names stay together."""
    group_of = {row["patient"]: row["patient"] for row in rows}

    def first(patient: str) -> str:
        while group_of[patient] != patient:
            patient = group_of[patient]
        return patient

    owner: dict[str, str] = {}
    for row in rows:
        if row.get("content_hash") and "constant" not in row["flags"]:
            low, high = sorted((first(row["patient"]), first(owner.setdefault(row["content_hash"], row["patient"]))))
            group_of[high] = low
    return {patient: first(patient) for patient in group_of}


def _key(source: Source) -> str:
    """Return the patient that the name says. Clouds of many classes are often numbered within each: 0001 is no key."""
    key = patient_key(source.relative)
    if source.kind == "volume" or key != PurePosixPath(source.relative).name:
        return key
    return source.relative


def _modality(source: Source, fields: Mapping[str, str], seen: Sequence[str], given: str) -> tuple[str, bool]:
    """Return the modality, and whether it is a guess."""
    stated = fields.get("modality", "unknown")
    for known in (given, source.modality, "" if stated == "unknown" else stated):
        if known:
            return known, False
    if "looks-like-ct" in seen:
        return "CT", True
    name = modality_of_name(source.relative.split("/"))
    return (name, True) if name else ("unknown", False)


def _units(row: Mapping[str, Any], fields: Mapping[str, str], seen: Sequence[str], flags: list[str]) -> str:
    stated = fields.get("units", "arbitrary")
    if row["modality"] != "CT" or row.get("format") == "dicom" or stated == "HU":
        return stated if row["modality"] == "CT" else "arbitrary"
    scale = scale_of(row)
    if scale != HU or "ct-offset" in seen:
        flags.append("ct-offset" if "ct-offset" in seen or scale == OFFSET else NOT_HU)
        return "arbitrary"
    return "HU"  # a CT that is kept as NIfTI or the like is in HU by custom


def _identity(source: Source, fields: Mapping[str, str]) -> str:
    """Return a name for the scan that is safe as a file name. DICOM folders' names, often of people, stay out of it."""
    if fields.get("series"):
        return f"dicom-{fields.get('patient', 'unknown')[:8]}-{fields['series'][:8]}"
    path = PurePosixPath(source.relative)
    parts = [part for part in path.parts[:-1] if part.lower() not in _PLAIN_FOLDERS]
    name = stem(path.name)
    # patient001/patient001_frame01 needs its folder no second time.
    parts = [part for part in parts if not name.startswith(part)]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([*parts, name])).strip("-.") or "scan"


def _tell_apart(rows: list[dict[str, Any]], sources: Sequence[Source]) -> None:
    """Add a few digits of a hash to ids that several scans share, whatever order they came in."""
    # Case is ignored: on some file systems a.nii and A.nii would be one file of the store.
    counts = Counter(row["id"].lower() for row in rows)
    for row, source in zip(rows, sources, strict=True):
        if counts[row["id"].lower()] > 1:
            first = source.paths[0].name if source.paths else source.path.name if source.kind == "cloud" else ""
            row["id"] += "-" + hashlib.sha256(f"{source.relative}\0{first}".encode()).hexdigest()[:8]
