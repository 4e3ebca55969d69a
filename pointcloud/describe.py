"""Reading the clouds of a file to rows of a manifest: sizes, classes, hashes, and what a careful reader noticed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from medssl.errors import FormatError, MedSSLError
from medssl.manifest.clouds import CloudReader
from medssl.manifest.freshness import file_hash, label_facts_of, stamp
from medssl.manifest.sources import Source
from pointcloud.claims import claim
from pointcloud.cloud import Cloud
from pointcloud.folders import arrange
from pointcloud.formats import arrays, gltf, hdf5, reading, table
from pointcloud.point_labels import read_labelled

__all__ = ["TOO_MANY", "cloud_reader", "describe", "shape_hash"]

_MESHES = {"off", "obj", "stl", "glb", "ply"}
_ATTRIBUTES = ("normals", "colours", "intensity", "labels")
_TRIED = 16  # points drawn from a mesh to see whether it has a surface
_MAX_CLASSES = 1024
TOO_MANY = "no classes"  # begins the note on labels that are none
# What warnings of `Cloud` say -> how the note of the manifest begins, by which `check` knows it.
_KINDS = (
    (r"have NaN or infinite", "missing points"),
    (r"repeat the place", "doubled points"),
    (r"times the spread", "strays"),
    (r"relative to an offset", "far from the origin"),
    (r"no faces", "no faces"),
    (r"is not sure", "unsure columns"),
    (r"lie in no piece", "strays of pieces"),
    (r"not read", "not read"),
)


def cloud_reader(*, unit: str = "", class_folders: bool = True) -> CloudReader:
    """Return what `medssl.manifest.build.build_manifest` needs to index clouds.

    Args:
        unit: Unit of all clouds whose files do not say it: "mm", "m" or "".
        class_folders: Whether folders may name classes.
    """
    return CloudReader(
        claim=claim,
        arrange=partial(arrange, classes=class_folders),
        describe=partial(describe, unit=unit),
        settings={"unit": unit, "class_folders": class_folders, "reader": reading.VERSION},
    )


def describe(source: Source, depth: str = "full", *, unit: str = "") -> list[tuple[Source, dict[str, Any]]]:
    """Return a source and the facts of its row for every cloud of a file.

    Whatever is wrong becomes an ``error`` of that row; the other clouds of the file go on.

    Args:
        source: The file, with what its folders say.
        depth: "full", or "header" to make no hashes.
        unit: What the coordinates are in, where the file does not say it.
    """
    path = source.path
    shared: dict[str, Any] = {
        "path": str(path),
        "paths": [str(file) for file in _files(path)],
        "kind": "cloud",
        "item": 0,
        "modality": "points",
        "flags": [],
        "notes": [],
        "error": source.error,
    }
    try:
        shared |= stamp(_files(path)).columns()
        shared["format"] = table.format_of(path)
        if source.label_path is not None:
            shared["label_path"] = str(source.label_path)
            shared |= label_facts_of(source.label_path, full=depth == "full")
        if source.error is not None:
            return [_named(source, shared)]
        items = reading.count(path)
        if depth == "full":
            shared["file_hash"] = file_hash(_files(path))
    except Exception as error:  # see _reason
        return [_named(source, shared | {"error": source.error or _reason(error)})]
    found = []
    for item in range(items):
        row = {**shared, "item": item, "flags": [], "notes": []}
        group = patient = ""
        try:
            group, patient = _read(source, item, row, depth=depth, unit=unit)
        except Exception as error:
            row["error"] = _reason(error)
        found.append(_named(source, row, items, group=group, patient=patient))
    return found


def _files(path: Path) -> tuple[Path, ...]:
    try:
        return gltf.files_of(path)
    except OSError:
        return (path,)


def shape_hash(cloud: Cloud) -> str:
    """Return a hash of the points that is the same whatever file they are kept in and whatever order they have."""
    values = np.ascontiguousarray(cloud.points, dtype="<f4") + np.float32(0.0)  # one zero
    order = np.lexsort((values[:, 2], values[:, 1], values[:, 0]))
    digest = hashlib.sha256(str(len(values)).encode())
    digest.update(np.ascontiguousarray(values[order]).tobytes())
    digest.update((np.asarray(cloud.offset, dtype="<f8") + 0.0).tobytes())
    return digest.hexdigest()


def _named(
    source: Source, row: dict[str, Any], items: int = 1, *, group: str = "", patient: str = ""
) -> tuple[Source, dict[str, Any]]:
    """Give the cloud a path of its own: its file without the suffix, and its number where there are several.

    Args:
        source: The file.
        row: Facts of the cloud; changed in place.
        items: How many clouds the file has.
        group: Class that the file itself says.
        patient: Patient that the file itself says.
    """
    file = PurePosixPath(source.relative)
    relative = str(file.with_name(table.bare_name(file.name)))
    number = f"/{row['item']:0{len(str(items - 1))}d}" if items > 1 else ""
    relative += number
    if len(source.members) == 1:  # what each of them is called, with its number behind
        patient = patient or source.members[0] + number
    elif source.members and len(source.members) == items:
        patient = patient or source.members[row["item"]]
    own = {"group": group, "patient": patient}
    said: dict[str, Any] = {
        "relative": relative,
        "group": group or source.group,
        "patient": patient or source.patient,
        "own": {name: value for name, value in own.items() if value},
        "label_how": source.label_how,
        "classes": [list(pair) for pair in source.structures],
    }
    row["fields"] = json.dumps({name: value for name, value in said.items() if value}, sort_keys=True)
    row["targets"] = json.dumps({"class": said["group"]}) if said["group"] else None
    return replace(source, relative=relative, group=said["group"], patient=said["patient"]), row


def _read(source: Source, item: int, row: dict[str, Any], *, depth: str, unit: str) -> tuple[str, str]:
    """Fill in the row; return class and patient where the file says them."""
    path = source.path
    if source.label_path is not None:
        cloud = read_labelled(path, source.label_path, source.label_how, item=item)
    else:
        cloud = reading.read(path, item=item, samples=0)
    low, high = cloud.points.min(axis=0), cloud.points.max(axis=0)
    row |= {
        "points": len(cloud),
        "extent": [float(side) for side in high.astype(np.float64) - low],
        "length_unit": cloud.unit if cloud.unit != "unknown" else unit or "unknown",
        "attributes": [name for name in _ATTRIBUTES if getattr(cloud, name) is not None],
        "notes": [_note(warning) for warning in cloud.warnings],
    }
    missing = [int(note.split()[2]) for note in row["notes"] if note.startswith("missing points: ")]
    row["nonfinite"] = sum(missing)
    if depth == "full":
        row["content_hash"] = shape_hash(cloud)
    if cloud.labels is not None:
        classes, counts = np.unique(cloud.labels, return_counts=True)
        if len(classes) <= _MAX_CLASSES:
            row["label_values"], row["label_voxels"] = classes.tolist(), counts.tolist()
        else:
            row["notes"].append(
                f"{TOO_MANY}: The labels of its points have {len(classes)} values, more than {_MAX_CLASSES}: they look "
                "like instances, not classes, and are not stored."
            )
    if (
        source.label_path is None
        and row["format"] in _MESHES
        and not any(note.startswith("no faces") for note in row["notes"])
    ):
        drawn = reading.read(path, item=item, samples=_TRIED)  # a mesh that has no surface is refused here
        if not np.array_equal(drawn.points, cloud.points):
            row["attributes"].append("faces")
            row["notes"] = [note for note in row["notes"] if not note.startswith("doubled points")]
    patient = group = ""
    if row["format"] == "numpy":
        patient, group = arrays.owner(path, item)
    if cloud.label is not None and not group:
        own = hdf5.class_name(path, cloud.label) if row["format"] == "h5" else ""
        group = own or dict(source.structures).get(cloud.label, str(cloud.label))
    return group, patient


def _note(warning: str) -> str:
    kind = next((kind for words, kind in _KINDS if re.search(words, warning)), "noticed")
    return f"{kind}: {warning}"


def _reason(error: Exception) -> str:
    """Return why a file cannot be read; an error that a plugin lets slip must not end the folder."""
    if isinstance(error, FormatError):
        return error.reason
    if isinstance(error, MedSSLError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There was not enough memory to read it. Use fewer workers, or a machine with more memory."
    return f"It could not be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
