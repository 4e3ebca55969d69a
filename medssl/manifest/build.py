"""Making a manifest of a folder: found, read in parallel, and read again only where something changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medssl.formats.table import format_of
from medssl.manifest.assemble import assemble, give_splits, target_to_spread
from medssl.manifest.attach import find_label_maps, known_label_maps, on_their_grid, set_aside
from medssl.manifest.channel_cases import AUTO, find_cases
from medssl.manifest.clouds import CloudReader, cloud_pairs
from medssl.manifest.describe import describe, refresh
from medssl.manifest.index_journal import IndexJournal
from medssl.manifest.labels import label_series
from medssl.manifest.patients import compiled_pattern
from medssl.manifest.picture_folders import PictureRule
from medssl.manifest.reuse import difference, reusable
from medssl.manifest.rules.owners import owners_of
from medssl.manifest.rules.table_keys import table_patients
from medssl.manifest.schema import Manifest, manifest_of_rows
from medssl.manifest.series import series_sources
from medssl.manifest.series_cases import GAP_MM
from medssl.manifest.sources import Source
from medssl.manifest.structures import number_structures
from medssl.manifest.targets import TargetReport, add_targets
from medssl.manifest.walk import find_scans
from medssl.pool import Engine, default_workers, run_jobs

__all__ = ["LABELS", "SERIES", "Counts", "Targets", "build_manifest"]

Progress = Callable[[int, int], None]
_PATIENTS = 2  # how patients are found from names; keys of an earlier way may differ
SERIES = 1  # raise when the same DICOM headers come to be understood otherwise
LABELS = 2  # raise when the same label file comes to be understood otherwise
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
        waiting: Scans that are left to other shards.
    """

    read: int
    reused: int
    gone: int
    targets: TargetReport | None = None
    hashed: int = 0
    trusted: int = 0
    silent: tuple[str, ...] = ()
    waiting: int = 0


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
    stratify: str = "",
    keep_split: bool = True,
    label_maps: str = "pair",
    clouds: CloudReader | None = None,
    targets: Targets | None = None,
    verify: bool = False,
    pictures: PictureRule = "auto",
    picture_channel: str = "",
    channels: str = AUTO,
    channel_gap_mm: float = GAP_MM,
    only: Sequence[Path] | None = None,
    journal: IndexJournal | None = None,
    progress: Progress | None = None,
) -> tuple[Manifest, Counts]:
    """Describe every scan of a folder.

    Args:
        scans: A folder, one scan, or a CSV that lists scans.
        previous: What an earlier run found. Rows whose files are as they were are kept (see `freshness`); scans that
            could not be read are tried again.
        depth: "full", or "header" to read no voxels.
        workers: Processes that read; 0 takes one a processor where there is much to read.
        engine: Where they run, see `medssl.pool.run_jobs`.
        modality: What all scans are, where the user knows better.
        patient_pattern: Regular expression that finds the patient's key in a path.
        val: Share of patients for validation.
        test: Share of patients for testing.
        seed: Seed of the split.
        stratify: The target whose classes are spread evenly over the splits; "" takes the only one, "none" none.
        keep_split: Keep the split of folders that are called train, val and test.
        label_maps: What becomes of scans whose voxels look like label maps: "pair" takes them as the label of a scan
            of their patient on their grid and sets the others aside, "aside" sets all aside, "scan" keeps them.
        clouds: Who reads point clouds; without one they are passed over.
        targets: A table of classes. Without one, targets of ``previous`` stay.
        verify: Hash the bytes of every file again, whatever the file system says.
        pictures: Which folders of pictures are scans of several slices; see `picture_folders`.
        picture_channel: What to take of pictures in colour; "" refuses them.
        channels: Which scans are channels of one case: "auto", "none", "frames", or names with commas between them.
        channel_gap_mm: How far, in mm, the first channel of a study may reach beyond a DICOM series that is to be
            another one.
        only: Files below the folder that are looked at; None takes all.
        journal: Keeps what is read, see `index_journal`. Where it is of one shard of several and others have not read
            all of theirs, the manifest is empty and ``Counts.waiting`` says how many scans are left to them.
        progress: Called with (files done, files in all).

    Raises:
        ConfigError: The pattern is no regular expression, the shares leave nothing to train on, or no scan has one of
            the channels.
        ManifestError: There is no such folder, or the CSV lists no paths.
        MissingDependencyError: Ray is asked for and not installed.
    """
    pattern = compiled_pattern(patient_pattern)
    scans = Path(scans).absolute()
    found, tree = find_scans(scans, clouds, keep_split=keep_split, pictures=pictures, only=only)
    before = list(previous.rows()) if previous else []
    old = {tuple(row["paths"]): row for row in before if row["kind"] == "volume"}
    grouped = previous is not None and previous.settings.get("series") == SERIES and not verify
    marks = previous.settings.get("dicom", {}) if previous and grouped else {}
    hands = _hands(workers, engine, tree.dicom)
    series, marks = series_sources(tree.dicom, tree.root, old=old, marks=marks, workers=hands, engine=engine)
    files, series = label_series([source for source in found.sources if source.kind == "volume"], _owned(series))
    files, notes = on_their_grid(files)
    by_hand = found.layout == "csv" or label_maps == "scan"
    if previous and label_maps == "pair" and not by_hand:
        files = known_label_maps(files, previous.settings.get("label_maps", {}), old)
    sources, classes, said_of_names = number_structures(
        [*files, *series], found.classes, ignored=found.ignored, before=previous.classes if previous else None
    )
    sources = [replace(one, picture_channel=picture_channel) if _is_picture(one) else one for one in sources]
    # Counts of an earlier index hold only where values mean the same now.
    meant = previous is not None and (previous.classes, previous.ignored) == (classes, found.ignored)
    meant = meant and previous is not None and previous.settings.get("labels") == LABELS
    of_clouds = [source for source in found.sources if source.kind == "cloud"]
    total = len(sources) + len(of_clouds)
    kept, asked, trusted = reusable(sources, old, depth=depth, meant=meant, verify=verify)
    if journal is not None:
        kept |= {n: row for n, one in enumerate(sources) if n not in kept and (row := journal.known(one)) is not None}
    part, parts = (0, 1) if journal is None else journal.shard
    others = [place for place in range(len(sources)) if place not in kept and place % parts != part]
    fresh = [place for place in range(len(sources)) if place not in kept and place % parts == part]
    facts: dict[int, Mapping[str, Any]] = dict(kept)
    if progress:
        progress(len(kept), total)
    jobs = {place: (sources[place], depth, asked.get(place)) for place in fresh}
    hands = _hands(workers, engine, [source.path for source, _, _ in jobs.values()])
    hashed, silent = 0, []
    for place, row in run_jobs(refresh, jobs, workers=hands, crashed=_crashed, engine=engine, files=_count):
        facts[place] = row
        if journal is not None:
            journal.add(sources[place], row)
        if place in asked:
            changes = difference(asked[place], row)
            hashed += not changes
            silent += [words for words, quietly in changes if quietly]
        if progress:
            progress(len(facts), total)
    if others:
        return manifest_of_rows([]), Counts(read=len(fresh), reused=len(kept), gone=0, waiting=len(others))
    seen: dict[str, str] = {}
    if not by_hand:
        sources, facts, seen, said = _label_maps(sources, facts, depth, pair=label_maps == "pair", workers=hands)
        notes += said
        earlier = previous.settings.get("label_maps", {}) if previous else {}
        paths = {(str(source.path), str(source.label_path)) for source in sources}
        seen |= {image: label for image, label in earlier.items() if (image, label) in paths}
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
    named = table_patients(targets.file, (s.relative for s in sources), key=targets.key) if targets else {}
    rows = assemble([*pairs, *held], modality=modality, pattern=pattern, table=named)
    by_files = {tuple(said["paths"]): source for source, said in pairs}
    cases = find_cases(rows, by_files, asked=channels, named=found.channels, gap_mm=channel_gap_mm)
    split = {"val": val, "test": test, "seed": seed}
    known: dict[str, str] = {}
    if previous and previous.settings.get("split") == split:
        known, more = _known_splits(rows, previous)
        notes += more
    report = add_targets(rows, targets.file, key=targets.key, columns=targets.columns) if targets else None
    spread = target_to_spread(rows, stratify)
    give_splits(
        rows,
        val=0.0 if "val" in found.held else val,
        test=0.0 if "test" in found.held else test,
        seed=seed,
        known=known,
        stratify=spread,
    )
    manifest = manifest_of_rows(
        rows,
        classes=classes,
        ignored=found.ignored,
        regions=found.regions,
        notes=[*found.notes, *notes, *cases.notes, *said_of_names],
        root=str(tree.root),
        settings={"split": split, "depth": depth, "layout": found.layout, "dicom": marks, "patients": _PATIENTS}
        | {"label_maps": seen, "labels": LABELS, "channels": list(cases.order), "series": SERIES}
        | ({"listed": str(scans)} if found.layout == "csv" else {})
        | _spread(spread, previous, known)
        | ({"clouds": dict(clouds.settings)} if clouds else {})
        | ({"of_clouds": found.of_clouds} if found.of_clouds else {}),
    )
    present = {_place(row) for row in manifest.rows()}
    return manifest, Counts(
        read=len(fresh) - hashed + len(held) - reused,
        reused=len(kept) + hashed + reused,
        gone=len({_place(row) for row in before} - present),
        targets=report,
        hashed=hashed,
        trusted=trusted,
        silent=tuple(silent),
    )


def _owned(series: Sequence[Source]) -> list[Source]:
    """Guess from folders whose series are, for those whose header names no one."""
    owners = owners_of(source.relative for source in series)
    return [
        replace(source, patient=owner.patient, patient_rule=owner.rule)
        if (owner := owners[source.relative]).patient.strip(".")
        else source
        for source in series
    ]


def _label_maps(
    sources: Sequence[Source], facts: Mapping[int, Mapping[str, Any]], depth: str, *, pair: bool, workers: int
) -> tuple[list[Source], dict[int, Mapping[str, Any]], dict[str, str], list[str]]:
    """Attach files that look like label maps to their scans, which are read once more, and set the others aside.

    Returns:
        Sources and facts without the labels, image -> label of those that were attached, and sentences.
    """
    found = find_label_maps(sources, facts, pair=pair)
    result = {place: (source, facts[place]) for place, source in enumerate(sources)}
    for place in found.aside:
        result[place] = set_aside(*result[place])
    labelled = {n: replace(sources[n], label_path=sources[label].path) for n, label in found.label_of.items()}
    jobs = {place: (source, depth, None) for place, source in labelled.items()}
    for place, row in run_jobs(refresh, jobs, workers=workers, crashed=_crashed, files=_count):
        result[place] = (labelled[place], row)
    kept = [pair for place, pair in result.items() if place not in set(found.label_of.values())]
    attached = {str(sources[image].path): str(sources[label].path) for image, label in found.label_of.items()}
    return [one for one, _ in kept], {n: said for n, (_, said) in enumerate(kept)}, attached, list(found.notes)


def _spread(target: str, previous: Manifest | None, known: Mapping[str, str]) -> dict[str, str]:
    """Return which target's classes the split spreads, and which it would if it were drawn anew."""
    before = previous.settings.get("stratify", "") if previous else ""
    return {"stratify": before, "stratify_anew": target} if known and before != target else {"stratify": target}


def _known_splits(rows: Sequence[Mapping[str, Any]], previous: Manifest) -> tuple[dict[str, str], list[str]]:
    """Return patient -> split of an earlier manifest, by the scans that it knew; their keys may have changed since.

    Of a patient whose scans counted as several patients and lay in several splits, the strongest is kept: a test scan
    stays one. Where the keys are of an earlier way to find patients, such patients are drawn anew, and it is said.
    """
    earlier = {_place(row): row["split"] for row in previous.rows() if row["split"]}
    known = {row["patient"]: row["split"] for row in previous.rows() if row["split"]}
    votes: dict[str, set[str]] = {}
    for row in rows:
        split = earlier.get((*row["paths"], row.get("item")))
        if split:
            votes.setdefault(row["patient"], set()).add(split)
    torn = sorted(patient for patient, splits in votes.items() if len(splits) > 1)
    known |= {patient: min(splits, key=("test", "val", "train").index) for patient, splits in votes.items()}
    if not torn or previous.settings.get("patients") == _PATIENTS:
        return known, []
    note = (
        f"{len(torn)} patients had scans in several splits of the earlier manifest, which told patients apart by whole "
        f"names; their splits are drawn anew, such as {torn[0]}."
    )
    return {patient: split for patient, split in known.items() if patient not in torn}, [note]


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*row["paths"], row["item"])


def _hands(asked: int, engine: Engine, paths: Sequence[Path]) -> int:
    """Return how many processes pay: one reads some hundred megabytes while others start. One there is always."""
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


def _is_picture(source: Source) -> bool:
    return format_of((source.paths or (source.path,))[0]) == "image"


def _crashed(job: tuple[Any, ...], why: str) -> dict[str, Any]:
    return describe(replace(job[0], error=why))


def _count(job: tuple[Any, ...]) -> int:
    return len(job[0].paths)
