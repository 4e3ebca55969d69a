"""From what a person names (files, folders, series, lists) to the scans, cases or clouds that a run can predict."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.domains.domain import domains
from medssl.domains.predicting import Asked, Failed, Inputs, Item, Takes, failed_row
from medssl.errors import DataError, ManifestError
from medssl.manifest.build import build_manifest
from medssl.manifest.schema import Manifest, read_manifest
from medssl.workflows.intake import clouds
from medssl.workflows.predict_settings import PredictSettings

__all__ = ["Failed", "Inputs", "Item", "Takes", "find_inputs"]

_LISTS = (".csv", ".tsv", ".parquet")
_NO_SCAN = {"label-without-image", "looks-like-labels", "set-aside"}


def find_inputs(
    paths: Sequence[Path], takes: Takes, settings: PredictSettings, *, progress: Callable[[int, int], None]
) -> Inputs:
    """Describe all that is named, as ``medssl index`` does, and make the items of it.

    Args:
        paths: Files, folders (all below them), folders of DICOM series, manifests, or CSVs that list scans.
        takes: What the run takes.
        settings: Channels, modality and the like by hand.
        progress: Called with (files looked at, files in all), for each group of paths.

    Raises:
        ConfigError: The channels that were named are not the run's.
        ManifestError: A path is not there, or a list cannot be read.
        DataError: There is nothing to predict.
    """
    found = Inputs()
    new = takes.domain.new_items
    wanted = new.wanted(takes, settings)
    for manifest in _manifests(paths, takes, wanted, settings, progress):
        notes = [*manifest.notes, *new.guesses(manifest)]
        found.notes += manifest.nameless().value(notes) if manifest.pseudonymous else notes
        _sort(manifest, takes, wanted, settings, found)
    _tell_apart(found)
    if not found.items and not found.failed:
        aside = "; ".join(f"{count} x {why}" for why, count in found.skipped.most_common())
        noun = takes.domain.noun
        scans = (
            " Name the scans themselves; what only looks like labels can be given as a manifest that was made with: "
        )
        hint = f"{scans}medssl index SCANS label_maps=scan" if "label" in aside else ""
        raise DataError(
            f"No {noun} was found in {', '.join(map(str, paths))}." + (f" Passed over: {aside}.{hint}" if aside else "")
        )
    return found


def _manifests(
    paths: Sequence[Path],
    takes: Takes,
    wanted: tuple[str, ...],
    settings: PredictSettings,
    progress: Callable[[int, int], None],
) -> list[Manifest]:
    """Return a manifest for each folder and list, and one for all single files."""
    found = []
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ManifestError(f"{path}: no such file or folder. Give scans, folders of scans, a manifest or a CSV.")
        if path.is_file() and path.suffix.lower() in _LISTS and _is_manifest(path):
            found.append(read_manifest(path))
        elif path.is_dir() or path.suffix.lower() in (".csv", ".tsv"):
            found.append(_described(path, None, takes, wanted, settings, progress))
        else:
            files.append(path.absolute())
    if files:
        root = files[0].parent if len(files) == 1 else Path(os.path.commonpath([file.parent for file in files]))
        found.append(_described(root, files, takes, wanted, settings, progress))
    return found


def _described(
    root: Path,
    only: Sequence[Path] | None,
    takes: Takes,
    wanted: tuple[str, ...],
    settings: PredictSettings,
    progress: Callable[[int, int], None],
) -> Manifest:
    """Return the manifest of a folder, or of some files of it.

    Raises:
        ConfigError: No scan has one of the channels.
    """

    def build(channels: str, previous: Manifest | None = None) -> Manifest:
        return build_manifest(
            root,
            previous=previous,
            workers=settings.workers,
            modality=settings.modality,
            val=0.0,
            test=0.0,
            stratify="none",
            clouds=clouds().reader(unit=settings.unit),
            picture_channel=settings.picture_channel,
            channels=channels,
            only=only,
            progress=progress,
        )[0]

    found: Manifest = takes.domain.new_items.described(build, wanted, settings)
    return found


def _is_manifest(path: Path) -> bool:
    """Tell a manifest of medssl from a CSV that lists scans."""
    if path.suffix.lower() == ".parquet":
        return True
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip() and not line.startswith("#")), "")
    heads = {word.strip().strip('"').lower() for word in first.replace(";", ",").replace("\t", ",").split(",")}
    return {"id", "path"} <= heads


def _sort(manifest: Manifest, takes: Takes, wanted: tuple[str, ...], settings: PredictSettings, found: Inputs) -> None:
    """Make items of the rows of a manifest."""
    rows = [row for row in manifest.rows() if row["keep"]]
    own = takes.domain
    good = []
    # Whoever indexed them as scans knows what they are, however their voxels look.
    no_scan = _NO_SCAN - ({"looks-like-labels"} if "label_maps=scan" in manifest.settings.get("given", ()) else set())
    for row in rows:
        aside = no_scan & set(row["flags"])
        if aside:
            found.skipped[_why_aside(row)] += 1
        elif row["kind"] != own.kind:
            other = next((domain.noun for domain in domains() if domain.kind == row["kind"]), row["kind"])
            found.skipped[f"a {other}, and {takes.run} takes {own.noun}s"] += 1
        elif row["error"] is not None:
            found.failed.append(failed_row(row, manifest, manifest.nameless().text(str(row["error"]))))
        else:
            good.append(row)
    asked = Asked(manifest=manifest, takes=takes, wanted=wanted, settings=settings)
    own.new_items.sorted(good, asked, found)


def _tell_apart(found: Inputs) -> None:
    """Give what shares an id over several folders names of its own, which hang on the files alone."""
    counts = Counter(name.casefold() for name in [*(i.id for i in found.items), *(f.id for f in found.failed)])

    def own(name: str, path: str) -> str:
        digest = hashlib.sha256(path.encode()).hexdigest()[:8]
        return f"{name}-{digest}" if counts[name.casefold()] > 1 else name

    found.items[:] = [replace(item, id=own(item.id, str(item.row["path"]))) for item in found.items]
    found.failed[:] = dict.fromkeys(replace(one, id=own(one.id, one.path)) for one in found.failed)
    seen: set[tuple[str, Any]] = set()
    unique = []
    for item in found.items:
        place_of = (item.id.casefold(), item.row["path"])
        if place_of in seen:
            found.skipped["named twice"] += 1
            continue
        seen.add(place_of)
        unique.append(item)
    found.items[:] = unique


def _why_aside(row: Mapping[str, Any]) -> str:
    flags = set(row["flags"])
    if "looks-like-labels" in flags:
        return "a label map, as its voxels look"
    if "label-without-image" in flags:
        return "a label, as its name says"
    return str(row["error"]).partition(" So are ")[0].rstrip(".")
