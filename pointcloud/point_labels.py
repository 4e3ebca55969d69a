"""Reading the classes of a cloud's points from a file, or a folder, of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud
from pointcloud.formats import reading
from pointcloud.formats.arrays import BROKEN
from pointcloud.formats.files import contents, size_of
from pointcloud.label_names import piece_class

__all__ = ["UNLABELLED", "read_labelled"]

UNLABELLED = -1
_BY_SUFFIX = {".label": "kitti", ".npy": "npy", ".ply": "ply"}
_STRAY_SHARE = 0.01  # of the points of a room may lie in no piece, or the other way round
Labels = npt.NDArray[np.int64]


def read_labelled(path: Path, label: Path, how: str = "", *, item: int = 0) -> Cloud:
    """Read a cloud with the classes of its points. Of a mesh, the vertices are the points.

    Args:
        path: The cloud.
        label: The file of labels, or the folder of pieces.
        how: JSON: ``kind`` ("kitti", "lines", "npy", "ply", "annotations", "scannet"; the suffix decides where it is
            not there), ``unlabelled`` (numbers that stand for no class), ``shift`` (added to the others) and
            ``numbers`` (word -> number).
        item: Which cloud of the file.

    Raises:
        FormatError: Either file is damaged, or they do not have the same number of points.
    """
    cloud = reading.read(path, item=item, samples=0)
    said: dict[str, Any] = json.loads(how or "{}")
    kind = said.get("kind") or _BY_SUFFIX.get(label.suffix.lower(), "lines")
    if kind == "annotations":
        labels, notes = _of_pieces(cloud, path, label, said["numbers"])
        return replace(cloud, labels=labels, warnings=(*cloud.warnings, *notes))
    labels = _READERS[kind](label, said)
    rows = len(cloud) + len(cloud.left_out)
    if len(labels) != rows:
        raise FormatError(path, f"It has {rows} points, and {label} has labels of {len(labels)}. Find its own labels.")
    labels = _without(labels, said.get("unlabelled", ()))
    if shift := int(said.get("shift", 0)):
        most = int(said.get("most", shift))
        if labels.max() >= most:
            raise FormatError(label, f"It holds the part {labels.max()}; a class has fewer than {most} parts.")
        labels = np.where(labels >= 0, labels + shift, labels)
    return replace(cloud, labels=np.delete(labels, cloud.left_out))


def _without(labels: Labels, unlabelled: Any) -> Labels:
    """Return labels in which numbers that stand for no class, and those below 0, are -1."""
    none = np.isin(labels, list(unlabelled)) | (labels < 0)
    return np.where(none, UNLABELLED, labels)


def _kitti(path: Path, _: Mapping[str, Any]) -> Labels:
    """Read uint32 a point: the class in the lower 16 bits; the upper ones, which object it is, are left."""
    raw = contents(path)
    if len(raw) % 4:
        raise FormatError(path, f"{len(raw)} bytes are no whole number of uint32 labels: truncated.")
    return (np.frombuffer(raw, "<u4") & 0xFFFF).astype(np.int64)


def _lines(path: Path, _: Mapping[str, Any]) -> Labels:
    """Read a whole number a line."""
    size_of(path)
    try:
        values = np.loadtxt(path, dtype=np.float64, ndmin=1, encoding="latin-1")
    except ValueError as error:
        raise FormatError(path, f"It is no list of one whole number a point ({str(error)[:100]}).") from error
    return _whole(path, values)


def _npy(path: Path, _: Mapping[str, Any]) -> Labels:
    size_of(path)
    try:
        values = np.load(path, allow_pickle=False)
    except BROKEN as error:
        raise FormatError(path, f"The labels are damaged or truncated ({str(error)[:100]}).") from error
    if not isinstance(values, np.ndarray):
        raise FormatError(path, "It is no array of labels.")
    return _whole(path, values)


def _ply(path: Path, _: Mapping[str, Any]) -> Labels:
    cloud = reading.read(path, samples=0)
    if cloud.labels is None:
        raise FormatError(path, "Its vertices have no property 'label'.")
    if len(cloud.left_out):
        raise FormatError(path, f"{len(cloud.left_out)} of its vertices have no place.")
    return cloud.labels


def _scannet(path: Path, said: Mapping[str, Any]) -> Labels:
    """Read which segment each vertex is of, and which named group each segment."""
    segments = _json(path).get("segIndices")
    group_file = path.with_name(str(said["groups"]))
    groups = _json(group_file).get("segGroups")
    if not isinstance(segments, list) or not isinstance(groups, list):
        raise FormatError(path, f"There is no list 'segIndices' in it, or no 'segGroups' in {group_file.name}.")
    try:
        class_of = {
            int(segment): int(said["numbers"][group["label"]]) for group in groups for segment in group["segments"]
        }
        values = np.array(segments, dtype=np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(group_file, f"Its groups cannot be read ({error!r}); run index again.") from error
    known, place = np.unique(values, return_inverse=True)
    return np.array([class_of.get(int(segment), UNLABELLED) for segment in known], dtype=np.int64)[place]


_READERS = {"kitti": _kitti, "lines": _lines, "npy": _npy, "ply": _ply, "scannet": _scannet}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(contents(path))
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"It is no JSON ({str(error)[:80]}): damaged or truncated.") from error
    if not isinstance(content, dict):
        raise FormatError(path, "It holds no JSON object.")
    return content


def _whole(path: Path, values: npt.NDArray[np.generic]) -> Labels:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        raise FormatError(path, f"The labels are of shape {values.shape} and type {values.dtype}, not one a point.")
    reals = values.astype(np.float64)
    if not np.isfinite(reals).all() or (reals != np.floor(reals)).any():
        raise FormatError(path, "The labels are not whole numbers.")
    return values.astype(np.int64)


def _of_pieces(cloud: Cloud, path: Path, folder: Path, numbers: Mapping[str, int]) -> tuple[Labels, list[str]]:
    """Give each point of a room the class of the piece that has a point at its place."""
    places, classes = [], []
    for piece in sorted(p for p in folder.iterdir() if p.suffix.lower() == ".txt" and not p.name.startswith(".")):
        word = piece_class(piece.stem)
        if word not in numbers:
            continue
        size_of(piece)
        try:
            rows = np.loadtxt(piece, usecols=(0, 1, 2), ndmin=2, encoding="latin-1")
        except ValueError as error:
            raise FormatError(piece, f"It is no table of points ({str(error)[:100]}).") from error
        places.append((rows - cloud.offset).astype(np.float32))
        classes.append(np.full(len(rows), int(numbers[word]), dtype=np.int64))
    pieces, known = np.concatenate(places), np.concatenate(classes)
    labels, lost = _matched(cloud.points, pieces, known)
    bare = int((labels < 0).sum())
    if max(bare, lost) > _STRAY_SHARE * len(cloud):
        raise FormatError(
            path,
            f"{bare} of its {len(cloud)} points lie in no piece of {folder}, and {lost} of {len(pieces)} points of the "
            "pieces are not in it: they do not belong together.",
        )
    notes = []
    if bare or lost:
        notes.append(
            f"{bare} of {len(cloud)} points lie in no piece of {folder.name} and are unlabelled; {lost} points of "
            "pieces are not in the room and were not read."
        )
    return labels, notes


def _matched(points: npt.NDArray[np.float32], pieces: npt.NDArray[np.float32], known: Labels) -> tuple[Labels, int]:
    """Return the class of the piece at each place, -1 where there is none, and how many places of pieces are unused.

    Places that come n times on both sides are dealt out in turn.
    """
    every = np.concatenate([points, pieces]) + np.float32(0.0)  # one zero
    _, place = np.unique(every, axis=0, return_inverse=True)
    place = place.reshape(-1)
    here, there = _counted(place[: len(points)]), _counted(place[len(points) :])
    width = max(int(here[:, 1].max()), int(there[:, 1].max())) + 1
    mine, theirs = here[:, 0] * width + here[:, 1], there[:, 0] * width + there[:, 1]
    order = np.argsort(theirs)
    at = np.searchsorted(theirs[order], mine)
    at = np.minimum(at, len(order) - 1)
    fits = theirs[order][at] == mine
    return np.where(fits, known[order][at], UNLABELLED), len(pieces) - int(fits.sum())


def _counted(place: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Return (place, how many of it came before) for each row."""
    order = np.argsort(place, kind="stable")
    ranked = place[order]
    first = np.r_[True, ranked[1:] != ranked[:-1]]
    starts = np.maximum.accumulate(np.where(first, np.arange(len(ranked)), 0))
    before = np.empty(len(place), dtype=np.int64)
    before[order] = np.arange(len(ranked)) - starts
    return np.stack([place.astype(np.int64), before], axis=1)
