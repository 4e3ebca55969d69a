"""From a manifest to the scans that a store shall hold, and which of them it holds already."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl import geometry
from medssl.errors import CacheError, ConfigError, DataError, FormatError
from medssl.formats.label_map import structure_names
from medssl.formats.parts import label_files
from medssl.manifest.freshness import file_hash, label_hash, stamp
from medssl.manifest.label_doubts import counts_of, shared_labels, stray_values
from medssl.manifest.pointer import pointer_to
from medssl.manifest.scales import HU, mixed_scales, scale_of, told
from medssl.manifest.targets import targets_of
from medssl.nameless import Nameless
from medssl.pool import isolated
from medssl.regions import Region
from medssl.store.accepting import how_to_accept
from medssl.store.index import SCANS, Record, read_record, record_path, stem_of
from medssl.store.options import NOT_IN_KEYS, StoreSettings
from medssl.store.plan_cases import CasePlan, Member, cases_asked
from medssl.store.prepare import Job, Source

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = ["Plan", "held_record", "make_plan", "names_in", "shard_of", "stored_record", "up_to_date"]

Spacing = tuple[float, float, float]
_LABEL_RECIPE = 2  # the same for what a label file comes to mean
_RECIPE = 1  # raise when the same settings come to give other voxels


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a store shall hold.

    Attributes:
        jobs: Every scan or case that is kept, in the order of the manifest.
        unreadable: Scans that the manifest itself lists as unreadable, and cases that contradict themselves, id ->
            reason.
        settings: As asked for.
        spacings: Voxel size that each modality gets; empty where scans keep their own.
        classes: Names of the structures.
        ignored: Label values that say "not known".
        regions: Unions of structures.
        notes: What is said of channels and cases.
        manifest: What it was made of.
    """

    jobs: tuple[Job, ...]
    unreadable: dict[str, str]
    settings: StoreSettings
    spacings: dict[str, Spacing]
    classes: dict[int, str]
    ignored: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[str, ...] = ()
    manifest: Manifest | None = None

    @property
    def noun(self) -> str:
        """What it holds: "scans", or "cases" of several channels."""
        return "cases" if any(job.channels for job in self.jobs) else "scans"

    def missing(self, folder: Path, shard: tuple[int, int] = (0, 1)) -> list[Job]:
        """Return the scans of a shard, (index from 0, count), that the store does not hold yet in this version."""
        there = names_in(folder) if shard[1] == 1 else None  # of a part, asking for its files alone is cheaper
        return [job for job in self.jobs[shard[0] :: shard[1]] if held_record(folder, job, there) is None]

    def pointer(self, folder: Path) -> str:
        """Return where the manifest is, as seen from the store; see `medssl.manifest.pointer`."""
        return "" if self.manifest is None else pointer_to(self.manifest, folder)

    def nameless(self) -> Nameless:
        """Return what takes the names of files and folders out of what the store keeps."""
        if self.manifest is None or self.settings.privacy == "paths":
            return Nameless({})
        return self.manifest.nameless()

    def described(self) -> dict[str, Any]:
        """Return the settings as ``store.json`` keeps them."""
        return {**self.settings.model_dump(mode="json"), "spacings_mm": {k: list(v) for k, v in self.spacings.items()}}


def make_plan(manifest: Manifest, settings: StoreSettings) -> Plan:
    """Return what a store of a manifest shall hold.

    A source that may have changed since it was indexed (its size, time, inode or time of touch) is hashed anew.

    Args:
        manifest: The scans.
        settings: How to store them.

    Raises:
        ConfigError: A channel is asked for that the manifest does not have.
        DataError: There is no readable scan in the manifest, every case lacks a channel, or its CT are on several
            scales and nobody accepts that.
    """
    rows = [row for row in manifest.kept().rows() if row["kind"] == "volume"]
    unreadable = {row["id"]: row["error"] for row in rows if row["error"] is not None}
    good = [row for row in rows if row["error"] is None]
    if not good:
        extra = f" {len(unreadable)} cannot be read." if unreadable else ""
        raise DataError(f"The manifest has no readable scan to store.{extra} Look at it with `medssl check`.")
    asked = cases_asked(manifest.kept(), settings)
    if asked.channels:
        members = [member.row for case in asked.cases for member in case.members if member.row is not None]
        good = list({row["id"]: dict(row) for row in members}.values())
    groups = mixed_scales(good)
    if groups and not settings.mixed_scales:
        raise DataError(
            f"The CT of the manifest are on several scales: {told(groups)}. A network would take them for one. "
            "Convert all to HU, or index them one by one; mixed_scales=true stores each on its own scale."
        )
    cases = {case.row["id"]: case for case in asked.cases}
    leading = [case.row for case in asked.cases] if asked.channels else good
    spacings = _spacings(leading, settings)
    meaning = _Meaning(manifest, leading, settings)
    jobs = tuple(
        _job(row, settings, spacings.get(_modality(row)), meaning, case=cases.get(row["id"]), usual=asked.usual)
        for row in leading
    )
    return Plan(
        jobs=jobs,
        unreadable={**unreadable, **asked.refused},
        notes=asked.notes,
        settings=settings,
        spacings=spacings,
        classes=dict(manifest.classes),
        ignored=manifest.ignored,
        regions=manifest.regions,
        manifest=manifest,
    )


def names_in(folder: Path) -> frozenset[str]:
    """Return the names of all files of scans in a store, in one pass over its folder."""
    try:
        with os.scandir(folder / SCANS) as found:
            return frozenset(item.name for item in found)
    except FileNotFoundError:
        return frozenset()


def held_record(folder: Path, job: Job, there: frozenset[str] | None = None) -> Record | None:
    """Return the record of a scan that the store holds in this version, as it was written.

    Args:
        folder: The store.
        job: The scan.
        there: `names_in` of the store, which saves asking for each file; None asks.
    """
    path = record_path(folder, stem_of(job.id, job.key))
    if not path.exists() if there is None else path.name not in there:
        return None
    try:
        record = read_record(path)
    except CacheError:
        return None
    if record.key != job.key:
        return None
    if there is None:
        return record if all((folder / file).exists() for file in record.checksums) else None
    return record if all(Path(file).name in there for file in record.checksums) else None


def stored_record(folder: Path, job: Job) -> Record | None:
    """Return the record of a scan that the store holds in this version, brought up to date with the manifest."""
    record = held_record(folder, job)
    return None if record is None else up_to_date(record, job)


def up_to_date(record: Record, job: Job) -> Record:
    """Return a record with what the manifest says now of patient, split, targets and places."""
    entry = replace(
        record.entry,
        patient=job.patient,
        split=job.split,
        source_path=job.kept_path,
        label_path=None if record.label_refused else job.kept_label_path,
        targets=job.targets,
    )
    if job.channels:
        kept = job.settings.privacy == "paths"
        paths = {source.name: source.path if kept else "" for source in job.channels}
        more = tuple(replace(channel, source_path=paths.get(channel.name, "")) for channel in entry.more)
        entry = replace(entry, source_path=paths[job.channels[0].name], more=more)
    clean = job.nameless()  # stores of earlier releases kept paths
    return replace(
        record,
        entry=entry,
        label_refused=clean.text(record.label_refused),
        flags=tuple(clean.text(flag) for flag in record.flags),
    )


def shard_of(text: str) -> tuple[int, int]:
    """Return (index from 0, count) of a shard written as "i/n", i from 1.

    Example:
        >>> shard_of("2/8")
        (1, 8)

    Raises:
        ConfigError: It is written otherwise or out of range.
    """
    part, slash, whole = text.partition("/")
    if slash and part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole):
        return int(part) - 1, int(whole)
    raise ConfigError(f"shard must be i/n with 1 <= i <= n, such as 2/8. Got {text!r}.")


class _Meaning:
    """What label values mean in a cohort, and which labels are not to be used for what other scans say."""

    def __init__(self, manifest: Manifest, rows: Sequence[Mapping[str, Any]], settings: StoreSettings) -> None:
        self.classes, self.ignored = manifest.classes, manifest.ignored
        self.strays = stray_values(counts_of(rows), manifest.classes)
        self._shared = {} if "label-shared" in settings.accept else shared_labels(rows)
        self._accept = sorted(kind for kind in settings.accept if kind.startswith("label-"))

    def fault(self, row: Mapping[str, Any]) -> str:
        """Return why a label is not to be used, "" where it is."""
        patients = self._shared.get(row["label_path"] or "")
        if not patients:
            return ""
        named = ", ".join(patients[:4]) + (", ..." if len(patients) > 4 else "")
        return (
            f"label-shared: {row['label_path']}: {len(patients)} patients name this label ({named}). "
            + how_to_accept("label-shared")
        )

    def version(self, row: Mapping[str, Any]) -> Any:
        """Return everything that a stored label depends on, besides settings of all scans."""
        path = row["label_path"]
        if not path:
            return None
        try:
            named = bool(isolated(structure_names, Path(path)))
        except (FormatError, OSError):
            named = True
        return {
            "recipe": _LABEL_RECIPE,
            "hash": _label_hash(row),
            "classes": sorted(self.classes.items()) if named else [255] if 255 in self.classes else [],
            "ignored": list(self.ignored),
            "strays": sorted(self.strays),
            "accept": self._accept,
            "fault": self.fault(row),
        }


def _job(
    row: Mapping[str, Any],
    settings: StoreSettings,
    spacing: Spacing | None,
    meaning: _Meaning,
    *,
    case: CasePlan | None = None,
    usual: Mapping[str, Mapping[str, Any]],
) -> Job:
    paths = tuple(row["paths"] or ())
    content = {
        "recipe": _RECIPE,
        "source": _version_of(row),
        "label": meaning.version(row),
        "modality": _modality(row),
        "spacing_mm": spacing,
        "settings": settings.model_dump(mode="json", exclude=set(NOT_IN_KEYS)),
    }
    hounsfield = _hounsfield(row)
    if not hounsfield and row["modality"] == "CT":
        content["scale"] = "percentiles"  # before, every CT counted as HU
    if settings.grid == "spacing":
        del content["settings"]["grid"]  # before, there was no other: scans that were stored then keep their keys
    channel = _picture_channel(row)
    if channel:
        content["channel"] = channel
    channels = tuple(_source(member, usual) for member in case.members) if case else ()
    fault = meaning.fault(row) or (case.label_fault if case else "")
    if case:
        content["channels"] = [_channel_version(member) for member in case.members]
        content["fault"] = fault
    return Job(
        id=row["id"],
        path=row["path"],
        paths=paths,
        modality=row["modality"],
        units=HU if hounsfield else "arbitrary",
        patient=row["patient"] or "",
        split=row["split"] or "",
        label_path=row["label_path"],
        spacing_mm=spacing,
        key=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        voxels=_voxels(row, spacing) * max(1, sum(bool(source.path) for source in channels)),
        settings=settings,
        targets=tuple(sorted(targets_of(row).items())),
        classes=tuple(sorted(meaning.classes.items())),
        ignored=meaning.ignored,
        strays=tuple(meaning.strays),
        label_fault=fault,
        label_counted=bool(row["label_values"]),
        picture_channel=channel,
        channels=channels,
    )


def _source(member: Member, usual: Mapping[str, Mapping[str, Any]]) -> Source:
    """Return where a channel comes from; of one that is lacking, what other cases say of it."""
    row = member.row if member.row is not None else usual.get(member.name)
    if row is None:
        return Source(name=member.name)
    kind = Source(
        name=member.name,
        modality=str(row["modality"]),
        units=HU if _hounsfield(row) else "arbitrary",
    )
    if member.row is None:
        return kind
    return replace(
        kind,
        path=row["path"],
        paths=tuple(row["paths"] or ()),
        picture_channel=_picture_channel(row),
        frame=member.frame,
    )


def _channel_version(member: Member) -> list[Any]:
    """Return everything that a stored channel depends on, besides settings of all."""
    if member.row is None:
        return [member.name, None]
    row = member.row
    return [member.name, _version_of(row), _modality(row), _hounsfield(row), _picture_channel(row), member.frame]


def _picture_channel(row: Mapping[str, Any]) -> str:
    return str(json.loads(row["fields"] or "{}").get("picture_channel", ""))


def _hounsfield(row: Mapping[str, Any]) -> bool:
    """Return whether the values are HU: as the manifest says, or a CT that nothing speaks against."""
    return bool(row["units"] == HU or (row["modality"] == "CT" and row["format"] != "dicom" and scale_of(row) == HU))


def _modality(row: Mapping[str, Any]) -> str:
    return "CT" if row["units"] == "HU" else str(row["modality"])


def _spacings(rows: Sequence[Mapping[str, Any]], settings: StoreSettings) -> dict[str, Spacing]:
    """Return the voxel size of each modality, in the order of the axes after turning."""
    modalities = sorted({_modality(row) for row in rows})
    if settings.spacing_mm == "keep":
        return {}
    if settings.spacing_mm != "median":
        return dict.fromkeys(modalities, settings.spacing_mm)
    chosen: dict[str, Spacing] = {}
    for modality in modalities:
        found = [size for row in rows if _modality(row) == modality and (size := _turned_spacing(row)) is not None]
        if not found:
            raise DataError(
                f"spacing_mm=median needs the voxel sizes of the {modality} scans, and the manifest has none. "
                "Make the manifest with `medssl index`, or give a voxel size such as spacing_mm=[2.5,1.5,1.5]."
            )
        z, y, x = (round(statistics.median(axis), 3) for axis in zip(*found, strict=True))
        chosen[modality] = (z, y, x)
    return chosen


def _turned_spacing(row: Mapping[str, Any]) -> Spacing | None:
    """Return the voxel size after turning to RAS; the manifest gives that of the file's own axes."""
    if not row["affine"]:
        return tuple(row["spacing_mm"]) if row["spacing_mm"] else None
    affine = np.array(row["affine"], dtype=np.float64).reshape(4, 4)
    return geometry.spacing_mm(geometry.to_canonical(np.empty((1, 1, 1), dtype=np.int8), affine)[1])


def _voxels(row: Mapping[str, Any], spacing: Spacing | None) -> int:
    if not row["shape"]:
        return 0
    count = float(np.prod(row["shape"], dtype=np.float64))
    if spacing is not None and row["spacing_mm"]:
        count *= float(np.prod(row["spacing_mm"]) / np.prod(spacing))
    return round(count)


def _version_of(row: Mapping[str, Any]) -> str:
    """Return a hash of the source's bytes: the manifest's where the files are as they were, else a new one."""
    path, listed = row["path"], row["paths"] or ()
    known = row["file_hash"]
    files = [Path(path)] if len(listed) <= 1 and not Path(path).is_dir() else [Path(file) for file in listed]
    if known and (row["size_bytes"] is None or row["mtime_ns"] is None):
        return str(known)
    try:
        now = stamp(files).columns()
        # What an earlier release did not write, it cannot contradict.
        if known and all(value == row[name] for name, value in now.items() if row[name] is not None):
            return str(known)
        return file_hash(files, ordered=row["format"] != "dicom")
    except OSError:
        return str(known or "missing")  # the worker says so, with the file's name


def _label_hash(row: Mapping[str, Any]) -> str:
    """Return a hash of the label's bytes: the manifest's where all stamps are as they were, else a new one."""
    path = Path(row["label_path"])
    try:
        if row["label_file_hash"] and row["label_ctime_ns"] is not None and row["label_inode"] is not None:
            now = stamp(label_files(path)).columns("label_")
            if all(value == row[name] for name, value in now.items()):
                return str(row["label_file_hash"])
        return label_hash(path)
    except (OSError, FormatError):
        return "missing"
