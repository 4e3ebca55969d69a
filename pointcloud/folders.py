"""What names, folders and the files beside them say of clouds: class, scene or object, split, and labels of points."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medssl.manifest.clouds import Arranged, Placed
from medssl.manifest.patients import patient_key
from pointcloud.companions import STRIDE, Companions, companions_of
from pointcloud.formats import hdf5, table
from pointcloud.label_names import SEMANTIC_KITTI, folder_names, named_classes, named_parts
from pointcloud.scene_rules import PLAIN, Scenes, bare_name, meaningful, scenes_of
from pointcloud.splits import SPLIT_WORDS, Published, published_split

__all__ = ["arrange"]

_SHORTEST_WORD = 3  # letters of what names a structure
_DATE = re.compile(r"^(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d(?!\d)")
_PADDED = re.compile(r"^0\d{1,6}$")
_NUMBERED = re.compile(r"^([A-Za-z]+)[-_ ]?\d+$")
_CLASS_STEMS = {"class", "category", "cat", "type", "grade", "label", "group", "stage", "cls"}
_OWNED = re.compile(r"^(.*\d)[-_ ]([A-Za-z]{3,}(?:[-_ ][A-Za-z]+)*)$")  # patient01_left_kidney
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Classes and owners that folders and names say, with the sentence that says so."""

    of: Mapping[str, str]
    owner: Mapping[str, str]
    line: str = ""


def arrange(
    names: Iterable[str], beside: Iterable[str] = (), root: Path | None = None, *, classes: bool = True
) -> Arranged:
    """Read class, scene, split and labels of points off names and folders.

    Classes: ``CLASS/train/x.off`` (ModelNet), ``train/CLASS/x.ply`` and ``CLASS/x.ply``, where folders are classes; and
    ``PATIENT/liver.stl`` or ``PATIENT_liver.stl``, where names without digits that come back for many patients are.
    Folders that are called after patients, scenes, dates or numbers, or after nothing (``clouds``), are no classes, and
    neither are folders of which most hold a single cloud. The other rules are those of `pointcloud.scene_rules`,
    `pointcloud.splits` and `pointcloud.companions`.

    Args:
        names: Paths of what looks like clouds as seen from the root, with forward slashes.
        beside: Paths of the other files.
        root: Where they lie; None reads none of them.
        classes: Whether folders and names may say classes.

    Example:
        >>> placed = arrange(["chair/train/a.off", "chair/test/b.off", "table/train/c.off", "table/test/d.off"]).placed
        >>> placed["chair/test/b.off"].group, placed["chair/test/b.off"].split
        ('chair', 'test')
    """
    every, beside = sorted(names), sorted(beside)
    if not every:
        return Arranged()
    belongs = companions_of(every, beside, root)
    clouds = [name for name in every if name not in belongs.taken]
    split = published_split(clouds, beside, root)
    scenes = scenes_of(clouds, split_of=split.of)
    groups = _structures(clouds, scenes) or _folders(clouds, scenes, folder_names(beside, root))
    numbered = named_classes(beside, root)
    parts, by_class = _parts(beside, root, belongs, groups)
    members = _rooms_of_blocks(clouds, beside, root)
    placed = {}
    for name in clouds:
        label, how = belongs.label_of.get(name, ("", ""))
        if label and by_class and not parts:
            how = _shifted(how, groups.of.get(name, ""), by_class)
        owner = scenes.of.get(name) or groups.owner.get(name, "")
        mine = members.get(name, ())
        if not mine and owner and name not in scenes.places and _holds_several(name):
            mine, owner = (owner,), ""
        placed[name] = Placed(
            group=groups.of.get(name, "") if classes else "",
            split=split.of.get(name, ""),
            patient=owner,
            members=mine,
            label=label,
            how=how,
            names=tuple(sorted(_names_near(name, numbered).items())) if _holds_several(name) else (),
        )
    if by_class and not parts:
        parts = {STRIDE * place + k: f"{word} {k}" for word, place in by_class.items() for k in range(1, 10)}
    lines = _lines(placed, scenes, split, belongs, groups if classes else _Groups(of={}, owner=groups.owner))
    lines += [f"clouds of {len(members)} files belong to the rooms that room_filelist.txt names"] if members else []
    lines += [
        f"names of classes are those of {file}"
        for _, file in numbered.values()
        if any(p.names for p in placed.values())
    ]
    return Arranged(
        placed=placed,
        understood=tuple(lines),
        findings=split.findings,
        parts=parts,
        accounted=frozenset(belongs.used).union(split.lists, *belongs.unread.values()),
    )


def _structures(names: Sequence[str], scenes: Scenes) -> _Groups | None:
    """Return structures as classes where patients' folders, or files that begin with a patient, hold them."""
    free = [name for name in names if name not in scenes.of]
    split = {name: _owner_and_structure(name) for name in free}
    for flat in (False, True):
        where: defaultdict[str, set[str]] = defaultdict(set)
        for name in free:
            owner, word = split[name] if flat else (str(PurePosixPath(name).parent), bare_name(name))
            if owner and len(word) >= _SHORTEST_WORD and not any(letter.isdigit() for letter in word):
                where[word].add(owner)
        recurring = {word for word, owners in where.items() if len(owners) > 1}
        covered = sum(len(where[word]) for word in recurring)
        if len(recurring) < 2 or 2 * covered <= len(free):
            continue
        pick = {name: split[name] if flat else (_patient_of_folder(name), bare_name(name)) for name in free}
        of = {name: word for name, (_, word) in pick.items() if word in recurring}
        owner_of = {name: owner for name, (owner, word) in pick.items() if owner and (not flat or word in recurring)}
        example = min(of)
        rule = "what follows the patient in the file's name" if flat else "the file's name, and its folder the patient"
        line = (
            f"guess: the class of a cloud is {rule}, since the same {len(recurring)} come back "
            f"({example} is {of[example]} of {owner_of.get(example) or 'nobody'}); class_folders=false, or "
            "patient_pattern=REGEX says otherwise"
        )
        return _Groups(of=of, owner=owner_of, line=line)
    return None


def _owner_and_structure(name: str) -> tuple[str, str]:
    match = _OWNED.match(bare_name(name))
    if match is None:
        return "", ""
    folder = [part for part in meaningful(PurePosixPath(name).parts[:-1]) if part.lower() not in SPLIT_WORDS]
    said = patient_key(f"{match[1]}/-")
    owner = said if said != "-" else "/".join([*folder, match[1]])
    return owner, match[2]


def _patient_of_folder(name: str) -> str:
    folder = str(PurePosixPath(name).parent)
    return patient_key(folder) if folder != "." else ""


def _folders(names: Sequence[str], scenes: Scenes, spoken: Mapping[str, str]) -> _Groups:
    """Return the folders that are classes; folders that differ by a number alone are taken for scenes."""
    free = [name for name in names if name not in scenes.places]
    folder = {name: _class_folder(name) for name in free}
    there = {word for word in folder.values() if word}
    numbers = [word for word in there if word.isdecimal()]
    sequences = any(_PADDED.match(word) for word in numbers) and len({len(word) for word in numbers}) == 1
    stems = {(match[1].lower() if (match := _NUMBERED.match(word)) else "") for word in there}
    patients = any(patient_key(f"{word}/-") != "-" for word in there)
    one_stem = len(there) > 1 and len(stems) == 1 and not patients and not stems & (_CLASS_STEMS | {""})
    if one_stem:
        owner = {name: "/".join(meaningful(PurePosixPath(name).parts[:-1])) for name in free if folder[name]}
        example = min(owner)
        line = (
            f"guess: {len(there)} folders differ by a number alone, so they are taken for scenes and not for classes "
            f"({example} is of {owner[example]}); patient_pattern=REGEX says otherwise"
        )
        crowded = 2 * len(there) <= len(owner)
        return _Groups(of={}, owner=owner if crowded else {}, line=line if crowded else "")
    may = {name: word for name, word in folder.items() if _may_be_class(word, sequences=sequences)}
    counts = Counter(may.values())
    if len(counts) < 2 or len(may) < 2 * len(counts):
        return _Groups(of={}, owner={})
    of = {name: spoken.get(word, word) for name, word in may.items()}
    seen = sorted(set(of.values()))
    shown = ", ".join(seen[:_SHOWN]) + (", ..." if len(seen) > _SHOWN else "")
    named = "guess: the class of a cloud is its folder" if not spoken else "the class of a cloud is its folder's synset"
    return _Groups(of=of, owner={}, line=f"{named} ({len(seen)}: {shown}); class_folders=false says otherwise")


def _class_folder(name: str) -> str:
    """Return the folder that may be a class: below the split's, else above it; without one, the innermost."""
    parts = PurePosixPath(name).parts[:-1]
    at = next((i for i in reversed(range(len(parts))) if parts[i].lower() in SPLIT_WORDS), None)
    below = meaningful(parts[at + 1 :]) if at is not None else []
    above = meaningful(parts if at is None else parts[:at])
    return below[0] if below else above[-1] if above else ""


def _may_be_class(folder: str, *, sequences: bool) -> bool:
    # A rule that found a patient in the folder's name returns something other than the whole of a plain name.
    numbered = patient_key(f"{folder}/-") != "-"
    return (
        bool(folder)
        and folder.lower() not in PLAIN
        and folder.lower() not in SPLIT_WORDS
        and not numbered
        and not _DATE.match(folder)
        and not (sequences and folder.isdecimal() and len(folder) < 8)  # synsets have eight digits
    )


def _holds_several(name: str) -> bool:
    row = table.FORMATS.row_of(Path(name))
    return row is not None and row.several


def _names_near(name: str, numbered: Mapping[str, tuple[dict[int, str], str]]) -> dict[int, str]:
    """Return the names of classes that lie in the folder of a file, or above it."""
    for folder in PurePosixPath(name).parents:
        if str(folder) in numbered:
            return numbered[str(folder)][0]
    return {}


def _parts(
    beside: Sequence[str], root: Path | None, belongs: Companions, groups: _Groups
) -> tuple[dict[int, str], dict[str, int]]:
    """Return the names of the classes of points, and the place of each class whose parts count from 1 anew."""
    said, _ = named_parts(beside, root)
    kinds = {json.loads(how).get("kind") for _, how in belongs.label_of.values()}
    kitti = "kitti" in kinds and any("sequences" in PurePosixPath(name).parts for name in belongs.label_of)
    parts = {**(SEMANTIC_KITTI if kitti else {}), **belongs.parts, **said}
    classes = sorted({groups.of[name] for name in belongs.label_of if name in groups.of})
    by_class = {word: place for place, word in enumerate(classes)} if belongs.by_class and len(classes) > 1 else {}
    return parts, by_class


def _shifted(how: str, group: str, by_class: Mapping[str, int]) -> str:
    """Return how to read parts that each class counts from 1: with numbers of their own for each class."""
    shift = STRIDE * by_class.get(group, len(by_class))
    return json.dumps({**json.loads(how), "shift": shift, "most": STRIDE}, sort_keys=True)


def _rooms_of_blocks(names: Sequence[str], beside: Sequence[str], root: Path | None) -> dict[str, tuple[str, ...]]:
    """Return the room of each block of S3DIS' HDF5 files: room_filelist.txt has them in the order of all_files.txt."""
    found: dict[str, tuple[str, ...]] = {}
    for name in beside:
        path = PurePosixPath(name)
        if path.name != "room_filelist.txt" or root is None:
            continue
        folder = [one for one in names if PurePosixPath(one).parent == path.parent and _holds_several(one)]
        try:
            order = (root / path.with_name("all_files.txt")).read_text(encoding="utf-8").split()
            rooms = (root / name).read_text(encoding="utf-8").split()
            by_name = {PurePosixPath(one).name: one for one in folder}
            files = [by_name[PurePosixPath(line).name] for line in order]
            counts = [hdf5.count(root / file) for file in files]
        except (OSError, ValueError, KeyError, RuntimeError):
            continue  # without the order nothing is known of rooms, and the blocks are drawn one by one
        if sum(counts) != len(rooms):
            continue
        at = 0
        for file, count in zip(files, counts, strict=True):
            found[file] = tuple(rooms[at : at + count])
            at += count
    return found


def _lines(
    placed: Mapping[str, Placed], scenes: Scenes, split: Published, belongs: Companions, groups: _Groups
) -> list[str]:
    """Return what was understood, the most important first."""
    labelled = Counter(_suffix(said.label) for said in placed.values() if said.label)
    head = [f"{count} {noun}" for noun, count in scenes.nouns.items()]
    sweeps = {scenes.rule.get(name) for name in placed} & {"log", "sequence", "drive", "segment", "loose"}
    if placed:
        head.append(f"{len(placed)} files of {'sweeps' if sweeps else 'clouds'}")
    if labelled:
        listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(labelled.items()))
        head.append(f"{sum(labelled.values())} with labels of points ({listed})")
    lines = []
    if split.how:
        drawn = len(placed) - len(split.of)
        rest = f", {drawn} clouds drawn" if drawn else ""
        lines.append(", ".join(head) + f"; split: published ({split.how}){rest}")
    elif scenes.nouns or labelled or split.lines:
        lines.append(", ".join(head) + "; split: drawn, for no published one was found")
    lines += [*scenes.lines, *split.lines, *([groups.line] if groups.line else []), *belongs.lines]
    if any(json.loads(said.how or "{}").get("kind") == "kitti" for said in placed.values()):
        lines.append("labels of points are the lower 16 bits of .label files; instances, the upper ones, are not kept")
    zeros = Counter(
        (_suffix(said.label), ", ".join(map(str, ignored)))
        for said in placed.values()
        if said.how and (ignored := json.loads(said.how).get("unlabelled"))
    )
    lines += [f"in {suffix} files {numbers} means unlabelled, and becomes -1" for suffix, numbers in sorted(zeros)]
    if any(json.loads(said.how or "{}").get("most") for said in placed.values()):
        lines.append(
            f"every class counts its parts from 1, so each has {STRIDE} numbers of its own: those of the n-th class "
            f"from {STRIDE} n"
        )
    for why, files in sorted((why, files) for why, files in belongs.unread.items() if files):
        lines.append(f"{len(files)} {why} were not read ({files[0]}{', ...' if len(files) > 1 else ''})")
    return lines


def _suffix(label: str) -> str:
    path = PurePosixPath(label)
    return path.suffix.lower() or path.name
