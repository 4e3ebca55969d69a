"""What the rules came to, in sentences: nothing that was guessed from names stays unsaid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from medssl.manifest.rules.owners import GUESSES, Owner, same_key

if TYPE_CHECKING:
    from medssl.manifest.labels import Pairs

__all__ = ["RULES", "label_notes", "owner_notes", "rule_lines"]

RULES = {
    "given": "as you said",
    "table": "from the table of targets",
    "dataset.json": "from dataset.json",
    "bids": "from BIDS names",
    "barcode": "from the barcode in the name",
    "dicom": "from the DICOM header",
    "folder": "from the folder",
    "stem": "from the name without contrast, visit and part",
    "name": "from the whole name",
}
_SHOWN = 3


def owner_notes(owners: Mapping[str, Owner]) -> list[str]:
    """Return what was done about keys that are written in several ways, or that several folders have.

    Args:
        owners: Image -> its owner.
    """
    spelled: defaultdict[str, set[str]] = defaultdict(set)
    places: defaultdict[str, set[str]] = defaultdict(set)
    for owner in owners.values():
        spelled[owner.patient].add(owner.spelled)
        places[same_key(owner.spelled)].add(owner.patient)
    notes = []
    several = sorted((patient, sorted(ways)) for patient, ways in spelled.items() if len(ways) > 1)
    if several:
        ways = several[0][1]
        notes.append(
            f"{len(several)} patients are written in several ways and taken as one each, such as "
            f"{', '.join(ways[:_SHOWN])}. Tell them apart with patient_pattern=REGEX."
        )
    apart = sorted(sorted(patients) for patients in places.values() if len(patients) > 1)
    if apart:
        notes.append(
            f"{len(apart)} names stand in several folders and are taken as different patients, such as "
            f"{', '.join(apart[0][:_SHOWN])}. Join them with patient_pattern=REGEX."
        )
    return notes


def label_notes(pairs: Pairs) -> list[str]:
    """Return what was done about labels that were found and not taken."""
    notes = []
    if pairs.apart:
        image, files = next(iter(sorted(pairs.apart.items())))
        notes.append(
            f"{len(pairs.apart)} scans have a label file for each structure beside them, such as {files[0]} and "
            f"{len(files) - 1} more of {image}; none is taken, for each is but a part. Put those of a scan into a "
            "folder 'segmentations' beside it."
        )
    return notes


def rule_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each rule that gave patients, with its count and an example; guesses are called so.

    Args:
        rows: Readable rows of a manifest.
    """
    groups: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "volume" and row["patient_rule"]:
            groups[row["patient_rule"]].append(row)
    lines = []
    for rule in sorted(groups, key=lambda rule: (-len(groups[rule]), rule)):
        own = groups[rule]
        # A scan whose name is not its patient's shows more.
        row = next((r for r in own if r["patient"] not in {r["id"], _name(r)}), own[0])
        guess = " (a guess; to correct it, use patient_pattern=REGEX or a CSV)" if rule in GUESSES else ""
        patients = len({r["patient"] for r in own})
        example = f"{_name(row)} -> patient {row['patient']}"
        lines.append(f"patient {RULES.get(rule, rule)}: {example}; {len(own)} scans of {patients} patients{guess}")
    return lines


def _name(row: Mapping[str, Any]) -> str:
    if row["series"]:
        return "a DICOM series"  # folders of DICOM may be called after people
    return str(row["path"]).replace("\\", "/").rpartition("/")[2]
