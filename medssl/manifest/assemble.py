"""From the facts of single scans to the rows of a manifest: modality, patient, id and split, which need the others."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from medssl.errors import ConfigError
from medssl.manifest.patients import patient_key
from medssl.manifest.scales import HU, NOT_HU, OFFSET, scale_of
from medssl.manifest.sources import Source, modality_of_name, stem
from medssl.manifest.split import split_patients
from medssl.manifest.targets import targets_of

__all__ = ["assemble", "give_splits", "target_to_spread"]

_SEEN = "seen"  # where the flags of the reader itself are kept, for a later run that does not read again
_CLUES = {"looks-like-ct", "ct-offset"}  # said of the voxels alone; told only where they mean something
_PLAIN_FOLDERS = {"imagestr", "images", "image", "img"}


def assemble(
    pairs: Sequence[tuple[Source, Mapping[str, Any]]],
    *,
    modality: str,
    pattern: re.Pattern[str] | None,
    table: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return the rows, without splits.

    Args:
        pairs: Every source and what `describe` said of it, or what an earlier manifest's row says.
        modality: What the user says all scans are; empty where they do not.
        pattern: The user's rule for patient keys.
        table: Scan, as seen from the root -> patient, that a table of targets names.
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
        row["patient"], row["patient_rule"] = _patient(source, fields, pattern, table or {})
        said = source.study if source.patient_rule == "given" else ""
        row["study"] = said or fields.get("study") or source.study or None
        if source.channel_rule:
            row["fields"] = json.dumps(
                fields | {"contrast": source.channel, "contrast_rule": source.channel_rule}, sort_keys=True
            )
        row["channel"], row["case"] = source.channel or fields.get("contrast", ""), source.case
        row["series"] = fields.get("series")
        row["id"] = _identity(source, fields)
        row["split"] = source.split
        targets = {**targets_of(row), **dict(source.targets)}
        row["targets"] = json.dumps(targets, sort_keys=True) if targets else None
        rows.append(row)
    _tell_apart(rows, [source for source, _ in pairs])
    return sorted(rows, key=lambda row: str(row["id"]))


def give_splits(
    rows: list[dict[str, Any]], *, val: float, test: float, seed: int, known: Mapping[str, str], stratify: str = ""
) -> None:
    """Fill in the split of every readable row, by patient; patients who share a scan share a split.

    What a data set states goes first (a patient with one scan in its test folder is a test patient), then what an
    earlier run gave, then the draw. Patients of one class of a target are drawn class by class, so that no class is
    missed by chance.

    Args:
        rows: The rows; changed in place.
        val: Share of patients for validation.
        test: Share of patients for testing.
        seed: Seed of the draw.
        known: Patient -> split of an earlier run.
        stratify: The target whose classes are spread evenly; "" takes the class of clouds alone, "none" nothing.
    """
    good = [row for row in rows if not row.get("error")]
    group_of = _groups(good)
    fixed = {group_of[patient]: split for patient, split in known.items() if patient in group_of}
    stated: dict[str, str] = {}
    for row in good:
        if row["split"]:
            stated.setdefault(group_of[row["patient"]], row["split"])
    kinds = {} if stratify == "none" else _classes(good, group_of, stratify)
    aside = _unlabelled_splits(good)
    # What a data set holds back without labels scores nothing: labelled patients are drawn as if it were not there.
    counted = [group for group in group_of.values() if stated.get(group) not in aside]
    drawn = {group: split for group, split in stated.items() if split in aside}
    drawn |= split_patients(counted, val=val, test=test, seed=seed, fixed={**fixed, **stated}, kinds=kinds)
    for row in rows:
        row["split"] = "" if row.get("error") else row["split"] or drawn[group_of[row["patient"]]]


def _unlabelled_splits(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the splits that a data set states and of which no scan has a label, where other scans have."""
    labelled = {row["split"] for row in rows if row.get("label_path")}
    return {row["split"] for row in rows if row["split"]} - labelled if labelled else set()


def target_to_spread(rows: Sequence[Mapping[str, Any]], asked: str) -> str:
    """Return the target whose classes of scans are spread over the splits: the asked one, or the only one there is.

    Raises:
        ConfigError: No scan has the asked target.
    """
    named = sorted({name for row in rows for name in targets_of(row)})
    if asked and asked not in {"none", *named}:
        listed = f"Targets: {', '.join(named)}." if named else "No scan has a target; give a table with --targets."
        raise ConfigError(f"stratify: there is no target '{asked}'. {listed} 'none' spreads none.")
    of_scans = sorted({name for row in rows if row.get("kind") != "cloud" for name in targets_of(row)})
    return asked or (of_scans[0] if len(of_scans) == 1 else "")


def _classes(rows: Sequence[Mapping[str, Any]], group_of: Mapping[str, str], target: str) -> dict[str, str]:
    """Return the class of each group of patients whose rows are all of that class; of scans, those that have one."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        targets = targets_of(row)
        only = next(iter(targets.values())) if len(targets) == 1 else ""
        if row.get("kind") == "cloud":
            found[group_of[row["patient"]]].add(str(targets.get(target or "class", only)))
        elif target in targets:
            found[group_of[row["patient"]]].add(str(targets[target]))
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


def _patient(
    source: Source, fields: Mapping[str, str], pattern: re.Pattern[str] | None, table: Mapping[str, str]
) -> tuple[str, str]:
    """Return the patient and the rule that gave the key: what somebody says goes before what names tell."""
    if pattern and pattern.search(source.relative):
        return patient_key(source.relative, pattern=pattern), "given"
    if source.kind == "cloud":
        return (source.patient, "folder") if source.patient else (_key(source), "name")
    if source.patient_rule == "given":
        return source.patient, "given"
    if source.relative in table:
        return table[source.relative], "table"
    if fields.get("patient"):
        return fields["patient"], "dicom"
    return source.patient or _key(source), source.patient_rule or "name"


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
        part = fields.get("part", "").partition("\t")[2]
        return f"dicom-{fields.get('patient', 'unknown')[:8]}-{fields['series'][:8]}" + (f"-{part}" if part else "")
    path = PurePosixPath(source.relative)
    parts = [part for part in path.parts[:-1] if part.lower() not in _PLAIN_FOLDERS]
    name = stem(path.name)
    # patient001/patient001_frame01 needs its folder no second time.
    parts = [part for part in parts if not _repeats(name, part)]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([*parts, name])).strip("-.") or "scan"


def _repeats(name: str, folder: str) -> bool:
    """Tell whether a name begins with its folder's: 000123 does not begin with 00."""
    return name.startswith(folder) and not name[len(folder) : len(folder) + 1].isalnum()


def _tell_apart(rows: list[dict[str, Any]], sources: Sequence[Source]) -> None:
    """Add a few digits of a hash to ids that several scans share, whatever order they came in."""
    # Case is ignored: on some file systems a.nii and A.nii would be one file of the store.
    counts = Counter(row["id"].lower() for row in rows)
    for row, source in zip(rows, sources, strict=True):
        if counts[row["id"].lower()] > 1:
            first = source.paths[0].name if source.paths else source.path.name if source.kind == "cloud" else ""
            row["id"] += "-" + hashlib.sha256(f"{source.relative}\0{first}".encode()).hexdigest()[:8]
    # Whatever the names were, no two scans share an id: the rest are counted, in an order that does not change.
    seen: set[str] = set()
    order = sorted(range(len(rows)), key=lambda place: (str(rows[place]["path"]), rows[place].get("item") or 0))
    for place in order:
        name, count = rows[place]["id"], 1
        while rows[place]["id"].lower() in seen:
            count += 1
            rows[place]["id"] = f"{name}-{count}"
        seen.add(rows[place]["id"].lower())
