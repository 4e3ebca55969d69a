"""Which clouds are of one scene or one object, judged by their names: no split may cut through them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from medssl.manifest.patients import patient_key
from pointcloud.formats import table
from pointcloud.splits import SPLIT_WORDS

__all__ = ["PLAIN", "Scenes", "bare_name", "meaningful", "scenes_of", "without_variant"]

# Folders that say what kind of file lies in them, and nothing of what is shown.
PLAIN = {
    "clouds",
    "cloud",
    "points",
    "pointclouds",
    "point_clouds",
    "pointcloud",
    "point_cloud",
    "scans",
    "meshes",
    "mesh",
    "surfaces",
    "models",
    "data",
    "raw",
    "shapes",
    "objects",
    "velodyne",
    "velodyne_points",
    "lidar",
    "lidar_top",
    "sweeps",
    "samples",
    "frames",
    "h5_files",
    "pts",
    "hdf5",
} | {suffix.lstrip(".") for suffix in table.FORMATS.suffixes}
_SWEEPERS = {"velodyne", "velodyne_points", "lidar", "lidar_top", "sweeps", "ouster", "livox", "hesai", "frames"}
_VARIANT_FOLDERS = {
    "augmented",
    "augmentation",
    "augmentations",
    "aug",
    "original",
    "originals",
    "main_split",
    "main_split_nobg",
}

_LOG = re.compile(r"^(n\d{3}-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d[+-]\d{4})__")
_SCANNET = re.compile(r"(?<![A-Za-z0-9])(scene\d{4})_\d\d(?!\d)")
_DRIVE = re.compile(r"^(\d{4}_\d\d_\d\d_drive_\d+)")
_SEGMENT = re.compile(r"^(segment-\d+(?:_\d+)*)")
_AREA = re.compile(r"^Area_\d+[a-z]?$", re.I)
_AREA_ROOM = re.compile(r"^(Area_\d+)_([A-Za-z]+_\d+)", re.I)
_SCENE_FOLDER = re.compile(
    r"^(?:scene|seq|sequence|drive|segment|room|session|trip|traj|trajectory|scan|survey|building|house|apartment|"
    r"office)(?:[-_ ]?\d\w*|[-_ ]\w*\d\w*)$",
    re.I,
)
_FRAME = re.compile(r"^(.*?)[-_.]?(?:frame|sweep|cloud|scan)?[-_.]?\d+(?:[._]\d+)?$", re.I)
_BLOCK = re.compile(
    r"[-_. ](?:block|crop|tile|patch|chunk|cube|window|piece|part|sub|partial|slice)[-_]?\d+(?:[-_]\d+)*$", re.I
)
_VARIANT = re.compile(
    r"[-_. ](?:(?:aug(?:mented|mentation)?|rot(?:ated|ation)?|jitter(?:ed)?|nois[ey]|noisy|scaled?|flip(?:ped)?|"
    r"mirror(?:ed)?|resampled|copy|variant|rescan)[-_]?\d*|(?:scan|take|repeat|rep|view|pose)[-_]?\d+|"
    r"(?:no|with)?_?bg|pb_t\d+(?:_rs?)?|obj_(?:bg|only))$",
    re.I,
)
_LOOSE = "loose"  # the rule that a folder of numbered sweeps is one sequence


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """A rule that makes a key of a name.

    Attributes:
        name: What `Scenes.rule` calls it.
        noun: What it finds, in the plural.
        why: What it goes by.
        key: Path as seen from the root -> key, "" where it does not fit.
        place: Whether it finds a place that was scanned; folders above it are no classes then.
        guess: Whether names of this kind may mean something else.
    """

    name: str
    noun: str
    why: str
    key: Callable[[PurePosixPath], str]
    place: bool = True
    guess: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """What the names say.

    Attributes:
        of: Path -> key of its scene or object; names that no rule fits are not in it.
        rule: Path -> name of the rule.
        places: Paths whose rule finds places, so that their folders are no classes.
        lines: What is to be said, a sentence a rule.
        nouns: Noun -> how many there are of it.
    """

    of: Mapping[str, str]
    rule: Mapping[str, str]
    places: frozenset[str] = frozenset()
    lines: tuple[str, ...] = ()
    nouns: Mapping[str, int] = field(default_factory=dict)


def scenes_of(names: Sequence[str], *, split_of: Mapping[str, str] | None = None) -> Scenes:
    """Say which clouds are of one scene or object.

    Known names go first (nuScenes' logs, ScanNet's rooms, KITTI's drives and sequences, Waymo's segments, S3DIS'
    areas and rooms), then words (``scene_03/``, ``room7/``), then numbered sweeps of one folder, then endings of
    names (``_block3``, ``_augmented_2``). A name that says a patient is left to the rules of patients.

    Args:
        names: Paths of the clouds as seen from the root, with forward slashes.
        split_of: Path -> published split, "" for none. Where it parts the sweeps of one folder, the guess that they
            are one sequence falls.

    Example:
        >>> scenes_of(["sequences/00/velodyne/000000.bin", "sequences/00/velodyne/000001.bin"]).of.popitem()[1]
        'sequences/00'
    """
    of: dict[str, str] = {}
    ruled: dict[str, str] = {}
    by_rule: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        path = PurePosixPath(name)
        for rule in _RULES:
            if rule.guess and rule.place and _says_patient(name):
                continue
            if key := rule.key(path):
                of[name], ruled[name] = key, rule.name
                by_rule[rule.name].append(name)
                break
    if len(by_rule["word"]) == len(names) and len(set(of.values())) == 1:
        # A folder that holds everything is no scene among others: scan_2023/cup/1.ply, scan_2023/torus/1.ply.
        of, ruled, by_rule = {}, {}, defaultdict(list)
    _with_originals(names, of, ruled, by_rule)
    lines = []
    torn = _torn(by_rule[_LOOSE], of, split_of or {})
    if torn:
        lost = [name for name in by_rule[_LOOSE] if of[name] in torn]
        lines.append(
            f"the published split parts the {len(lost)} sweeps of {len(torn)} folders (such as {min(torn)}), so each "
            "sweep counts as a scene of its own; neighbours in time may lie on both sides"
        )
        by_rule[_LOOSE] = [name for name in by_rule[_LOOSE] if of[name] not in torn]
        for name in lost:
            del of[name], ruled[name]
    nouns: Counter[str] = Counter()
    for rule in _RULES:
        found = by_rule[rule.name]
        if found:
            keys = {of[name] for name in found}
            nouns[rule.noun] += len(keys)
            lines.append(_said(rule, found, len(keys), of))
    places = frozenset(name for rule in _RULES if rule.place for name in by_rule[rule.name])
    return Scenes(of=of, rule=ruled, places=places, lines=tuple(lines), nouns=dict(nouns))


def bare_name(name: str) -> str:
    """Return a file's name without folders and without the suffix of its format."""
    return table.bare_name(PurePosixPath(name).name)


def meaningful(parts: Sequence[str]) -> list[str]:
    """Return the folders of a path that say something of what is shown, the outermost first."""
    return [part for part in parts if part.lower() not in PLAIN and part.lower() not in _VARIANT_FOLDERS]


def without_variant(stem: str) -> str:
    """Return a stem without endings that name a block of a scan or a variant of an object.

    Example:
        >>> without_variant("chair_0001_augmented_3"), without_variant("hall_block3"), without_variant("cup_07")
        ('chair_0001', 'hall', 'cup_07')
    """
    before = ""
    while stem != before:
        before, stem = stem, _BLOCK.sub("", _VARIANT.sub("", stem)) or stem
    return stem


def _says_patient(name: str) -> bool:
    return patient_key(name) != PurePosixPath(name).name and patient_key(name) != bare_name(name)


def _log(path: PurePosixPath) -> str:
    match = _LOG.match(path.name)
    return match[1] if match else ""


def _scannet(path: PurePosixPath) -> str:
    match = next((m for part in reversed(path.parts) if (m := _SCANNET.search(part))), None)
    return match[1] if match else ""


def _of_part(pattern: re.Pattern[str]) -> Callable[[PurePosixPath], str]:
    return lambda path: next((match[1] for part in path.parts if (match := pattern.match(part))), "")


def _sequence(path: PurePosixPath) -> str:
    folders = path.parts[:-1]
    at = next((i for i, part in enumerate(folders) if part.lower() in {"sequences", "sequence"}), None)
    return "/".join(folders[: at + 2]) if at is not None and at + 1 < len(folders) else ""


def _area(path: PurePosixPath) -> str:
    folders = path.parts[:-1]
    at = next((i for i, part in enumerate(folders) if _AREA.match(part)), None)
    if at is not None:
        room = folders[at + 1] if at + 1 < len(folders) else without_variant(bare_name(path.name))
        return f"{folders[at]}/{room}"
    match = _AREA_ROOM.match(path.name)
    return f"{match[1]}/{match[2]}" if match else ""


def _scene_folder(path: PurePosixPath) -> str:
    folders = path.parts[:-1]
    at = next((i for i in reversed(range(len(folders))) if _SCENE_FOLDER.match(folders[i])), None)
    return "/".join(folders[: at + 1]) if at is not None else ""


def _loose(path: PurePosixPath) -> str:
    """Return the folder of a sweep whose name is a number, and the word before the number."""
    row = table.FORMATS.row_of(path)
    swept = row is not None and row.name in {"kitti", "nuscenes"}
    if not swept and not any(part.lower() in _SWEEPERS for part in path.parts[:-1]):
        return ""
    match = _FRAME.match(bare_name(path.name))
    if match is None:
        return ""
    folder = "/".join(meaningful(path.parts[:-1]))
    return "/".join(word for word in (folder, match[1]) if word) or "all sweeps"


def _block(path: PurePosixPath) -> str:
    return _ending(path, _BLOCK)


def _variant(path: PurePosixPath) -> str:
    if any(part.lower() in _VARIANT_FOLDERS for part in path.parts[:-1]):
        return _object_key(path)
    return _ending(path, _VARIANT)


def _ending(path: PurePosixPath, pattern: re.Pattern[str]) -> str:
    stem = bare_name(path.name)
    return _object_key(path) if pattern.search(stem) and without_variant(stem) != stem else ""


def _object_key(path: PurePosixPath) -> str:
    """Return folders and stem of an object, whichever variant, and whichever split its folder names."""
    stem = without_variant(bare_name(path.name))
    folders = meaningful(path.parts[:-1])
    if not stem.isdecimal():  # chair_0001 is one object wherever it lies; 0001 may be another in each folder
        folders = [part for part in folders if part.lower() not in SPLIT_WORDS]
    return "/".join([*folders, stem])


_RULES = (
    _Rule(name="log", noun="logs", why="the log that nuScenes' file names begin with", key=_log),
    _Rule(
        name="scannet", noun="rooms", why="ScanNet's number of the room; _00, _01, ... are scans of it", key=_scannet
    ),
    _Rule(name="drive", noun="drives", why="the drive of KITTI's folders", key=_of_part(_DRIVE)),
    _Rule(name="segment", noun="segments", why="the segment of Waymo's names", key=_of_part(_SEGMENT)),
    _Rule(name="sequence", noun="sequences", why="the folder below sequences/", key=_sequence),
    _Rule(name="area", noun="rooms", why="the room below its Area of S3DIS", key=_area),
    _Rule(
        name="word",
        noun="scenes",
        why="a folder whose name says scene, room, scan or the like",
        key=_scene_folder,
        guess=True,
    ),
    _Rule(name=_LOOSE, noun="sequences", why="numbered sweeps of one folder are one sequence", key=_loose, guess=True),
    _Rule(
        name="block", noun="scans", why="names that end in a block, crop or tile", key=_block, place=False, guess=True
    ),
    _Rule(
        name="variant",
        noun="objects",
        key=_variant,
        place=False,
        guess=True,
        why="names that end in an augmentation, a repeat or a variant, or lie in a folder of such",
    ),
)


def _with_originals(
    names: Sequence[str], of: dict[str, str], ruled: dict[str, str], by_rule: defaultdict[str, list[str]]
) -> None:
    """Give the cloud that variants were made of their key: chair_0001 beside chair_0001_augmented_3."""
    keys = {of[name]: ruled[name] for name in by_rule["block"] + by_rule["variant"]}
    for name in names:
        if name not in of and (key := _object_key(PurePosixPath(name))) in keys:
            of[name], ruled[name] = key, keys[key]
            by_rule[keys[key]].append(name)


def _torn(loose: Sequence[str], of: Mapping[str, str], split_of: Mapping[str, str]) -> set[str]:
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for name in loose:
        if split_of.get(name):
            splits[of[name]].add(split_of[name])
    return {key for key, found in splits.items() if len(found) > 1}


def _said(rule: _Rule, found: Sequence[str], count: int, of: Mapping[str, str]) -> str:
    most = Counter(of[name] for name in found).most_common(1)[0][0]
    example = next(name for name in found if of[name] == most)
    text = f"{count} {rule.noun} of {len(found)} clouds stay whole in a split: {rule.why} ({example} is of {most})"
    return f"guess: {text}; patient_pattern=REGEX says otherwise" if rule.guess else text
