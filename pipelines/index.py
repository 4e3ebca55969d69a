"""``medssl index``: a folder of scans to a manifest, one row a scan."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from medssl import geometry
from medssl.errors import ConfigError, DataError, ManifestError
from medssl.locking import holds
from medssl.quoting import quoted
from medssl.settings import resolve
from pipelines import console
from pipelines.file_limits import FileLimits

if TYPE_CHECKING:
    from medssl.manifest.build import Counts, Targets
    from medssl.manifest.clouds import CloudReader
    from medssl.manifest.pseudonyms import Table
    from medssl.manifest.schema import Manifest

__all__ = ["IndexSettings", "index"]

_SHOWN = 8
_LONGEST = 400  # characters of a path that are shown
_DOUBTFUL = ("missing points", "strays", "no faces", "unsure columns")  # beginnings of notes on clouds
_DOUBTFUL_SCANS = ("no voxel size", "missing slices", "intensity function", "unit of length", "array:")
_FLAT = 2  # slices; a volume has more
_NAMES = {"patient_pattern": "REGEX", "targets": "TABLE"}  # may hold names of files and people: said as these
_DECIDES = (
    "modality", "patient_pattern", "unit", "class_folders", "depth", "val", "test", "seed", "stratify", "keep_split",
    "label_maps", "targets", "targets_key", "targets_columns", "pictures", "picture_channel", "channels",
    "channel_gap_mm",
)  # fmt: skip


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


@holds("medssl index", lambda given: Path(given["out"]))
def index(
    scans: str | Path,
    *,
    out: str | Path = "manifest.parquet",
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    **options: Any,
) -> Manifest:
    """Describe every scan of a folder in a manifest. Safe to run again: what has not changed is not read again.

    Args:
        scans: A folder (NIfTI, DICOM, MetaImage, NRRD, .npz, or nothing but pictures; MSD, nnU-Net or BIDS layouts;
            clouds and meshes as PLY, PCD, OFF, OBJ, STL, GLB, LAS, XYZ, NumPy or HDF5), one scan, or a CSV.
        out: The manifest, .parquet or .csv. One that is there is brought up to date.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show index``.
        dry_run: Only say what is there; read no scan and write nothing.
        options: Settings by name, such as ``modality="MR"``; ``overrides`` beat them.

    Returns:
        The manifest; after a dry run, an empty one.

    Raises:
        ConfigError: A setting is wrong.
        ManifestError: There is no such folder, or ``out`` holds something else.
        DataError: There is no scan in the folder, or none that can be read.
    """
    from medssl.manifest.build import build_manifest
    from medssl.manifest.pseudonyms import conceal, restore, table_file, write_table
    from medssl.manifest.schema import read_manifest, write_manifest
    from pointcloud.describe import cloud_reader

    settings = resolve(IndexSettings, preset=preset, overrides=list(overrides), defaults=options).settings
    scans, out = Path(scans), Path(out)
    clouds = cloud_reader(unit=settings.unit, class_folders=settings.class_folders)
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
    with settings.limits(), console.progress(None, "scans read") as shown:

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
            progress=show,
        )
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
    manifest = replace(manifest, file=str(out.absolute()))
    with nullcontext() if names is None else console.cleaned(names.text):
        _say(manifest, counts)
    if names is not None:
        console.say(f"ids and keys of patients are pseudonyms; the names are in {table_file(out)}, for you alone")
    console.done(out, f"medssl check {quoted(out)}", **manifest.summary(), read=counts.read, reused=counts.reused)
    return manifest


def _table(settings: IndexSettings, previous: Manifest | None, out: Path) -> tuple[Table | None, bool]:
    """Return the table of pseudonyms, None where there is none and none is wanted, and whether to use it."""
    from medssl.manifest.pseudonyms import Table, read_salt, read_table, table_file

    was = previous is not None and previous.pseudonymous
    wanted = settings.privacy or ("pseudonyms" if was else "names")
    known = read_table(table_file(out)) if was or wanted == "pseudonyms" else None
    if was and known is None and not settings.fresh:
        raise ManifestError(
            f"{out}: its ids are pseudonyms, and their table {table_file(out)} is not there. Put it back beside the "
            "manifest; or index with fresh=true, which gives other pseudonyms and draws the split anew."
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


def _plan(scans: Path, out: Path, clouds: CloudReader, settings: IndexSettings) -> Manifest:
    from medssl.manifest.schema import manifest_of_rows
    from medssl.manifest.walk import find_scans

    with settings.limits():
        found, tree = find_scans(scans, clouds, pictures=settings.pictures)
    labels = sum(source.label_path is not None for source in found.sources)
    console.say(f"{len(found.sources)} files to read ({labels} with labels) and {len(tree.dicom)} DICOM files to group")
    for note in [*found.notes, *found.of_clouds.get("understood", ())]:
        console.say(note)
    console.done(
        None, f"medssl index {quoted(scans)} --out {quoted(out)}", files=len(found.sources), dicom_files=len(tree.dicom)
    )
    return manifest_of_rows([])


def _say(manifest: Manifest, counts: Counts) -> None:
    from medssl.manifest.channel_cases import case_lines
    from medssl.manifest.rules.said import rule_lines
    from medssl.manifest.series_cases import guess_lines

    summary: Mapping[str, Any] = manifest.summary()
    console.say(repr(manifest).splitlines()[0])
    if counts.reused or counts.gone:
        gone = f", {counts.gone} are gone" if counts.gone else ""
        console.say(f"{counts.read} scans were read, {counts.reused} had not changed{gone}")
    _say_freshness(counts)
    for note in manifest.notes:
        console.warn(note)
    for line in rule_lines(manifest.usable().rows()):
        console.say(line)
    for line in guess_lines(list(manifest.rows())):
        console.say(line)
    for line in case_lines(list(manifest.rows()), manifest.settings.get("channels", ())):
        console.say(line)
    _say_clouds(manifest)
    _say_targets(manifest, counts)
    _say_left_out(manifest)
    doubtful = [(row["path"], said) for row in manifest.usable().rows() if (said := _doubts(row))]
    _say_doubtful(doubtful)
    _say_labels(manifest)
    inferred = sum("modality-inferred" in row["flags"] for row in manifest.rows())
    if inferred:
        console.say(f"the modality of {inferred} scans was inferred; set it with modality=CT or modality=MR")
    for name, classes in _classes_of_clouds(manifest).items():
        shown = [f"{word} {count}" for word, count in classes[:_SHOWN]]
        shown += [f"... {len(classes) - _SHOWN} more"] if len(classes) > _SHOWN else []
        console.say(f"{name}: {len(classes)} ({', '.join(shown)})")
    units = {row["length_unit"] for row in manifest.usable().rows() if row["kind"] == "cloud"}
    if "unknown" in units:
        console.say("the unit of the clouds is not known; set it with unit=mm or unit=m, where it matters")
    unknown = summary["modalities"].get("unknown", 0)
    if unknown:
        console.warn(f"the modality of {unknown} scans is unknown; set it with modality=CT or modality=MR")


def _say_doubtful(doubtful: Sequence[tuple[str, str]]) -> None:
    """Say what is wrong with scans that can be read: what is said of several alike once, with their number."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for path, said in doubtful:
        kinds.setdefault(said if said.startswith("only") else said.partition(":")[0], []).append((path, said))
    for found in list(kinds.values())[:_SHOWN]:
        path, said = found[0]
        more = f" (so are {len(found) - 1} more; medssl check lists all)" if len(found) > 1 else ""
        console.warn(f"{path}: {said}{more}")
    left = sum(len(found) for found in list(kinds.values())[_SHOWN:])
    if left:
        console.warn(f"... and {left} more that can be read but look wrong; medssl check lists all")


def _say_labels(manifest: Manifest) -> None:
    """Say in one line that labels cannot be read, for the scans count as labelled."""
    bad = [row for row in manifest.usable().rows() if "label-unreadable" in row["flags"]]
    if bad:
        notes = [note for note in bad[0]["notes"] if note.startswith("label unreadable")] or ["label unreadable"]
        many = "1 label" if len(bad) == 1 else f"{len(bad)} labels"
        console.warn(f"{many} cannot be read, such as {bad[0]['label_path']}: {notes[0].partition(': ')[2]}")


def _say_aside(rows: Sequence[Mapping[str, Any]]) -> None:
    """Say in one line how many DICOM objects are no volumes, and of which kinds."""
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row["error"].partition(" So are ")[0].rstrip(".")] += len(row["paths"])
    kinds = "; ".join(f"{count} x {reason}" for reason, count in counted.most_common())
    console.say(f"{counted.total()} DICOM objects are no volumes and were set aside: {kinds}")


def _say_left_out(manifest: Manifest) -> None:
    """Say what cannot be used: labels in a line each kind, files that cannot be read by name, DICOM objects counted."""
    from medssl.manifest.check_patients import aside_together

    failed = [row for row in manifest.rows() if row["error"] is not None]
    for _, _, what, todo in aside_together(failed):
        console.warn(f"{what}. {todo}")
    failed = [row for row in failed if not {"label-without-image", "looks-like-labels"} & set(row["flags"])]
    unreadable = [row for row in failed if "set-aside" not in row["flags"]]
    for row in unreadable[:_SHOWN]:
        console.warn(f"{_short(row['path'])}: {row['error']}")
    if len(unreadable) > _SHOWN:
        console.warn(f"... and {len(unreadable) - _SHOWN} more; medssl check lists all")
    if len(failed) > len(unreadable):
        _say_aside([row for row in failed if "set-aside" in row["flags"]])


def _short(path: str) -> str:
    return path if len(path) <= _LONGEST else f"{path[: _LONGEST // 2]} ... {path[-_LONGEST // 2 :]}"


def _say_freshness(counts: Counts) -> None:
    if counts.hashed:
        console.say(f"{counts.hashed} of them were hashed again, and hold the same bytes")
    if counts.trusted:
        console.say(
            f"{counts.trusted} of them were kept by size and time alone, for the index is of an earlier release; "
            "medssl index ... --verify compares their bytes"
        )
    for change in counts.silent[:_SHOWN]:
        console.warn(change)
    if len(counts.silent) > _SHOWN:
        console.warn(f"... and {len(counts.silent) - _SHOWN} more whose bytes changed while size and time stayed")


def _say_clouds(manifest: Manifest) -> None:
    """Say what was understood of the clouds as a whole: scenes, split, labels and guesses."""
    from medssl.manifest.unlabelled import unlabelled_numbers

    said = manifest.settings.get("of_clouds", {})
    for line in said.get("understood", ()):
        console.say(line)
    for severity, _, what, todo in said.get("findings", ()):
        (console.say if severity == "info" else console.warn)(f"{what}. {todo}")
    rows = [row for row in manifest.usable().rows() if row["kind"] == "cloud"]
    for mark in sorted(unlabelled_numbers(rows)):
        console.say(f"guess: the label {mark} of points stands for unlabelled, since no other is near it")
    below = sum(min(row["label_values"] or [0]) < 0 for row in rows)
    if below:
        console.say(f"labels below 0 stand for unlabelled points; {below} clouds have such")


def _say_targets(manifest: Manifest, counts: Counts) -> None:
    if counts.targets:
        for line in counts.targets.lines():
            console.say(line)
        for doubt in counts.targets.doubts():
            console.warn(doubt)
    else:
        volumes = manifest.with_frame(manifest.frame.filter(manifest.frame["kind"] == "volume"))
        for name, classes in volumes.targets().items():
            console.say(f"{name}: " + ", ".join(f"{label} {count}" for label, count in classes.items()) + " patients")
    _say_spread(manifest)


def _say_spread(manifest: Manifest) -> None:
    """Say whether the split spreads classes of scans evenly."""
    spread, waiting = (manifest.settings.get(name, "") for name in ("stratify", "stratify_anew"))
    targets = manifest.with_frame(manifest.frame.filter(manifest.frame["kind"] == "volume")).targets()
    if waiting:
        console.warn(
            f"split: kept from the earlier manifest, in which the classes of {waiting} were not spread; "
            "fresh=true draws it anew"
        )
    elif spread and spread != "none":
        console.say(f"split: by patients, the classes of {spread} spread evenly (stratify=none spreads none)")
    elif spread != "none" and len(targets) > 1:
        console.warn(f"split: no classes were spread, for there are several targets; name one: stratify={min(targets)}")


def _classes_of_clouds(manifest: Manifest) -> dict[str, list[tuple[str, int]]]:
    """Return target -> (class, clouds), the most frequent first."""
    counted: dict[str, Counter[str]] = {}
    for row in manifest.usable().rows():
        if row["kind"] == "cloud":
            for name, word in json.loads(row["targets"] or "{}").items():
                counted.setdefault("classes of clouds" if name == "class" else name, Counter())[word] += 1
    return {name: sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) for name, counts in counted.items()}


def _doubts(row: Mapping[str, Any]) -> str:
    """Return what is wrong with a scan that can be read; "" where nothing is seen yet. ``check`` looks closer."""
    if row["kind"] == "cloud":
        return "; ".join(note.partition(": ")[2] for note in row["notes"] if note.startswith(_DOUBTFUL))
    said = []
    if "nonfinite" in row["flags"]:
        said.append(f"{row['nonfinite']} voxels are NaN or infinite")
    if "constant" in row["flags"]:
        said.append(f"every voxel has the value {row['min']:g}")
    if row["frames"] and row["frames"] > 1:
        said.append(f"{row['frames']} volumes in one file; the first is used (medssl cache ... frame=N takes another)")
    if row["kind"] == "volume" and row["format"] != "image" and row["shape"] and min(row["shape"]) <= _FLAT:
        said.append(f"only {min(row['shape'])} slices")
    if row["spacing_mm"] and not all(
        geometry.CREDIBLE_MM[0] <= size <= geometry.CREDIBLE_MM[1] for size in row["spacing_mm"]
    ):
        said.append(f"the voxel size is {' x '.join(f'{size:g}' for size in row['spacing_mm'])} mm (z, y, x)")
    said += [note for note in row["notes"] if note.startswith(_DOUBTFUL_SCANS)]
    return "; ".join(said)
