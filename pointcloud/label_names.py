"""Names of the classes of points and of clouds: those of well-known data sets, and what files beside the clouds say."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pointcloud.formats.text import text_of

__all__ = [
    "S3DIS",
    "SEMANTIC_KITTI",
    "folder_names",
    "named_classes",
    "named_parts",
    "number_of_piece",
    "piece_class",
    "scannet_groups",
]

S3DIS = {
    name: number
    for number, name in enumerate(
        (
            "ceiling",
            "floor",
            "wall",
            "beam",
            "column",
            "window",
            "door",
            "table",
            "chair",
            "sofa",
            "bookcase",
            "board",
            "clutter",
        )
    )
}
SEMANTIC_KITTI = {
    0: "unlabeled",
    1: "outlier",
    10: "car",
    11: "bicycle",
    13: "bus",
    15: "motorcycle",
    16: "on-rails",
    18: "truck",
    20: "other-vehicle",
    30: "person",
    31: "bicyclist",
    32: "motorcyclist",
    40: "road",
    44: "parking",
    48: "sidewalk",
    49: "other-ground",
    50: "building",
    51: "fence",
    52: "other-structure",
    60: "lane-marking",
    70: "vegetation",
    71: "trunk",
    72: "terrain",
    80: "pole",
    81: "traffic-sign",
    99: "other-object",
    252: "moving-car",
    253: "moving-bicyclist",
    254: "moving-person",
    255: "moving-motorcyclist",
    256: "moving-on-rails",
    257: "moving-bus",
    258: "moving-truck",
    259: "moving-other-vehicle",
}
_PARTS = re.compile(
    r"^(?:(?:part|point|semantic|segment|seg)s?_?(?:class|label)?_?(?:names|labels|classes)?|labels?|"
    r"label_names|parts)$",
    re.I,
)
_CLASSES = re.compile(r"^(?:.*_)?(?:shape|class|category|object)_?names$|^(?:classes|categories|classnames)$", re.I)
_MOST_BYTES = 4 << 20
_PAIR = re.compile(r"^(\d+)\s*[:=,;\t ]\s*(\S.*)$|^(\S.*?)\s*[:=,;\t ]\s*(\d+)$")


def piece_class(stem: str) -> str:
    """Return the class that a piece of a room is named after.

    Example:
        >>> piece_class("chair_12"), piece_class("Ceiling_1")
        ('chair', 'ceiling')
    """
    return re.sub(r"[-_ ]?\d+$", "", stem).lower() or stem.lower()


def number_of_piece(word: str, words: Sequence[str]) -> int:
    """Return the number of a class of pieces: S3DIS' own where nearly all words are its classes, else from a to z.

    A word that S3DIS does not count among its 13 (``stairs``) is clutter, as in its protocol.
    """
    known = [other for other in words if other in S3DIS]
    if 2 * len(known) > len(words):
        return S3DIS.get(word, S3DIS["clutter"])
    return sorted(words).index(word)


def scannet_groups(path: Path) -> list[str]:
    """Return the names of the groups of a ScanNet .aggregation.json; none where it cannot be read."""
    content = _json(path)
    groups = content.get("segGroups", []) if isinstance(content, dict) else []
    return sorted({str(group.get("label", "")) for group in groups if isinstance(group, dict)} - {""})


def named_parts(beside: Iterable[str], root: Path | None) -> tuple[dict[int, str], str]:
    """Return number -> name of the classes of points, and the file that says so; empty where none does.

    Files are looked for by name: ``part_names.txt``, ``labels.json``, ``semantic-kitti.yaml`` (its ``labels``), and
    ScanNet's ``scannetv2-labels.combined.tsv`` (its nyu40 classes).
    """
    if root is None:
        return {}, ""
    for name in sorted(beside):
        path = PurePosixPath(name)
        if path.name.startswith("semantic-kitti") and path.suffix in {".yaml", ".yml"}:
            found = _numbered(_yaml(root / name).get("labels"))
        elif path.name == "scannetv2-labels.combined.tsv":
            found = _nyu(root / name)
        elif path.suffix.lower() in {".txt", ".json"} and _PARTS.match(path.stem):
            found = _names_of(root / name)
        else:
            continue
        if found:
            return found, name
    return {}, ""


def named_classes(beside: Iterable[str], root: Path | None) -> dict[str, tuple[dict[int, str], str]]:
    """Return folder -> (number -> name of the classes of whole clouds, the file that says so).

    Looked for are ``shape_names.txt`` of ModelNet40, ``class_names.txt``, ``classes.json`` and their kind.
    """
    found: dict[str, tuple[dict[int, str], str]] = {}
    if root is None:
        return found
    for name in sorted(beside):
        path = PurePosixPath(name)
        if path.suffix.lower() in {".txt", ".json"} and _CLASSES.match(path.stem) and (names := _names_of(root / name)):
            found.setdefault(str(path.parent), (names, name))
    return found


def folder_names(beside: Iterable[str], root: Path | None) -> dict[str, str]:
    """Return folder -> name of its class, as ShapeNet's ``synsetoffset2category.txt`` says it."""
    named = {}
    for name in beside:
        if PurePosixPath(name).name.lower() == "synsetoffset2category.txt" and root is not None:
            for line in _text(root / name).splitlines():
                words = line.split()
                if len(words) == 2:
                    named[words[1]] = words[0]
    return named


def _names_of(path: Path) -> dict[int, str]:
    """Return number -> name: a JSON of either direction or a list; lines of names, or of numbers with names."""
    if path.suffix.lower() == ".json":
        return _numbered(_json(path))
    lines = [line.strip() for line in _text(path).splitlines() if line.strip() and not line.startswith("#")]
    pairs = [_PAIR.match(line) for line in lines]
    if lines and all(pairs):
        found = {int(m[1] or m[4]): (m[2] or m[3]).strip() for m in pairs if m}
        return found if len(found) == len(lines) else {}
    if any(re.fullmatch(r"[-+\d.eE\s,]+", line) for line in lines):
        return {}  # numbers are no names
    return dict(enumerate(lines)) if len(lines) > 1 else {}


def _numbered(content: Any) -> dict[int, str]:
    if isinstance(content, list) and content and all(isinstance(word, str) for word in content):
        return dict(enumerate(content))
    if not isinstance(content, dict):
        return {}
    found = {}
    for key, value in content.items():
        if isinstance(value, int) and not isinstance(value, bool):
            found[value] = str(key)
        elif isinstance(value, str) and str(key).lstrip("-").isdigit():
            found[int(key)] = value
    return found if len(found) == len(content) else {}


def _nyu(path: Path) -> dict[int, str]:
    rows = csv.DictReader(_text(path).splitlines(), delimiter="\t")
    return {
        int(row["nyu40id"]): row["nyu40class"]
        for row in rows
        if (row.get("nyu40id") or "").isdigit() and row.get("nyu40class")
    }


def _text(path: Path) -> str:
    try:
        return (text_of(path.read_bytes()) or "") if path.stat().st_size <= _MOST_BYTES else ""
    except OSError:
        return ""


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path) or "null")
    except (ValueError, RecursionError):
        return None


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(_text(path))
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}
