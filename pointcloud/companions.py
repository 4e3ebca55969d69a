"""Files that belong to a cloud and are none of their own: the labels of its points, and further columns of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pointcloud.formats import gltf, table
from pointcloud.label_names import S3DIS, number_of_piece, piece_class, scannet_groups
from pointcloud.scene_rules import PLAIN, bare_name

__all__ = ["Companions", "companions_of"]

_LABEL_FOLDERS = {
    "labels",
    "label",
    "points_label",
    "point_labels",
    "points_labels",
    "expert_verified",
    "seg",
    "segs",
    "segmentation",
    "segmentations",
    "gt",
    "ground_truth",
    "groundtruth",
    "semantic",
    "semantics",
}
_LABEL_ENDING = re.compile(r"[-_.](?:labels?|seg|segment|segmentation|gt|semantic)$", re.I)
_SETS = ("coord", "coords", "xyz", "points", "position", "positions")  # the array of a folder that holds the places
_SEMANTIC = ("segment", "segment20", "semantic", "semantic_gt", "labels", "label", "segment200", "seg")
_COLUMNS = {
    "color",
    "colors",
    "colour",
    "colours",
    "normal",
    "normals",
    "strength",
    "intensity",
    "instance",
    "instances",
    "rgb",
} | set(_SEMANTIC)
_ENDINGS_OF_MESHES = {".labels", "_labels", ".label", "_label"}
_LABEL_SUFFIXES = (".aggregation.json", ".segs.json", "_lidarseg.bin", ".label", ".labels", ".seg")
_MAY_BE_LABELS = {".txt", ".npy", ".csv", ".bin", ".json", ".xml"}  # scans have label maps in such folders
_OF_LINES = {".seg", ".labels", ".txt", ".csv"}
STRIDE = 100  # numbers that each class has for its parts, where every class counts its own from 1


@dataclass
class Companions:
    """What belongs to what.

    Attributes:
        label_of: Cloud -> (its label, how that is read).
        taken: Files that look like clouds and are none of their own.
        used: Labels that were understood.
        unread: Why -> files that were passed over.
        lines: What was understood, in sentences.
        parts: Number -> name of classes of points that the files name.
        by_class: Whether parts are numbered anew in each class.
    """

    label_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    unread: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    lines: list[str] = field(default_factory=list)
    parts: dict[int, str] = field(default_factory=dict)
    by_class: bool = False

    def give(self, cloud: str, label: str, **how: object) -> bool:
        """Say whose label a file is; false where the cloud has one already."""
        self.used.add(label)
        if cloud in self.label_of:
            return False
        self.label_of[cloud] = (label, json.dumps(how, sort_keys=True))
        return True


def companions_of(names: Sequence[str], beside: Iterable[str] = (), root: Path | None = None) -> Companions:
    """Say which files are labels of the points of which cloud.

    Args:
        names: Paths of what looks like clouds, as seen from the root.
        beside: Paths of the other files.
        root: Where they lie; None reads no file.
    """
    found = Companions()
    beside = list(beside)
    _numbers_of_gltf(names, root, found)
    names = [name for name in names if name not in found.taken]
    _annotations(names, found)
    _arrays(names, beside, found)
    _labels_ply(names, found)
    rest = [name for name in names if name not in found.taken]
    _by_place(rest, beside, found)
    _scannet(rest, beside, root, found)
    _name_the_rest(beside, found)
    return found


def _numbers_of_gltf(names: Sequence[str], root: Path | None, found: Companions) -> None:
    """The numbers of x.gltf lie in files that it names, such as x.bin, which may look like a sweep."""
    for name in names:
        if name.lower().endswith(".gltf") and root is not None:
            try:
                mine = gltf.files_of(root / name)[1:]
            except OSError:
                continue
            of_it = {file.relative_to(root).as_posix() for file in mine}
            found.taken |= of_it & set(names)
            found.used |= of_it


def _annotations(names: Sequence[str], found: Companions) -> None:
    """S3DIS: room/Annotations/chair_1.txt are pieces of room/room.txt."""
    pieces: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        folder = PurePosixPath(name).parent
        if folder.name.lower() == "annotations":
            pieces[str(folder)].append(name)
    if not pieces:
        return
    every = {name for group in pieces.values() for name in group}
    rooms: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        if name not in every:
            rooms[str(PurePosixPath(name).parent)].append(name)
    words = sorted({piece_class(bare_name(name)) for name in every})
    numbers = {word: number_of_piece(word, words) for word in words}
    alone = 0
    for where, group in sorted(pieces.items()):
        found.taken |= set(group)
        place = PurePosixPath(where).parent
        there = rooms.get(str(place), [])
        room = next((name for name in there if bare_name(name) == place.name), there[0] if len(there) == 1 else None)
        if room is None:
            alone += 1
            found.unread["pieces in Annotations without the file of their room"] += group
        else:
            mine = {piece_class(bare_name(name)) for name in group}
            found.give(room, where, kind="annotations", numbers={word: numbers[word] for word in sorted(mine)})
    strange = [word for word in words if word not in S3DIS]
    standard = all(numbers[word] == S3DIS.get(word, S3DIS["clutter"]) for word in words) and len(strange) < len(words)
    known = {number: word for word, number in S3DIS.items()} if standard else {}
    found.parts |= {number: known.get(number, word) for word, number in numbers.items()}
    if len(pieces) > alone:
        counted = "numbered as S3DIS counts its 13 classes" if standard else "numbered from a to z"
        counted += f", with {', '.join(strange)} as clutter" if standard and strange else ""
        found.lines.append(
            f"{len(every)} pieces in {len(pieces)} folders Annotations are labels of their rooms, not clouds: the "
            f"class is the piece's name, {counted}; which piece of its class a point is of is not kept"
        )


def _arrays(names: Sequence[str], beside: Sequence[str], found: Companions) -> None:
    """A folder of arrays of one cloud: coord.npy, color.npy, segment.npy; or pairs, x.npy and x_labels.npy."""
    both = [name for name in [*names, *beside] if name.lower().endswith(".npy")]
    folders: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in both:
        folders[str(PurePosixPath(name).parent)][bare_name(name).lower()] = name
    clouds = set(names)
    passed: Counter[str] = Counter()
    for arrays in folders.values():
        places = next((arrays[word] for word in _SETS if word in arrays), None)
        if places is not None and set(arrays) & _COLUMNS and places in clouds:
            label = next((word for word in _SEMANTIC if word in arrays), None)
            if label:
                found.give(places, arrays[label], kind="npy")
            for word, name in arrays.items():
                if word in _COLUMNS:
                    found.taken |= {name} & clouds
                    found.used.add(name)
                    passed[word] += word != label
            continue
        for word, name in arrays.items():
            owner = arrays.get(_LABEL_ENDING.sub("", word))
            if owner and owner != name and owner in clouds:
                found.taken |= {name} & clouds
                found.give(owner, name, kind="npy")
    left = {word: count for word, count in passed.items() if count}
    if left:
        listed = ", ".join(f"{count} {word}.npy" for word, count in sorted(left.items()))
        found.lines.append(f"beside coordinates, {listed} were not read; put them into one .npz to keep them")


def _labels_ply(names: Sequence[str], found: Companions) -> None:
    """x.labels.ply holds the labels of the vertices of x.ply."""
    by_place = {(str(PurePosixPath(name).parent), bare_name(name)): name for name in names}
    before, alone = len(found.taken), list[str]()
    for (folder, stem), name in sorted(by_place.items()):
        match = _LABEL_ENDING.search(stem)
        if not name.lower().endswith(".ply") or not match or match[0].lower() not in _ENDINGS_OF_MESHES:
            continue
        owner = by_place.get((folder, stem[: match.start()]))
        if owner:
            found.taken.add(name)
            found.give(owner, name, kind="ply", unlabelled=[0] if "_vh_clean" in stem else [])
        else:
            alone.append(name)
    if len(found.taken) > before:  # where none has a mesh beside it, they are the clouds
        found.taken |= set(alone)
        found.unread["files of labels (.labels.ply) without the mesh that they belong to"] += alone


def _by_place(clouds: Sequence[str], beside: Sequence[str], found: Companions) -> None:
    """Labels of the same name in a folder of labels, or beside the cloud under another suffix."""
    owners: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in clouds:
        owners[_spot(name)].append(name)
    spare = 0
    for name in sorted(beside, key=lambda name: ("expert_verified" in name, name)):
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        folders = {part.lower() for part in path.parts[:-1]}
        sure = suffix in {".label", ".labels", ".seg"}
        if name in found.used or not (sure or (suffix in {".txt", ".npy"} and folders & _LABEL_FOLDERS)):
            continue
        mine = owners.get(_spot(name), [])
        if len(mine) != 1:
            continue
        how: dict[str, object] = {"kind": "lines" if suffix in _OF_LINES else "npy"}
        if suffix == ".label":
            how = {"kind": "kitti", "unlabelled": [0, 1] if "sequences" in folders else [0]}
        elif suffix == ".labels":
            how["unlabelled"] = [0]
        elif suffix == ".seg":
            found.by_class = True
        spare += not found.give(mine[0], name, **how)
    if spare:
        found.lines.append(
            f"{spare} clouds have a second file of labels, which was not read (expert_verified and the like)"
        )


def _spot(name: str) -> tuple[str, str]:
    """Return folders that mean something, and the stem: what a cloud and its label have in common."""
    path = PurePosixPath(name)
    folders = [part for part in path.parts[:-1] if part.lower() not in _LABEL_FOLDERS and part.lower() not in PLAIN]
    known = table.FORMATS.row_of(Path(path.name)) is not None
    stem = table.bare_name(path.name) if known else path.stem
    return "/".join(folders), _LABEL_ENDING.sub("", stem).lower()


def _scannet(clouds: Sequence[str], beside: Sequence[str], root: Path | None, found: Companions) -> None:
    """ScanNet: x.aggregation.json names groups of the segments of x_vh_clean_2.0.010000.segs.json."""
    groups = {name for name in beside if name.endswith(".aggregation.json")}
    segments = {name for name in beside if name.endswith(".segs.json")}
    if not groups or root is None:
        return
    labelled = {str(PurePosixPath(name).parent) for name in found.label_of}
    pairs: list[tuple[str, str, str]] = []
    for name in sorted(clouds):
        folder = str(PurePosixPath(name).parent)
        stem = bare_name(name)
        mine = [s for s in segments if s.startswith(f"{name.removesuffix('.ply')}.")]
        group = next(
            (g for g in groups if str(PurePosixPath(g).parent) == folder and stem.startswith(_scan_of(g))), None
        )
        if folder in labelled or not mine or group is None:
            continue
        pairs.append((name, mine[0], group))
    words: set[str] = set()
    named = {}
    for name, _, group in pairs:
        named[name] = scannet_groups(root / group)
        words |= set(named[name])
    numbers = {word: number for number, word in enumerate(sorted(words))}
    for name, segs, group in pairs:
        mine_too = {word: numbers[word] for word in named[name]}
        print_of = hashlib.sha256((root / group).read_bytes()).hexdigest()[:12]  # where it changes, labels do
        how = {"groups": PurePosixPath(group).name, "print": print_of}
        if found.give(name, segs, kind="scannet", numbers=mine_too, **how):
            found.used.add(group)
            found.parts |= {numbers[word]: word for word in named[name]}


def _scan_of(groups: str) -> str:
    return PurePosixPath(groups).name.removesuffix(".aggregation.json").removesuffix("_vh_clean")


def _name_the_rest(beside: Sequence[str], found: Companions) -> None:
    """Count labels that belong to no cloud, by suffix."""
    for name in beside:
        if name in found.used:
            continue
        ending = next((suffix for suffix in _LABEL_SUFFIXES if name.lower().endswith(suffix)), "")
        if ending:
            found.unread[f"{ending} files, which belong to no cloud here"].append(name)
            continue
        folder, suffix = PurePosixPath(name).parent.name, PurePosixPath(name).suffix.lower()
        if folder.lower() in _LABEL_FOLDERS | {"label_2"} and suffix in _MAY_BE_LABELS:
            found.unread[f"{suffix} files in {folder}/"].append(name)
