"""Data sets that say themselves what they hold: dataset.json of MSD and nnU-Net, Info.cfg of ACDC, and BIDS folders.

An importer gives hints for files by their path; the walk (`walk.py`) finds the files. So a file that a dataset.json
forgets is still found, and one that it names and that is missing is told of.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from medssl.manifest.label_names import label_names
from medssl.manifest.rules.channels import joined_names
from medssl.manifest.sources import modality_of_name, stem
from medssl.regions import Region

__all__ = ["Hints", "bids_hints", "bids_hints_below", "bids_roots", "dataset_json_hints", "info_cfg_targets", "is_bids"]

_BIDS_KINDS = {"anat": "MR", "func": "MR", "dwi": "MR", "perf": "MR", "fmap": "MR", "ct": "CT", "pet": "PT"}
_BIDS_LABEL = re.compile(r"_(dseg|probseg|mask|seg|roi|lesion)$")
_BIDS_FREE = ("desc", "label", "space", "res", "den", "atlas", "hemi")
_BIDS_ASIDE = ("derivatives", "sourcedata", "code", "phenotype", "stimuli")
_BIDS_ORDER = ("T1w", "ct", "T2w", "FLAIR")


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a data set says of its files, by path as seen from the root of the index.

    Attributes:
        label_of: Image -> its label.
        values: Image -> fields of ``Source`` (modality, study, split, channel); and ``number``, the channel number that
            its name ends in.
        labels: Files that are labels, whether an image was found or not.
        skipped: Files that are no scans of their own (derivatives), neither images nor labels.
        classes: Label value -> name.
        ignored: Label values that say "not known".
        regions: Unions of label values, in the order in which a prediction writes them.
        notes: Sentences about the data set.
        layout: "msd", "nnunet" or "bids".
        targets: Image -> classes of the scan by name.
        channels: The channels of a case, in their order.
    """

    label_of: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    classes: dict[int, str] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[str, ...] = ()
    layout: str = ""
    targets: dict[str, dict[str, str]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()


def dataset_json_hints(path: Path, folder: str, files: Iterable[str]) -> Hints:
    """Read a dataset.json of the Medical Segmentation Decathlon or of nnU-Net.

    Args:
        path: The dataset.json.
        folder: Its folder as seen from the root of the index, "" where it is the root.
        files: Every scan and label of the tree, as seen from the root.

    Returns:
        Hints; empty ones with a note where the file is no such description.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        return Hints(notes=(f"{path} cannot be read as JSON ({error}); its folder was read by names alone.",))
    if not isinstance(said, dict) or not {"labels", "modality", "channel_names", "training"} & set(said):
        return Hints(notes=(f"{path} describes no MSD or nnU-Net data set; its folder was read by names alone.",))
    present = set(files)
    hints = _nnunet(said, folder, present) if "channel_names" in said else _msd(said, path, folder, present)
    names = label_names(said, str(path))
    return replace(
        hints,
        classes=names.classes,
        ignored=names.ignored,
        regions=names.regions,
        notes=(*hints.notes, *names.notes),
    )


def info_cfg_targets(path: Path) -> dict[str, str]:
    """Return the diagnosis in an ``Info.cfg`` of ACDC (``Group: DCM``); empty where it names none.

    Height and weight, which stand there as well, are left where they are.

    Reference:
        Bernard et al., "Deep learning techniques for automatic MRI cardiac multi-structures segmentation and
        diagnosis", IEEE TMI 2018.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    match = re.search(r"^\s*Group\s*:\s*([A-Za-z0-9]{1,16})\s*$", text, flags=re.MULTILINE)
    return {"diagnosis": match[1]} if match else {}


def _msd(said: Mapping[str, Any], path: Path, folder: str, present: set[str]) -> Hints:
    modality = _one_modality(said.get("modality"))
    channels = _channels(said.get("modality"))
    several = _several(channels)
    numbered = _numbered(present)
    label_of: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}
    missing: list[str] = []
    for split, entries in (("", said.get("training")), ("test", said.get("test"))):
        for entry in entries if isinstance(entries, list) else []:
            named = entry if isinstance(entry, Mapping) else {"image": entry}
            image, label = (_inside(folder, named.get(key)) for key in ("image", "label"))
            # nnU-Net's first version names a case by the file that its channels have without their number.
            images = [image] if image in present else [name for _, name in sorted(numbered.get(image, {}).items())]
            missing += [image] if image and not images else []
            missing += [label] if label and label not in present else []
            for one in images:
                number = "" if one == image else stem(PurePosixPath(one).name)[-4:]
                kind = channels.get(str(int(number)), "") if number else ""
                values[one] = {
                    "modality": modality_of_name(kind) or modality,
                    "split": split,
                    "number": number,
                    # A file without a number holds all of them, as frames (MSD).
                    "channel": kind or number or joined_names(several),
                }
                if label in present and label:
                    label_of[one] = label
    notes = [f"{path} names {len(missing)} files that are not there, the first is {missing[0]}."] if missing else []
    return Hints(
        label_of=label_of,
        values=values,
        labels=frozenset(label_of.values()),
        notes=tuple(notes),
        layout="msd",
        channels=several,
    )


def _numbered(present: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return name without channel number -> number -> name."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in present:
        path = PurePosixPath(name)
        whole, case = stem(path.name), stem(path.name, channel=True)
        if whole != case:
            found[str(path.with_name(case + path.name[len(whole) :]))][whole[-4:]] = name
    return dict(found)


def _channels(said: object) -> dict[str, str]:
    """Return channel number -> name of ``{"0": "T2", "1": "ADC"}``."""
    names = said if isinstance(said, Mapping) else {}
    found = {str(key): str(name).replace(",", " ").strip() for key, name in names.items()}
    counts = Counter(name.casefold() for name in found.values())
    return {key: f"{name}_{key}" if counts[name.casefold()] > 1 else name for key, name in found.items()}


def _several(channels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of channels by number; () where there is but one."""
    numbered = sorted(channels, key=lambda key: (not key.isdecimal(), int(key) if key.isdecimal() else 0, key))
    return tuple(channels[key] for key in numbered) if len(channels) > 1 else ()


def _nnunet(said: Mapping[str, Any], folder: str, present: set[str]) -> Hints:
    channels = _channels(said["channel_names"])
    ending = str(said.get("file_ending") or "")
    values: dict[str, dict[str, str]] = {}
    label_of: dict[str, str] = {}
    for kind, split in (("Tr", ""), ("Ts", "test")):
        start = _inside(folder, f"images{kind}")
        for image in sorted(present):
            if not image.startswith(f"{start}/") or (ending and not image.endswith(ending)):
                continue
            name = PurePosixPath(image).name
            case = stem(name, channel=True)
            number = stem(name)[len(case) + 1 :]
            kind = channels.get(str(int(number)), "") if number else ""
            values[image] = {
                "modality": modality_of_name(kind),
                "split": split,
                "number": number,
                "channel": kind or number,
            }
            label = _inside(folder, f"labels{kind}/{case}{ending or name[len(stem(name)) :]}")
            if label in present:
                label_of[image] = label
    return Hints(
        label_of=label_of,
        values=values,
        labels=frozenset(label_of.values()),
        layout="nnunet",
        channels=_several(channels),
    )


def _one_modality(said: object) -> str:
    """Return the modality of ``{"0": "CT"}`` or ``{"0": "T2", "1": "ADC"}``, "" where channels differ."""
    names = list(said.values()) if isinstance(said, Mapping) else [said] if isinstance(said, str) else []
    kinds = {modality_of_name(str(name)) for name in names}
    return kinds.pop() if len(kinds) == 1 else ""


def _inside(folder: str, name: object) -> str:
    if not isinstance(name, str) or not name:
        return ""
    joined = PurePosixPath(folder) / name
    parts: list[str] = []
    for part in joined.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def is_bids(root: Path) -> bool:
    """Tell whether a folder is laid out as BIDS: it says so, or its subjects hold the usual kinds of folders."""
    if (root / "dataset_description.json").is_file():
        return True
    kinds = (root.glob(f"sub-*/{depth}{kind}") for kind in _BIDS_KINDS for depth in ("", "ses-*/"))
    return any(next(found, None) is not None for found in kinds)


def bids_roots(root: Path, files: Iterable[str]) -> list[str]:
    """Return the folders of BIDS data sets as seen from a root; "" where the root itself is one.

    Args:
        root: Where the files lie.
        files: Their paths as seen from it.
    """
    found: set[str] = set()
    for name in files:
        folders = PurePosixPath(name).parts[:-1]
        subject = next((i for i, folder in enumerate(folders) if re.fullmatch(r"sub-[A-Za-z0-9]+", folder)), None)
        if subject is not None:
            derived = next((i for i, folder in enumerate(folders) if folder in _BIDS_ASIDE), subject)
            found.add("/".join(folders[: min(subject, derived)]))
    return sorted(place for place in found if is_bids(root / place))


def bids_hints_below(place: str, files: Iterable[str]) -> Hints:
    """Read a BIDS data set in a folder of its own; see `bids_hints`.

    Args:
        place: The folder as seen from the root of the index, "" for the root.
        files: Every scan and label of the tree, as seen from that root.
    """
    start = f"{place}/" if place else ""
    own = bids_hints(name[len(start) :] for name in files if name.startswith(start))
    return Hints(
        label_of={start + image: start + label for image, label in own.label_of.items()},
        values={start + image: values for image, values in own.values.items()},
        labels=frozenset(start + name for name in own.labels),
        skipped=frozenset(start + name for name in own.skipped),
        notes=tuple(f"{place}: {note}" if place else note for note in own.notes),
        layout=own.layout,
    )


def bids_hints(files: Iterable[str]) -> Hints:
    """Read session, contrast and modality from BIDS names, and attach the labels of ``derivatives/``.

    A label belongs to the image of its subject and session whose entities (run, acq, ...) it shares; where several
    images do (T1w and T2w), the T1w takes it, for labels are drawn once.

    Args:
        files: Every scan and label below the BIDS root, as seen from it.
    """
    images: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    values: dict[str, dict[str, str]] = {}
    labels, skipped = [], []
    for name in sorted(files):
        path = PurePosixPath(name)
        subject, session = (_entity(path.name, key) for key in ("sub", "ses"))
        if subject and _BIDS_LABEL.search(stem(path.name)):
            labels.append(name)
        elif path.parts[0] in _BIDS_ASIDE:
            skipped.append(name)
        elif subject:
            folder_kind = path.parts[-2] if len(path.parts) > 1 else ""
            suffix = stem(path.name).rpartition("_")[2]
            modality = "CT" if suffix == "ct" else _BIDS_KINDS.get(folder_kind, "")
            values[name] = {
                "modality": modality,
                "study": f"ses-{session}" if session else "",
                "channel": f"ce_{suffix}" if _with_agent(path.name) else suffix,
            }
            images[subject, session].append(name)
    label_of: dict[str, str] = {}
    for label in labels:
        name = PurePosixPath(label).name
        fixed = _entities(name)
        fits = [
            i for i in images[_entity(name, "sub"), _entity(name, "ses")] if fixed <= _entities(PurePosixPath(i).name)
        ]
        fits = [i for i in fits if _suffix(i) in stem(name)] or fits
        fits.sort(key=lambda i: (_BIDS_ORDER.index(_suffix(i)) if _suffix(i) in _BIDS_ORDER else len(_BIDS_ORDER), i))
        if fits and "probseg" not in name:
            label_of.setdefault(fits[0], label)
    notes = [f"{len(skipped)} files of derivatives and source data were set aside."] if skipped else []
    unused = sorted(set(labels) - set(label_of.values()))
    if unused:
        notes.append(
            f"{len(unused)} label files are not used, for their image has another label or is not there, such as "
            f"{unused[0]}."
        )
    return Hints(
        label_of=label_of,
        values=values,
        labels=frozenset(labels),
        skipped=frozenset(skipped) | (frozenset(labels) - frozenset(label_of.values())),
        notes=tuple(notes),
        layout="bids",
    )


def _with_agent(name: str) -> bool:
    """Tell whether a BIDS name says that a contrast agent was given: a T1w with it is another channel."""
    return _entity(name, "ce").lower() not in {"", "no", "none", "without", "pre"}


def _entity(name: str, key: str) -> str:
    match = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)", name)
    return match[1] if match else ""


def _entities(name: str) -> set[str]:
    return {part for part in stem(name).split("_")[:-1] if "-" in part and part.split("-")[0] not in _BIDS_FREE}


def _suffix(name: str) -> str:
    return stem(PurePosixPath(name).name).rpartition("_")[2]
