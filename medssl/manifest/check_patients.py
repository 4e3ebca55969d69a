"""What `check` looks for in patients, labels and splits; each finding as (severity, kind, what, what to do)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from medssl.manifest.label_doubts import shared_labels
from medssl.manifest.rules.owners import GUESSES, owners_of
from medssl.manifest.rules.said import rule_lines

__all__ = ["aside_together", "patients_together"]

Row = Mapping[str, Any]
Doubt = tuple[str, str, str, str]

_SAY = "Set it: medssl index ... patient_pattern=REGEX, or a CSV with the columns path and patient."


def patients_together(rows: Sequence[Row], root: str = "") -> Iterator[Doubt]:
    """Yield what is doubtful about whose scans and labels are, and about the split.

    Args:
        rows: Readable rows of volumes.
        root: The folder that was indexed.
    """
    guessed = [row for row in rows if row["patient_rule"] in GUESSES]
    if guessed:
        what = "; ".join(line.partition(" (a guess")[0] for line in rule_lines(guessed))
        yield ("warning", "patient-guessed", f"patients are guessed: {what}", _SAY)
    yield from _torn(rows, root)
    yield from _shared_labels(rows)
    yield from _classes(rows)


def aside_together(rows: Sequence[Row]) -> Iterator[Doubt]:
    """Yield what was left out for being a label, a line for all.

    Args:
        rows: Rows that cannot be used.
    """
    orphans = [row for row in rows if "label-without-image" in row["flags"]]
    if orphans:
        yield (
            "warning",
            "label-without-image",
            f"{len(orphans)} label files have no image, such as {orphans[0]['path']}",
            "Put the images in place, or list scans and labels in a CSV.",
        )
    maps = [row for row in rows if "looks-like-labels" in row["flags"] and "set-aside" in row["flags"]]
    if maps:
        what = f"{len(maps)} files look like label maps and were set aside, such as {maps[0]['path']}"
        todo = "Name them like their images with _seg, or keep them as scans: medssl index ... label_maps=scan"
        yield ("warning", "label-map-aside", what, todo)


def _torn(rows: Sequence[Row], root: str) -> Iterator[Doubt]:
    """Yield folders and stems that names give to one patient and that lie in several splits all the same."""
    seen = [row for row in rows if row["split"] and not row["series"]]
    names = {row["id"]: _relative(row["path"], root) for row in seen}
    owners = owners_of(names.values())
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in seen:
        owner = owners[names[row["id"]]]
        if owner.rule in {"folder", "stem", "bids", "barcode"}:
            groups[owner.rule, owner.patient].append(row)
    for kind, rules in (("folder", {"folder"}), ("stem", {"stem", "bids", "barcode"})):
        torn = [
            (key, own)
            for (rule, key), own in sorted(groups.items())
            if rule in rules and len({r["split"] for r in own}) > 1 and len({r["patient"] for r in own}) > 1
        ]
        if torn:
            key, own = torn[0]
            first = own[0]
            other = next(row for row in own if row["split"] != first["split"])
            yield (
                "warning",
                f"{kind}-in-several-splits",
                f"{len(torn)} {kind}s lie in several splits, as scans of several patients, such as {key}: "
                f"{names[first['id']]} is in {first['split']}, {names[other['id']]} in {other['split']}",
                f"If those are scans of one person each, the split leaks. {_SAY}",
            )


def _shared_labels(rows: Sequence[Row]) -> Iterator[Doubt]:
    shared = sorted(shared_labels(rows).items())
    if shared:
        label, patients = shared[0]
        listed = ", ".join(patients[:4]) + (", ..." if len(patients) > 4 else "")
        what = f"{len(shared)} label maps belong to scans of several patients, such as {label} of {listed}"
        todo = f"A label map belongs to one person: either the scans are of one patient, or the label is wrong. {_SAY}"
        yield ("error", "label-shared", what, f"{todo} Or: medssl cache ... accept=[label-shared]")


def _classes(rows: Sequence[Row]) -> Iterator[Doubt]:
    """Yield the classes that a split lacks, a line for each target and split."""
    counted: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row in rows:
        for target, word in json.loads(row["targets"] or "{}").items():
            if row["split"]:
                counted[target][row["split"]][str(word)] += 1
    for target, splits in sorted(counted.items()):
        every = sorted({word for counts in splits.values() for word in counts})
        for split in ("train", "val", "test"):
            lacking = [word for word in every if not splits[split][word]]
            if not splits[split] or not lacking:
                continue
            left = len(every) - len(lacking)
            then = {"train": "it cannot be learned", "val": "temperatures and thresholds cannot be chosen on it"}
            why = then.get(split, "scores that distinguish classes are not defined" if left < 2 else "it is not tested")
            what = f"the split '{split}' has no scan of the {target} {', '.join(lacking)}; {why}"
            todo = f"More patients, larger shares, or spread the classes: medssl index ... stratify={target} fresh=true"
            yield ("warning", "class-missing-in-split", what, todo)


def _relative(path: str, root: str) -> str:
    whole = PurePosixPath(str(path).replace("\\", "/"))
    return whole.relative_to(root).as_posix() if root and whole.is_relative_to(root) else whole.as_posix().lstrip("/")
