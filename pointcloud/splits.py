"""The split that a data set of clouds was published with: folders, names of files, lists, and known standards."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medssl.manifest.listing import SPLIT_NAMES
from pointcloud.formats import table
from pointcloud.formats.text import text_of

__all__ = ["SPLIT_WORDS", "Published", "published_split", "split_folder"]

SPLIT_WORDS = {
    **{word: split for word, split in SPLIT_NAMES.items() if word},
    "scans_test": "test",
    "trainset": "train",
    "testset": "test",
}
_LISTS = {".txt", ".json", ".csv", ".lst", ".list", ".split"}
_MOST_LIST_BYTES = 64 << 20
_BETWEEN = re.compile(r"[-_. ]+")
_SEQUENCE = re.compile(r"(?:^|/)sequences/(\d\d)/velodyne/[^/]+\.bin$")
_KITTI = {"val": {8}, "train": {*range(8), 9, 10}, "test": {*range(11, 22)}}
_AREA = re.compile(r"(?:^|/)Area_(\d)(?:[a-z]?/|_)")
_PLAIN = {"points", "shape_data", "data", "velodyne", "clouds"}
Doubt = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Published:
    """What is published.

    Attributes:
        of: Path -> "train", "val" or "test"; clouds without a published split are not in it.
        how: What it was read from, in words; "" where there is none.
        lines: What else is to be said.
        findings: What is wrong with it; see `medssl.manifest.clouds.Arranged`.
        lists: Files that were read as lists.
    """

    of: Mapping[str, str]
    how: str = ""
    lines: tuple[str, ...] = ()
    findings: tuple[Doubt, ...] = ()
    lists: frozenset[str] = frozenset()


def published_split(names: Sequence[str], beside: Iterable[str] = (), root: Path | None = None) -> Published:
    """Return the split of each cloud as the data set gives it.

    Lists go first (``modelnet40_train.txt``, ``ImageSets/val.txt``, ``shuffled_train_file_list.json``), then folders
    (``train/``), then the names of files of many clouds (``ply_data_train0.h5``), then the sequences of SemanticKITTI.

    Args:
        names: Paths of the clouds as seen from the root.
        beside: Paths of the other files.
        root: Where they lie; None reads no list.
    """
    folders = {name: split for name in names if (split := split_folder(name)[1])}
    files = {name: split for name in names if name not in folders and (split := _split_of_file(name))}
    of = {**folders, **files}
    how = []
    if folders:
        how.append("folders " + ", ".join(sorted({split_folder(name)[0] for name in folders})))
    if files:
        how.append("names of files, such as " + PurePosixPath(min(files)).name)
    lists = _lists(beside, root) if root else {}
    listed, findings, read = _listed(names, lists, of)
    if listed:
        how.insert(0, "lists " + ", ".join(read))
        of |= listed
    lines: list[str] = []
    if not of:
        of, standard, said = _kitti(names)
        how += [standard] if standard else []
        lines += said
    areas = {match[1] for name in names if (match := _AREA.search(name))}
    if "5" in areas and len(areas) > 1 and not of:
        lines.append(
            "S3DIS: papers test on Area_5; that is not forced here. For their figures, list the clouds in a CSV with "
            "the columns path and split"
        )
    return Published(of=of, how=" and ".join(how), lines=tuple(lines), findings=tuple(findings), lists=frozenset(read))


def split_folder(name: str) -> tuple[str, str]:
    """Return the innermost folder that names a split, and the split; ("", "") where none does."""
    part = next((part for part in reversed(PurePosixPath(name).parts[:-1]) if part.lower() in SPLIT_WORDS), "")
    return part, SPLIT_WORDS.get(part.lower(), "")


def _split_of_file(name: str) -> str:
    """Return the split that the name of a file of many clouds says. One cloud may be called after a toy train."""
    row = table.FORMATS.row_of(PurePosixPath(name))
    if row is None or row.name != "h5":
        return ""
    return _one_split(PurePosixPath(name).name)


def _one_split(name: str) -> str:
    words = {re.sub(r"\d+$", "", word.lower()) for word in _BETWEEN.split(name)}
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else ""


def _lists(beside: Iterable[str], root: Path) -> dict[str, tuple[str, list[str]]]:
    """Return file -> (split, entries) of every file that may list clouds of one split."""
    lists = {}
    for name in beside:
        path = PurePosixPath(name)
        split = _one_split(path.stem)
        if split and path.suffix.lower() in _LISTS and (entries := _entries(root / name)):
            lists[name] = (split, entries)
    return lists


def _entries(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MOST_LIST_BYTES:
            return []
        text = text_of(path.read_bytes()) or ""
        if path.suffix.lower() == ".json":
            content = json.loads(text)
            found = list(content) if isinstance(content, list | dict) else []
        else:
            found = [line.strip() for line in text.splitlines()]
            if path.suffix.lower() == ".csv":
                found = [line.split(",")[0].strip("\"' ") for line in found]
    except (OSError, ValueError, RecursionError):
        return []
    words = [word.replace("\\", "/").removeprefix("./") for word in found if isinstance(word, str) and word]
    # Names have no blanks within; what has them is prose.
    return [word.split()[0] for word in words] if words and all(len(word.split()) <= 2 for word in words[:50]) else []


def _listed(
    names: Sequence[str], lists: Mapping[str, tuple[str, list[str]]], of: Mapping[str, str]
) -> tuple[dict[str, str], list[Doubt], list[str]]:
    """Return path -> split, what is wrong, and the lists that name any cloud."""
    known = _known(names) if lists else {}
    given: defaultdict[str, set[str]] = defaultdict(set)
    findings: list[Doubt] = []
    read = []
    for file, (split, entries) in sorted(lists.items()):
        missing, several = [], []
        hit = 0
        for entry in dict.fromkeys(entries):
            found = _matching(entry, known)
            if len(found) > 1 and len({of.get(name, "") for name in found}) > 1:
                side = "test" if split == "test" else "train"  # KITTI counts its frames anew in each folder
                found = [name for name in found if of.get(name, "") in (split, side, "")]
            if (
                "/" not in entry
                and len({PurePosixPath(name).parent for name in found}) > 1
                and not _is_folder(entry, known)
            ):
                several.append(entry)
                continue
            for name in found:
                given[name].add(split)
            hit += bool(found)
            missing += [] if found else [entry]
        if several:
            findings.append(
                (
                    "warning",
                    "list-is-unclear",
                    f"{len(several)} names of {file} fit clouds of several folders "
                    f"({several[0]}, ...), so they count for none",
                    "Write the folder before each name of the list.",
                )
            )
        if not hit:
            findings.append(
                (
                    "info",
                    "list-of-strangers",
                    f"{file} names none of the clouds ({entries[0]}, ...)",
                    "Nothing, where it lists something else.",
                )
            )
            continue
        read.append(file)
        if missing:
            findings.append(
                (
                    "warning",
                    "listed-and-gone",
                    f"{len(missing)} of {len(entries)} names of {file} are not there "
                    f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''})",
                    "Download the rest, or continue with what is there.",
                )
            )
    torn = sorted(name for name, splits in given.items() if len(splits) > 1)
    if torn:
        where = Counter(" and ".join(sorted(given[name])) for name in torn).most_common(1)[0][0]
        findings.append(
            (
                "error",
                "on-two-lists",
                f"{len(torn)} clouds are on lists of several splits ({where}; {torn[0]}, ...)",
                "Take them off one list, then: medssl index. Until then they count for the last of train, val, test.",
            )
        )
    bare = [name for name in names if name not in given]
    if read and bare:
        findings.append(
            (
                "warning",
                "on-no-list",
                f"{len(bare)} of {len(names)} clouds are on none of the lists ({bare[0]}, ...)",
                "Their split is that of their folder, or is drawn; take them out where the published split matters.",
            )
        )
    order = ("train", "val", "test")
    return {name: max(splits, key=order.index) for name, splits in given.items()}, findings, read


def _known(names: Sequence[str]) -> dict[str, list[str]]:
    """Return every name that a list may use -> the clouds that it stands for: paths, ends of paths, folders."""
    known: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for name in names:
        path = PurePosixPath(name)
        bare = re.sub(r"_vh_clean(_2)?$", "", table.bare_name(path.name))
        for folders in (list(path.parts[:-1]), [part for part in path.parts[:-1] if part.lower() not in _PLAIN]):
            for start in range(len(folders) + 1):
                known["/".join([*folders[start:], bare])][name] = None
            for end in range(1, len(folders) + 1):
                known["folder:" + folders[end - 1]][name] = None
                known["folder:" + "/".join(folders[:end])][name] = None
    return {key: list(found) for key, found in known.items()}


def _matching(entry: str, known: Mapping[str, list[str]]) -> list[str]:
    """Return the clouds of the longest end of an entry that names any."""
    path = PurePosixPath(entry)
    bare = table.bare_name(path.name)
    stems = [bare] if bare == path.name else [bare, path.name]
    parts = list(path.parts[:-1])
    for start in range(len(parts) + 1):
        for stem in stems:
            key = "/".join([*parts[start:], stem])
            if key in known:
                return known[key]
    return known.get("folder:" + entry.rstrip("/"), [])


def _is_folder(entry: str, known: Mapping[str, list[str]]) -> bool:
    return entry not in known and "folder:" + entry in known


def _kitti(names: Sequence[str]) -> tuple[dict[str, str], str, list[str]]:
    """Return the official split of SemanticKITTI's 22 sequences; other clouds beside them have none."""
    numbers = {name: int(match[1]) for name in names if (match := _SEQUENCE.search(name))}
    if max(numbers.values(), default=99) > 21:
        return {}, "", []
    of = {name: next(s for s, found in _KITTI.items() if n in found) for name, n in numbers.items()}
    there = set(of.values())
    if len(there) < 2:
        return (
            {},
            "",
            [
                f"all sequences here are in the split '{there.pop()}' of SemanticKITTI's standard, so the split is "
                "drawn, by sequence, and is not the published one"
            ],
        )
    return of, "standard of SemanticKITTI: sequences 00-07, 09, 10 train; 08 val; 11-21 test", []
