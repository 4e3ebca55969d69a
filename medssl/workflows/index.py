"""``medssl index``: a folder of scans to a manifest, one row a scan."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from medssl.command import Command
from medssl.errors import ConfigError, DataError, ManifestError
from medssl.locking import holds, part_of
from medssl.settings import resolve
from medssl.workflows import events
from medssl.workflows.file_limits import FileLimits
from medssl.workflows.intake import clouds as cloud_intake
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places

if TYPE_CHECKING:
    from medssl.manifest.build import Targets
    from medssl.manifest.clouds import CloudReader
    from medssl.manifest.pseudonyms import Table
    from medssl.manifest.schema import Manifest

__all__ = ["IndexSettings", "Indexed", "index"]

_NAMES = {"patient_pattern": "REGEX", "targets": "TABLE"}  # may hold names of files and people: said as these
_DECIDES = (
    "modality",
    "patient_pattern",
    "unit",
    "class_folders",
    "depth",
    "val",
    "test",
    "seed",
    "stratify",
    "keep_split",
    "label_maps",
    "targets",
    "targets_key",
    "targets_columns",
    "pictures",
    "picture_channel",
    "channels",
    "channel_gap_mm",
)


class IndexSettings(FileLimits):
    """Settings of ``medssl index``."""

    verb: ClassVar[str] = "index"

    modality: str = Field(
        default="", pattern=r"^[A-Z]{0,16}$", description="What all scans are (CT, MR), where files do not say it."
    )
    patient_pattern: str = Field(
        default="", description="Regular expression that finds the patient's key in a path; a group is the key."
    )
    unit: Literal["", "mm", "m"] = Field(
        default="", description="Unit of point clouds whose files do not say it; most formats have no place for it."
    )
    class_folders: bool = Field(
        default=True,
        description="Take classes of clouds from folders (CLASS/train/x.off, train/CLASS/x.ply, CLASS/x.ply).",
    )
    depth: Literal["full", "header"] = Field(
        default="full", description="'header' reads no voxels: quick, but no intensities, no hashes of contents."
    )
    val: float = Field(default=0.1, ge=0, lt=1, description="Share of patients for validation.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share of patients for testing.")
    seed: int = Field(default=0, description="Seed of the split by patients.")
    stratify: str = Field(
        default="",
        description="Target whose classes are spread evenly over the splits; '' takes the only one, 'none' none.",
    )
    keep_split: bool = Field(
        default=True, description="Keep the split of folders called train, val and test (nnU-Net's imagesTs as well)."
    )
    label_maps: Literal["pair", "aside", "scan"] = Field(
        default="pair",
        description="Files whose voxels look like label maps: labels of a scan on their grid and else set aside; all "
        "set aside; or scans.",
    )
    workers: int = Field(
        default=0,
        ge=0,
        description="Processes that read; 0 decides by how much there is to read. A file that kills its reader ends "
        "one of them, never medssl.",
    )
    engine: Literal["processes", "ray"] = Field(
        default="processes",
        description="Where they run: on this machine, or as tasks of Ray (the cluster of RAY_ADDRESS, or a local one).",
    )
    targets: str = Field(
        default="", description="A CSV of classes (a diagnosis, a grade) by patient or scan; for classification."
    )
    targets_key: str = Field(default="", description="Its column that names patients or scans; '' finds it.")
    targets_columns: dict[str, str] = Field(
        default_factory=dict, description="Target -> column, such as targets_columns.grade=who_grade; empty takes all."
    )
    shard: str = Field(
        default="1/1",
        description="Read the i-th of n parts, such as 2/8; run all n, on any machines. The last one to end writes the "
        "manifest.",
    )
    fresh: bool = Field(default=False, description="Read every scan again, and draw the split anew.")
    verify: bool = Field(
        default=False, description="Hash the bytes of every file again, for changes that kept size and time; --verify."
    )
    pictures: Literal["auto", "stacks", "single"] = Field(
        default="auto",
        description="Folders of numbered pictures: one scan where they are one patient's, always, or never.",
    )
    picture_channel: Literal["", "red", "green", "blue", "luminance"] = Field(
        default="", description="What to take of pictures in colour; empty refuses them."
    )
    privacy: Literal["", "names", "pseudonyms"] = Field(
        default="",
        description="Ids and keys of patients: 'names' as files, folders and tables have them; 'pseudonyms' with a "
        "salt, the table in a file beside the manifest; '' as an earlier index did, at first names.",
    )
    salt: str = Field(
        default="", description="File of the salt of pseudonyms, made where it is not there; '' keeps one in the table."
    )
    channels: str = Field(
        default="auto",
        description="Which scans are channels of one case: 'auto', 'none', 'frames' (of 4D files), or names in their "
        "order, such as t1,t1ce,t2,flair.",
    )
    channel_gap_mm: float = Field(
        default=20.0,
        ge=0,
        description="How far, in mm, the first channel of a DICOM study may reach beyond another series, which stays "
        "apart beyond that.",
    )


@dataclass(frozen=True)
class Indexed(Result):
    """What ``index`` came to.

    Attributes:
        manifest: The manifest; an empty one after a dry run, and while other shards have scans to read.
    """

    manifest: Manifest


@takes_places
@holds("medssl index", lambda given: part_of(given["out"], given["overrides"], given["options"].get("shard")))
def index(
    scans: str | Path,
    *,
    out: str | Path = "manifest.parquet",
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    **options: Any,
) -> Indexed:
    """List every scan of a folder in a manifest. If called again, it reads only what has changed.

    A call that was killed continues where it stopped: a hidden file beside ``out`` keeps what it had read.

    Args:
        scans: A folder (NIfTI, DICOM, MetaImage, NRRD, .npz, or nothing but pictures; MSD, nnU-Net or BIDS layouts;
            clouds and meshes as PLY, PCD, OFF, OBJ, STL, GLB, LAS, XYZ, NumPy or HDF5), one scan, or a CSV.
        out: The manifest, .parquet or .csv. An existing one is updated.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show index``.
        dry_run: Only say what the folder contains, without reading scans.
        options: Settings by name, such as ``modality="MR"``; ``overrides`` have priority.

    Returns:
        The manifest, and what was written; an empty one while other shards have scans to read.

    Raises:
        ConfigError: A setting is wrong.
        ManifestError: There is no such folder, or ``out`` holds something else.
        DataError: There is no scan in the folder, or none that can be read.
    """
    from medssl.manifest.build import LABELS, SERIES, build_manifest
    from medssl.manifest.file_name import manifest_file
    from medssl.manifest.index_journal import IndexJournal
    from medssl.manifest.pseudonyms import conceal, restore, table_file, write_table
    from medssl.manifest.schema import read_manifest, write_manifest
    from medssl.store.plan import shard_of
    from medssl.workflows.index_summary import say_indexed
    from medssl.writing import file_for

    settings = resolve(IndexSettings, preset=preset, overrides=list(overrides), defaults=options).settings
    scans, out = Path(scans), file_for(manifest_file(out))
    clouds = cloud_intake().reader(unit=settings.unit, class_folders=settings.class_folders)
    if dry_run:
        return _plan(scans, out, clouds, settings)
    previous = read_manifest(out) if out.exists() else None
    table, hidden = _table(settings, previous, out)
    if previous is not None:
        # Read even where everything is made anew: a file that is no manifest is never written over.
        if previous.pseudonymous and table is not None:
            previous = restore(previous, table)
        if settings.fresh or previous.root != str(_root(scans)):
            previous = None
    recipe = {"depth": settings.depth, "labels": LABELS, "series": SERIES, "verify": settings.verify}
    journal = IndexJournal(out, shard_of(settings.shard), recipe=recipe, fresh=settings.fresh)
    with settings.limits(), events.progress(None, "scans read") as shown:

        def show(done: int, total: int) -> None:
            shown.total = total
            shown.reach(done)

        manifest, counts = build_manifest(
            scans,
            previous=previous,
            depth=settings.depth,
            workers=settings.workers,
            engine=settings.engine,
            modality=settings.modality,
            patient_pattern=settings.patient_pattern,
            val=settings.val,
            test=settings.test,
            seed=settings.seed,
            stratify=settings.stratify,
            keep_split=settings.keep_split,
            label_maps=settings.label_maps,
            clouds=clouds,
            targets=_targets(settings),
            verify=settings.verify,
            pictures=settings.pictures,
            picture_channel=settings.picture_channel,
            channels=settings.channels,
            channel_gap_mm=settings.channel_gap_mm,
            journal=journal,
            progress=show,
        )
    if counts.waiting:
        events.message(f"{counts.waiting} scans are left to other shards; the shard that ends last writes {out}")
        return events.written(Indexed(manifest, figures={"read": counts.read, "waiting": counts.waiting}))
    if not len(manifest):
        raise DataError(
            f"{scans}: no scan was found. Looked for .nii, .nii.gz, .mha, .mhd, .nrrd, .mgz, .mnc, .hdr/.img, .npz, "
            "pictures and DICOM files, and for clouds and meshes (.ply, .pcd, .off, .obj, .stl, .glb, .las, .xyz, "
            ".npy, .h5, ...), in it and below." + "".join(f" Found: {note}." for note in manifest.notes)
        )
    manifest = replace(manifest, settings={**manifest.settings, "given": _given(settings, names=not hidden)})
    names = None
    if table is not None and hidden:
        manifest, names = conceal(manifest, table)
        write_table(table, table_file(out))  # before the manifest: nothing is concealed that cannot be told again
    write_manifest(manifest, out)
    journal.remove()
    manifest = replace(manifest, file=str(out.absolute()))
    with nullcontext() if names is None else events.cleaned(names.text):
        say_indexed(manifest, counts)
    if names is not None:
        events.message(
            f"ids and keys of patients are pseudonyms; {table_file(out)} holds the names: keep that file private"
        )
    return events.written(
        Indexed(
            manifest,
            written=(out,),
            next=Command("check", out),
            figures={**manifest.summary(), "read": counts.read, "reused": counts.reused},
        )
    )


def _table(settings: IndexSettings, previous: Manifest | None, out: Path) -> tuple[Table | None, bool]:
    """Return the table of pseudonyms, None where there is none and none is wanted, and whether to use it."""
    from medssl.manifest.pseudonyms import Table, read_salt, read_table, table_file

    was = previous is not None and previous.pseudonymous
    wanted = settings.privacy or ("pseudonyms" if was else "names")
    known = read_table(table_file(out)) if was or wanted == "pseudonyms" else None
    if was and known is None and not settings.fresh:
        raise ManifestError(
            f"{out}: its ids are pseudonyms, and their table {table_file(out)} is not there. Put it back beside the "
            "manifest; or index with fresh=true, which gives other pseudonyms and draws a new split."
        )
    if wanted == "names":
        if settings.salt:
            raise ConfigError("salt is for pseudonyms. Add privacy=pseudonyms.")
        return known, False
    salt = read_salt(Path(settings.salt)) if settings.salt else None
    if known is not None and salt is not None and salt != known.salt and not settings.fresh:
        raise ConfigError(
            f"salt: {settings.salt} is another salt than that of {table_file(out)}. Leave salt out, or give all scans "
            "other pseudonyms with fresh=true."
        )
    if known is not None and (salt is None or salt == known.salt):
        return known, True
    return Table(salt or secrets.token_bytes(32)), True


def _targets(settings: IndexSettings) -> Targets | None:
    from medssl.manifest.build import Targets

    if not settings.targets:
        if settings.targets_key or settings.targets_columns:
            raise ConfigError("targets_key and targets_columns speak of a table. Name it with --targets FILE.")
        return None
    return Targets(file=Path(settings.targets), key=settings.targets_key, columns=settings.targets_columns)


def _given(settings: IndexSettings, *, names: bool) -> list[str]:
    """Return what was set otherwise than by default and decides the rows, for the command that indexes again.

    Args:
        settings: What was set.
        names: Whether the manifest may hold names of files and people.
    """
    plain = IndexSettings()
    said = []
    for name in _DECIDES:
        value = getattr(settings, name)
        if value == getattr(plain, name):
            continue
        if name in _NAMES and not names:
            said.append(f"{name}={_NAMES[name]}")  # that it was given, and not what: without it patients are guessed
        elif name == "targets_columns":
            said += [f"{name}.{target}={column}" for target, column in value.items()]
        elif name == "targets":
            said.append(f"{name}={Path(value).absolute()}")
        else:
            said.append(f"{name}={str(value).lower() if isinstance(value, bool) else value}")
    return said


def _root(scans: Path) -> Path:
    whole = scans.absolute()
    return whole if whole.is_dir() else whole.parent


def _plan(scans: Path, out: Path, clouds: CloudReader, settings: IndexSettings) -> Indexed:
    from medssl.manifest.schema import manifest_of_rows
    from medssl.manifest.walk import find_scans

    with settings.limits():
        found, tree = find_scans(scans, clouds, pictures=settings.pictures)
    labels = sum(source.label_path is not None for source in found.sources)
    events.message(
        f"{len(found.sources)} files to read ({labels} with labels) and {len(tree.dicom)} DICOM files to group"
    )
    for note in [*found.notes, *found.of_clouds.get("understood", ())]:
        events.message(note)
    return events.written(
        Indexed(
            manifest_of_rows([]),
            next=Command("index", scans, "--out", out),
            figures={"files": len(found.sources), "dicom_files": len(tree.dicom)},
        )
    )
