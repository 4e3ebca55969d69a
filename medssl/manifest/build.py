"""Making a manifest of a folder: found, read in parallel, and read again only where something changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medssl.formats.picture_stack import STACK
from medssl.formats.table import format_of
from medssl.manifest.assemble import assemble, give_splits
from medssl.manifest.clouds import CRASHED, CloudReader, cloud_pairs
from medssl.manifest.describe import CONTENT_SCHEME, describe, refresh
from medssl.manifest.freshness import state_of
from medssl.manifest.labels import label_series
from medssl.manifest.patients import compiled_pattern
from medssl.manifest.picture_folders import PictureRule
from medssl.manifest.schema import COLUMNS, REDUCED, Manifest, manifest_of_rows
from medssl.manifest.series import series_sources
from medssl.manifest.sources import Source
from medssl.manifest.targets import TargetReport, add_targets
from medssl.manifest.walk import find_scans
from medssl.pool import Engine, default_workers, run_jobs

__all__ = ["Counts", "Targets", "build_manifest"]

Progress = Callable[[int, int], None]
_WORTH_A_POOL_BYTES = 200 << 20


@dataclass(frozen=True)
class Counts:
    """What a run did.

    Attributes:
        read: Scans that were read.
        reused: Scans whose files had not changed.
        gone: Scans of the earlier manifest that are no longer there.
        targets: What became of the table of targets; None where there was none.
        hashed: Of the reused ones, those whose bytes were looked at and are the same.
        trusted: Of the reused ones, those of an index that kept too little to be sure; ``verify`` can tell.
        silent: Files whose bytes changed while size and time of change stayed, each with what changed.
    """

    read: int
    reused: int
    gone: int
    targets: TargetReport | None = None
    hashed: int = 0
    trusted: int = 0
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Targets:
    """A table of classes; see `medssl.manifest.targets.add_targets`.

    Attributes:
        file: The CSV.
        key: The column that names patients or scans; "" finds it.
        columns: Target -> column; empty takes every column of classes.
    """

    file: Path
    key: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def build_manifest(
    scans: Path,
    *,
    previous: Manifest | None = None,
    depth: str = "full",
    workers: int = 0,
    engine: Engine = "processes",
    modality: str = "",
    patient_pattern: str = "",
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    clouds: CloudReader | None = None,
    targets: Targets | None = None,
    verify: bool = False,
    pictures: PictureRule = "auto",
    picture_channel: str = "",
    progress: Progress | None = None,
) -> tuple[Manifest, Counts]:
    """Describe every scan of a folder.

    Args:
        scans: A folder, one scan, or a CSV that lists scans.
        previous: What an earlier run found. Rows whose files are as they were are kept (see `freshness`); scans that
            could not be read are tried again.
        depth: "full", or "header" to read no voxels.
        workers: Processes that read; 1 reads in this one; 0 takes one a processor where there is much to read.
        engine: Where they run, see `medssl.pool.run_jobs`.
        modality: What all scans are, where the user knows better.
        patient_pattern: Regular expression that finds the patient's key in a path.
        val: Share of patients for validation.
        test: Share of patients for testing.
        seed: Seed of the split.
        clouds: Who reads point clouds; without one they are passed over.
        targets: A table of classes. Without one, targets of ``previous`` stay.
        verify: Hash the bytes of every file again, whatever the file system says.
        pictures: Which folders of pictures are scans of several slices; see `picture_folders`.
        picture_channel: What to take of pictures in colour; "" refuses them.
        progress: Called with (files done, files in all).

    Raises:
        ConfigError: The pattern is no regular expression, or the shares leave nothing to train on.
        ManifestError: There is no such folder, or the CSV lists no paths.
        MissingDependencyError: Ray is asked for and not installed.
    """
    pattern = compiled_pattern(patient_pattern)
    scans = Path(scans).absolute()
    found, tree = find_scans(scans, clouds, pictures=pictures)
    before = list(previous.rows()) if previous else []
    old = {tuple(row["paths"]): row for row in before if row["kind"] == "volume"}
    by_path = {row["path"]: row for row in old.values() if row["format"] not in ("dicom", STACK)}
    marks = previous.settings.get("dicom", {}) if previous and not verify else {}
    hands = _hands(workers, engine, tree.dicom)
    series, marks = series_sources(tree.dicom, tree.root, old=old, marks=marks, workers=hands, engine=engine)
    files, series = label_series([source for source in found.sources if source.kind == "volume"], series)
    sources = [replace(one, channel=picture_channel) if _is_picture(one) else one for one in (*files, *series)]
    of_clouds = [source for source in found.sources if source.kind == "cloud"]
    total = len(sources) + len(of_clouds)
    kept: dict[int, Mapping[str, Any]] = {}
    asked: dict[int, Mapping[str, Any]] = {}
    trusted = 0
    for place, source in enumerate(sources):
        row = old.get(tuple(map(str, source.paths))) if source.paths else by_path.get(str(source.path))
        if row is None or not _holds(source, row, depth):
            continue
        state = state_of(row)
        # What a reduction said held for the scans of that time, and is said anew.
        plain = {name: row[name] for name in COLUMNS if name not in REDUCED}
        if state == "ask" or (verify and state != "changed"):
            asked[place] = plain
        elif state != "changed":
            kept[place] = plain
            trusted += state == "trusted"
    fresh = [place for place in range(len(sources)) if place not in kept]
    facts: dict[int, Mapping[str, Any]] = dict(kept)
    if progress:
        progress(len(kept), total)
    jobs = {place: (sources[place], depth, asked.get(place)) for place in fresh}
    hands = _hands(workers, engine, [source.path for source, _, _ in jobs.values()])
    hashed, silent = 0, []
    for place, row in run_jobs(refresh, jobs, workers=hands, crashed=_crashed, engine=engine):
        facts[place] = row
        if place in asked:
            changes = _difference(asked[place], row)
            hashed += not changes
            silent += [words for words, quietly in changes if quietly]
        if progress:
            progress(len(facts), total)
    pairs = [(source, facts[i]) for i, source in enumerate(sources)]
    held: list[tuple[Source, Mapping[str, Any]]] = []
    reused = 0
    if clouds and of_clouds:
        held, reused = cloud_pairs(
            of_clouds,
            clouds,
            old=before if previous and previous.settings.get("clouds") == clouds.settings else (),
            depth=depth,
            workers=_hands(workers, engine, [source.path for source in of_clouds]),
            engine=engine,
            verify=verify,
            done=lambda count: progress(len(facts) + count, total) if progress else None,
        )
    rows = assemble([*pairs, *held], modality=modality, pattern=pattern)
    split = {"val": val, "test": test, "seed": seed}
    known: dict[str, str] = {}
    if previous and previous.settings.get("split") == split:
        known = {row["patient"]: row["split"] for row in previous.rows() if row["split"]}
    said = add_targets(rows, targets.file, key=targets.key, columns=targets.columns) if targets else None
    give_splits(rows, val=val, test=test, seed=seed, known=known)
    manifest = manifest_of_rows(
        rows,
        classes=found.classes,
        notes=found.notes,
        root=str(tree.root),
        settings={"split": split, "depth": depth, "layout": found.layout, "dicom": marks}
        | ({"clouds": dict(clouds.settings)} if clouds else {}),
    )
    present = {_place(row) for row in manifest.rows()}
    return manifest, Counts(
        read=len(fresh) - hashed + len(held) - reused,
        reused=len(kept) + hashed + reused,
        gone=len({_place(row) for row in before} - present),
        targets=said,
        hashed=hashed,
        trusted=trusted,
        silent=tuple(silent),
    )


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*row["paths"], row["item"])


def _hands(asked: int, engine: Engine, paths: Sequence[Path]) -> int:
    """Return how many processes pay: starting them takes seconds, in which one reads some hundred megabytes."""
    if asked or engine == "ray":  # a cluster knows its own size
        return asked
    size = 0
    for path in paths:
        try:
            files = list(path.iterdir()) if path.is_dir() else [path]
            size += sum(file.stat().st_size for file in files)
        except OSError:
            continue  # the reader will say what is wrong with it
        if size > _WORTH_A_POOL_BYTES:
            return default_workers()
    return 1


def _holds(source: Source, row: Mapping[str, Any], depth: str) -> bool:
    """Return whether a row may be kept where its files are as they were: made of the same source in the same way."""
    if row["error"] is not None or source.error is not None:
        return False
    if depth == "full" and not (row["content_hash"] or "").startswith(CONTENT_SCHEME):
        return False
    if len(row["paths"]) == 1 and row["path"].lower().endswith((".mhd", ".nhdr")):
        return False  # of an earlier release, which took the header for the scan
    if json.loads(row["fields"] or "{}").get("picture_channel", "") != source.channel:
        return False
    return bool((str(source.label_path) if source.label_path else None) == row["label_path"])


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return what changed in the bytes of a row's files, in words, and whether size and time had said nothing of it."""
    found = []
    for prefix, what, path in (("", "the scan", old["path"]), ("label_", "the label", old["label_path"])):
        if path and new.get(f"{prefix}file_hash") != old[f"{prefix}file_hash"]:
            quietly = bool(old[f"{prefix}file_hash"]) and all(
                new.get(f"{prefix}{name}") == old[f"{prefix}{name}"] for name in ("size_bytes", "mtime_ns")
            )
            found.append(
                (f"{path}: {what} holds other bytes, though its size and time of change are the same", quietly)
            )
    return found or ([("", False)] if new.get("error") else [])


def _is_picture(source: Source) -> bool:
    return format_of((source.paths or (source.path,))[0]) == "image"


def _crashed(job: tuple[Any, ...]) -> dict[str, Any]:
    return describe(replace(job[0], error=CRASHED))
