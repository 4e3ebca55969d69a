"""The data: how many scans of what, what the check found, and a look at a few of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl import geometry
from medssl.errors import MedSSLError
from medssl.pool import isolated
from medssl.reporting.blocks import Block, Listing, Overlays, Section, Table, Text, Tiles
from medssl.reporting.material import Material
from medssl.reporting.pictures import Plane, Volume, cut_planes, grey_levels
from medssl.reporting.privacy import Cleaner, short_name
from medssl.reporting.prose import counted

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.store.read import Store

__all__ = ["data_section"]

_KINDS = 12  # kinds of finding that are listed
_VOXELS = 1 << 28  # larger scans are not read for a thumbnail
_EDGE = 200
_SPLITS = {"train": "training", "val": "validation", "test": "test", "": "no split"}


def data_section(material: Material, *, pictures: int, clean: Cleaner) -> Section | None:
    """Return the section; None without a manifest, a check or a store.

    Args:
        material: What was given.
        pictures: How many scans to show.
        clean: Takes paths out of texts.
    """
    blocks: list[Block] = []
    for name, manifest in material.manifests.items():
        blocks += _of_manifest(name, manifest, clean)
    for name, check in material.checks.items():
        blocks += [Text(f"Check: {name}", "head"), *_summary(check["summary"]), *_findings(check, clean)]
    for folder, store in material.stores.items():
        blocks += _of_store(short_name(folder.resolve()), store, clean)
    for folder, content in material.cloud_stores.items():
        blocks += _of_cloud_store(short_name(folder.resolve()), content, clean)
    if not blocks:
        return None
    figures: list[tuple[str, str, Sequence[Plane]]] = []
    for store in material.stores.values():
        figures += _stored_scans(store, pictures)
    if not figures:
        for manifest in material.manifests.values():
            figures += _scans_of_manifest(manifest, pictures)
    if figures:
        blocks.append(Text("Some of the scans", "head"))
        said = "Axial, coronal and sagittal planes through the middle of the body; the box is what counts as body."
        limit = pictures * max((len(store.channels) for store in material.stores.values()), default=1)
        blocks += [Text(said, "soft"), Overlays(figures[:limit], boxed=True, small=True)]
    return Section("data", "The data", blocks)


def _of_manifest(name: str, manifest: Manifest, clean: Cleaner) -> list[Block]:
    from medssl.manifest.check import check_manifest

    result = check_manifest(manifest, look_at_files=False).to_dict()
    rows = [row for row in manifest.rows() if row["error"] is None]
    blocks: list[Block] = [Text(f"Manifest: {name}", "head"), *_summary(result["summary"])]
    volumes, clouds = ([row for row in rows if (row["kind"] == "cloud") == wanted] for wanted in (False, True))
    if volumes:
        blocks.append(_shapes([r["spacing_mm"] for r in volumes], [r["shape"] for r in volumes]))
    if clouds:
        blocks.append(Listing([("points of a cloud", _points(clouds))]))
    return [*blocks, *_findings(result, clean)]


def _points(clouds: Sequence[Mapping[str, Any]]) -> str:
    points = [int(cloud["points"]) for cloud in clouds]
    return f"median {np.median(points):,.0f}; from {min(points):,} to {max(points):,}"


def _of_cloud_store(name: str, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    clouds, classes = content["entries"], content.get("classes") or {}
    summary = {
        "scans": len(clouds),
        "clouds": len(clouds),
        "patients": len({cloud["patient"] or cloud["id"] for cloud in clouds}),
        "labelled": sum(cloud["label_file"] is not None or cloud["label"] is not None for cloud in clouds),
        "splits": Counter(cloud["split"] for cloud in clouds),
    }
    counts = Counter(
        classes.get(str(cloud["label"]), str(cloud["label"])) for cloud in clouds if cloud["label"] is not None
    )
    told = [("classes", ", ".join(f"{word} {count}" for word, count in sorted(counts.items())))]
    told += [("points of a cloud", _points(clouds))] if clouds else []
    blocks: list[Block] = [Text(f"Store: {name}", "head"), *_summary(summary), Listing([(k, v) for k, v in told if v])]
    if content.get("failed"):
        rows = [(cloud, clean.text(reason)) for cloud, reason in list(content["failed"].items())[:_KINDS]]
        blocks.append(Text(f"{counted(len(content['failed']), 'cloud')} could not be stored.", "bad"))
        blocks.append(Table(("cloud", "why"), rows))
    return blocks


def _summary(summary: Mapping[str, Any]) -> list[Block]:
    clouds = int(summary.get("clouds", 0))
    scans = int(summary["scans"]) - clouds
    counts = [(scans, "scans")] * bool(scans or not clouds) + [(clouds, "clouds")] * bool(clouds)
    named = (
        ("patients", "patients" if scans or not clouds else "objects"),
        ("labelled", "with labels"),
        ("unreadable", "unreadable"),
    )
    counts += [(summary[key], words) for key, words in named if summary.get(key)]
    counts += [
        (n, f"{modality} scans") for modality, n in summary.get("modalities", {}).items() if modality != "points"
    ]
    counts += [(n, _SPLITS.get(split, split)) for split, n in summary.get("splits", {}).items() if split != "none"]
    return [Tiles([(f"{n:,}", words) for n, words in counts])]


def _findings(check: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for finding in check.get("findings", ()):
        groups.setdefault((finding["severity"], finding["kind"]), []).append(finding)
    if not groups:
        return [Text("The check found nothing wrong.", "good")]
    counts = check.get("counts") or Counter(severity for severity, _ in groups)
    errors, warnings, notes = (int(counts.get(s, 0)) for s in ("error", "warning", "info"))
    told = f"The check found {counted(errors, 'error')}, {counted(warnings, 'warning')} and "
    told += f"{counted(notes, 'thing')} to know."
    rows = [
        (
            severity,
            kind.replace("-", " "),
            str(len(found)),
            clean.text(f"{found[0]['scan']}: {found[0]['what']}" if found[0].get("scan") else found[0]["what"]),
            clean.text(found[0].get("todo") or ""),
        )
        for (severity, kind), found in groups.items()
    ]
    note = f"and {len(rows) - _KINDS} kinds more" if len(rows) > _KINDS else ""
    table = Table(("severity", "kind", "times", "such as", "what to do"), rows[:_KINDS], note=note)
    return [Text(told, "bad" if errors else ""), table]


def _shapes(spacing: Sequence[Sequence[float]], shape: Sequence[Sequence[int]]) -> Block:
    def spread(values: Sequence[Sequence[float]]) -> str:
        low, middle, high = np.percentile(np.asarray(values, dtype=float), (0, 50, 100), axis=0)
        text = " x ".join(f"{v:.3g}" for v in middle)
        if np.allclose(low, high, rtol=1e-3):
            return f"{text}, all alike"
        return f"median {text}; from {' x '.join(f'{v:.3g}' for v in low)} to {' x '.join(f'{v:.3g}' for v in high)}"

    return Listing([("voxel size (z, y, x), mm", spread(spacing)), ("voxels (z, y, x)", spread(shape))])


def _of_store(name: str, store: Store, clean: Cleaner) -> list[Block]:
    entries = store.entries
    splits = Counter(entry.split for entry in entries)
    tiles = [
        (f"{len(entries):,}", "scans"),
        (f"{len({e.patient or e.id for e in entries}):,}", "patients"),
        (f"{sum(e.label_file is not None for e in entries):,}", "with labels"),
        *((f"{n:,}", f"{modality} scans") for modality, n in Counter(m for e in entries for m in e.modalities).items()),
        *((f"{splits[s]:,}", words) for s, words in _SPLITS.items() if splits.get(s)),
    ]
    blocks: list[Block] = [Text(f"Store: {name}", "head"), Tiles(tiles)]
    if entries:
        blocks.append(_shapes([e.spacing_mm for e in entries], [e.shape for e in entries]))
    if len(store.channels) > 1:
        had = [sum(entry.present[number] for entry in entries) for number in range(len(store.channels))]
        told = ", ".join(f"{name} ({count:,})" for name, count in zip(store.channels, had, strict=True))
        blocks.append(Listing([("channels (cases that have them)", told)]))
    names = [label for value, label in sorted(store.classes.items()) if value > 0]
    if names:
        regions = [f"{r.name} ({' + '.join(str(v) for v in r.values)})" for r in store.regions]
        kinds = [("structures", ", ".join(names)), *([("regions", ", ".join(regions))] if regions else [])]
        blocks.append(Listing(kinds))
    if store.failed:
        rows = [(scan, clean.text(reason)) for scan, reason in list(store.failed.items())[:_KINDS]]
        told = f"{counted(len(store.failed), 'scan')} could not be stored."
        blocks += [Text(told, "bad"), Table(("scan", "why"), rows)]
    if store.refused_labels:
        rows = [(scan, clean.text(reason)) for scan, reason in list(store.refused_labels.items())[:_KINDS]]
        told = f"{counted(len(store.refused_labels), 'scan')} stored without a label that was refused."
        blocks += [Text(told, "bad"), Table(("scan", "why"), rows)]
    return blocks


def _stored_scans(store: Store, count: int) -> list[tuple[str, str, Sequence[Plane]]]:
    figures: list[tuple[str, str, Sequence[Plane]]] = []
    for index in _spread_out(len(store.entries), count):
        entry = store.entries[index]
        if int(np.prod(entry.shape)) > _VOXELS:
            continue
        figures += _stored_case(store, index)
    return figures


def _stored_case(store: Store, index: int) -> list[tuple[str, str, Sequence[Plane]]]:
    """Return a figure of each channel that a case has."""
    entry = store.entries[index]
    figures: list[tuple[str, str, Sequence[Plane]]] = []
    for number, channel in enumerate(entry.channels):
        if not channel.present:
            continue
        try:
            stored = store.values(index, number)
        except (MedSSLError, OSError, ValueError):
            continue  # a damaged file; `medssl cache` finds and mends it
        values = stored.astype(np.float32) * channel.slope + channel.intercept
        levels = grey_levels(values, hounsfield=channel.modality == "CT")
        affine = np.array(entry.affine)
        volume = Volume.turned(values, affine, levels)
        upright = geometry.orientation(affine) == "RAS"
        body = entry.body_box if upright else None
        at = [(a + b) // 2 for a, b in zip(*body, strict=True)] if body else [n // 2 for n in volume.values.shape]
        name = channel.name if entry.more else ""
        told = [entry.id, name, channel.modality, _SPLITS.get(entry.split, entry.split)]
        what = f"three planes of {entry.id}" + (f", {name}" if name else "")
        figures.append((" · ".join(filter(None, told)), what, cut_planes(volume, at, body=body, edge=_EDGE)))
    return figures


def _scans_of_manifest(manifest: Manifest, count: int) -> list[tuple[str, str, Sequence[Plane]]]:
    from medssl.formats.reading import read
    from medssl.store.body import find_body

    volumes = [row for row in manifest.rows() if row["error"] is None and row["kind"] == "volume"]
    rows = [row for row in volumes if 0 < int(np.prod(row["shape"] or [0])) <= _VOXELS]
    figures: list[tuple[str, str, Sequence[Plane]]] = []
    for index in _spread_out(len(rows), count):
        row = rows[index]
        paths = [Path(name) for name in row["paths"] or ()] if row["format"] in ("dicom", "image-stack") else []
        channel = json.loads(row["fields"] or "{}").get("picture_channel", "")
        try:
            scan = isolated(partial(read, paths=paths, channel=channel), Path(row["path"]))
        except (MedSSLError, OSError):
            continue  # it has gone since; the check says so
        hounsfield = row["modality"] == "CT"
        volume = Volume.turned(scan.values, scan.header.affine, grey_levels(scan.values, hounsfield=hounsfield))
        body = find_body(np.nan_to_num(np.asarray(volume.values, dtype=np.float32)), hounsfield=hounsfield)
        at = [(a + b) // 2 for a, b in zip(*body, strict=True)]
        caption = " · ".join(filter(None, [row["id"], row["modality"], _SPLITS.get(row["split"], row["split"])]))
        figures.append((caption, f"three planes of {row['id']}", cut_planes(volume, at, body=body, edge=_EDGE)))
    return figures


def _spread_out(length: int, count: int) -> list[int]:
    """Return so many indices, evenly over the length."""
    chosen = np.linspace(0, length - 1, min(count, length)).round().astype(int)
    return [int(i) for i in np.unique(chosen)] if length and count else []
