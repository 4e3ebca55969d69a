"""What a walk or an importer found: the scans that are there to be described, before any of them is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.formats.table import FORMATS
from medssl.regions import Region

__all__ = ["Found", "Source", "modality_of_name", "stem"]

_SUFFIXES = tuple(sorted(FORMATS.suffixes, key=len, reverse=True))  # the longest first
_CHANNEL = re.compile(r"_\d{4}$")
_MR_WORDS = re.compile(
    r"\b(mri?|t1w?|t1ce|t1c|t1gd|t1n|t2w?|t2f|flair|pdw?|swi|adc|dwi|dti|bold|cine|lge|mprage|tof|t2star|inplanet[12])\b",
    re.I,
)
_CT_WORDS = re.compile(r"\b(ct|cect|ncct|cta|cbct)\b", re.I)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One scan that can be described. Plain values only, so that it travels to a worker process.

    Attributes:
        path: The file, or the folder of a DICOM series.
        paths: The files of a DICOM series, or of a stack of pictures, in slice order; empty for a one-file scan.
        relative: ``path`` as seen from the root of the index, with forward slashes.
        label_path: The label that belongs to it.
        modality: What an importer or a setting says it is; empty where nobody does.
        patient: Patient key.
        patient_rule: What gave it: "given", "dataset.json", "bids", "barcode", or a guess: "folder", "stem", "name".
        study: Study, session or visit.
        channel: The contrast; empty where nothing names one. Of a file whose frames are channels, their names with
            commas between them.
        channel_rule: What told the channel of a DICOM series, see `formats.dicom_contrast`; "" for others.
        case: The case that it is a channel of, where a person says so.
        body: What tells it apart from other bodies of its patient and visit, see `rules.channels.body_of`.
        split: Split that an importer gives; empty where the split is still to be drawn.
        series: Hashes of patient, study and series of a DICOM series, joined by "/"; empty for other formats.
        frame_of_reference: Hash of a DICOM series' frame of reference.
        part: Which volume of its series it is, in a sentence, where one series holds several; and, after a tab, in a
            word for its id.
        kind: "volume" or "cloud".
        group: Class that the folders of a cloud say; empty where they say none.
        flags: What was noticed before reading, such as ``label-without-image``.
        error: Why it cannot be read, where that is known already.
        targets: Classes that an importer gives, as (name, class).
        structures: Label value -> name of the cohort, as pairs; of a file of clouds, the classes that it numbers.
        ignored: Label values that say "not known".
        picture_channel: What the user takes of pictures in colour; "" refuses them.
        label_how: How ``label_path`` is to be read, as JSON, where its suffix does not say it; of clouds alone.
        members: Patient of each cloud of a file of several, where something says it; one alone is that of all, each
            with its number behind.
    """

    path: Path
    relative: str
    paths: tuple[Path, ...] = ()
    label_path: Path | None = None
    modality: str = ""
    patient: str = ""
    patient_rule: str = ""
    study: str = ""
    channel: str = ""
    channel_rule: str = ""
    case: str = ""
    body: str = ""
    split: str = ""
    series: str = ""
    frame_of_reference: str = ""
    part: str = ""
    kind: str = "volume"
    group: str = ""
    flags: tuple[str, ...] = ()
    error: str | None = None
    targets: tuple[tuple[str, str], ...] = ()
    structures: tuple[tuple[int, str], ...] = ()
    ignored: tuple[int, ...] = ()
    picture_channel: str = ""
    label_how: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of looking at a tree.

    Attributes:
        sources: Every scan, and every file that should have been one.
        classes: Label value -> name, where a dataset says so.
        ignored: Label values that say "not known".
        regions: Structures that are unions of label values.
        notes: Sentences about the tree as a whole (a dataset.json that names missing files, folders set aside).
        layout: How the tree was read: "msd", "nnunet", "bids", "csv" or "tree".
        held: Splits that the folders give whole, so that nobody is drawn for them.
        of_clouds: What was understood of the clouds as a whole; see `medssl.manifest.clouds.Arranged`.
        channels: The channels of a case, in their order, where a dataset says so.
    """

    sources: tuple[Source, ...]
    classes: dict[int, str] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[str, ...] = ()
    layout: str = "tree"
    held: tuple[str, ...] = ()
    of_clouds: dict[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ()


def stem(name: str, *, channel: bool = False) -> str:
    """Return a file name without the suffix of its format.

    Args:
        name: File name, without folders.
        channel: Take off nnU-Net's channel number as well (``case_0000.nii.gz`` -> ``case``).

    Example:
        >>> stem("patient001_frame01.nii.gz"), stem("case_0003.mha", channel=True)
        ('patient001_frame01', 'case')
    """
    lower = name.lower()
    bare = next((name[: -len(suffix)] for suffix in _SUFFIXES if lower.endswith(suffix)), name)
    return _CHANNEL.sub("", bare) if channel else bare


def modality_of_name(words: str | Sequence[str]) -> str:
    """Return "CT", "MR" or "" for what a dataset.json, a suffix or a person calls a modality.

    Example:
        >>> modality_of_name("MRI"), modality_of_name(["T1w", "FLAIR"]), modality_of_name("CT"), modality_of_name("US")
        ('MR', 'MR', 'CT', '')
    """
    text = words if isinstance(words, str) else " ".join(words)
    text = re.sub(r"[_\-/]", " ", text)
    is_ct, is_mr = bool(_CT_WORDS.search(text)), bool(_MR_WORDS.search(text))
    if is_ct == is_mr:
        return ""
    return "CT" if is_ct else "MR"
