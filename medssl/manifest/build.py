"""Making a manifest of a folder: found, read in parallel, and read again only where something changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medssl.manifest.assemble import assemble, give_splits
from medssl.manifest.clouds import CRASHED, CloudReader, cloud_pairs
from medssl.manifest.describe import CONTENT_SCHEME, describe, size_and_time
from medssl.manifest.labels import label_series
from medssl.manifest.patients import compiled_pattern
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
    """

    read: int
    reused: int
    gone: int
    targets: TargetReport | None = None


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
    progress: Progress | None = None,
) -> tuple[Manifest, Counts]:
    """Describe every scan of a folder.

    Args:
        scans: A folder, one scan, or a CSV that lists scans.
        previous: What an earlier run found. Rows whose files have the same size and time of change are kept; scans
            that could not be read are tried again.
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
        progress: Called with (files done, files in all).

    Raises:
        ConfigError: The pattern is no regular expression, or the shares leave nothing to train on.
        ManifestError: There is no such folder, or the CSV lists no paths.
        MissingDependencyError: Ray is asked for and not installed.
    """
    pattern = compiled_pattern(patient_pattern)
    scans = Path(scans).absolute()
    found, tree = find_scans(scans, clouds)
    before = list(previous.rows()) if previous else []
    old = {tuple(row["paths"]): row for row in before if row["kind"] == "volume"}
    marks = previous.settings.get("dicom", {}) if previous else {}
    hands = _hands(workers, engine, tree.dicom)
    series, marks = series_sources(tree.dicom, tree.root, old=old, marks=marks, workers=hands, engine=engine)
    files, series = label_series([source for source in found.sources if source.kind == "volume"], series)
    sources = [*files, *series]
    of_clouds = [source for source in found.sources if source.kind == "cloud"]
    total = len(sources) + len(of_clouds)
    kept: dict[int, Mapping[str, Any]] = {}
    for place, source in enumerate(sources):
        row = old.get(tuple(str(p) for p in source.paths or (source.path,)))
        if row is not None and _unchanged(source, row, depth):
            # What a reduction said held for the scans of that time, and is said anew.
            kept[place] = {name: row[name] for name in COLUMNS if name not in REDUCED}
    fresh = [place for place in range(len(sources)) if place not in kept]
    facts: dict[int, Mapping[str, Any]] = dict(kept)
    if progress:
        progress(len(kept), total)
    jobs = {place: (sources[place], depth) for place in fresh}
    hands = _hands(workers, engine, [source.path for source, _ in jobs.values()])
    for place, row in run_jobs(describe, jobs, workers=hands, crashed=_crashed, engine=engine):
        facts[place] = row
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
        | ({"clouds": dict(clouds.settings)} if clouds else {})
        | ({"of_clouds": found.of_clouds} if found.of_clouds else {}),
    )
    present = {_place(row) for row in manifest.rows()}
    return manifest, Counts(
        read=len(fresh) + len(held) - reused,
        reused=len(kept) + reused,
        gone=len({_place(row) for row in before} - present),
        targets=said,
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


def _unchanged(source: Source, row: Mapping[str, Any], depth: str) -> bool:
    if row["error"] is not None or source.error is not None:
        return False
    if depth == "full" and not (row["content_hash"] or "").startswith(CONTENT_SCHEME):
        return False
    label = str(source.label_path) if source.label_path else None
    if label != row["label_path"]:
        return False
    try:
        same = size_and_time(source.paths or (source.path,)) == (row["size_bytes"], row["mtime_ns"])
        if source.label_path:
            same &= size_and_time([source.label_path]) == (row["label_size_bytes"], row["label_mtime_ns"])
    except OSError:
        return False
    return same


def _crashed(job: tuple[Any, ...]) -> dict[str, Any]:
    return describe(replace(job[0], error=CRASHED))
