"""From what a person names (files, folders, series, lists) to the scans, cases or clouds that a run can predict."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medssl.engine.card import CardInput
from medssl.errors import ConfigError, DataError, ManifestError
from medssl.manifest.build import build_manifest
from medssl.manifest.channel_cases import CaseGroup, cases_of
from medssl.manifest.rules.channels import frame_names, ordered_channels, unlike
from medssl.manifest.schema import Manifest, manifest_of_rows, read_manifest
from medssl.manifest.series_cases import guess_lines
from pipelines.predict_settings import PredictSettings
from pointcloud.describe import cloud_reader

__all__ = ["Failed", "Inputs", "Item", "Takes", "find_inputs"]

Row = dict[str, Any]
_LISTS = (".csv", ".tsv", ".parquet")
_NO_SCAN = {"label-without-image", "looks-like-labels", "set-aside"}


@dataclass(frozen=True)
class Takes:
    """What a run takes.

    Attributes:
        kind: "volume" or "cloud".
        channels: The channels of its input, in their order.
        fills: Whether a case may lack a channel, as some that it was trained on did.
        run: The run, for messages.
    """

    kind: str
    channels: tuple[CardInput, ...]
    fills: bool
    run: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(channel.name for channel in self.channels)


@dataclass(frozen=True)
class Item:
    """One scan, case or cloud.

    Attributes:
        id: Its name, safe as a file name, like no other's.
        shown: Its file as seen from what the person named.
        manifest: Its row, or the rows of its channels.
        channels: Names of its channels in the order of the run's, as the manifest spells them; "scans" of a scan.
        said: What was guessed or changed, in sentences.
    """

    id: str
    shown: str
    manifest: Manifest
    channels: str = "scans"
    said: tuple[str, ...] = ()

    @property
    def row(self) -> Row:
        """The row of its first channel."""
        return next(self.manifest.rows())

    @property
    def pseudonymous(self) -> bool:
        """Whether what is kept of it must not name its patient."""
        return self.manifest.pseudonymous


@dataclass(frozen=True)
class Failed:
    """What should be predicted and cannot be.

    Attributes:
        id: Its name, like no other's.
        shown: Its file as seen from what the person named.
        path: Its file.
        reason: Why, in a sentence without names of files.
    """

    id: str
    shown: str
    path: str
    reason: str


@dataclass
class Inputs:
    """What was found.

    Attributes:
        items: What is predicted.
        failed: What should be and cannot be.
        skipped: Reason -> how many things were passed over.
        notes: What a person should know of the folders.
    """

    items: list[Item] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


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
    wanted = _wanted(takes, settings)
    for manifest in _manifests(paths, takes, wanted, settings, progress):
        guesses = guess_lines(list(manifest.rows())) if takes.kind == "volume" else []
        notes = [*manifest.notes, *guesses]
        found.notes += manifest.nameless().value(notes) if manifest.pseudonymous else notes
        _sort(manifest, takes, wanted, settings, found)
    _tell_apart(found)
    if not found.items and not found.failed:
        aside = "; ".join(f"{count} x {why}" for why, count in found.skipped.most_common())
        noun = "scan" if takes.kind == "volume" else "cloud"
        scans = (
            " Name the scans themselves; what only looks like labels can be given as a manifest that was made with: "
        )
        hint = f"{scans}medssl index SCANS label_maps=scan" if "label" in aside else ""
        raise DataError(
            f"No {noun} was found in {', '.join(map(str, paths))}." + (f" Passed over: {aside}.{hint}" if aside else "")
        )
    return found


def _wanted(takes: Takes, settings: PredictSettings) -> tuple[str, ...]:
    """Return what the new scans call the run's channels, in the run's order; () where each scan is one.

    Raises:
        ConfigError: They are not the run's.
    """
    names = takes.names
    if takes.kind == "cloud" or len(names) == 1:
        if settings.channels != "auto" and (
            takes.kind == "cloud" or settings.channels == "frames" or "," in settings.channels
        ):
            what = "clouds" if takes.kind == "cloud" else f"one channel, {names[0]}"
            raise ConfigError(f"channels={settings.channels}: {takes.run} takes {what}. Leave it out.")
        return ()
    if settings.channels in ("auto", "frames"):
        return names
    given = tuple(name.strip() for name in settings.channels.split(",") if name.strip())
    listed = ", ".join(names)
    if len(given) != len(names):
        raise ConfigError(f"channels={settings.channels}: {takes.run} takes {len(names)} channels ({listed}). "
                          f"Name what the new scans call each, in this order.")  # fmt: skip
    lower = [name.casefold() for name in given]
    for place, name in enumerate(names):
        if name.casefold() in lower and lower.index(name.casefold()) != place:
            raise ConfigError(
                f"channels={settings.channels}: '{name}' stands in place {lower.index(name.casefold()) + 1}, and "
                f"{takes.run} takes it in place {place + 1}: {listed}. Keep this order."
            )
    return given


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
            clouds=cloud_reader(unit=settings.unit),
            picture_channel=settings.picture_channel,
            channels=channels,
            only=only,
            progress=progress,
        )[0]

    if not wanted:
        return build("none")
    plain = build("none")
    if settings.channels == "frames":
        return build("frames", plain)
    there = {row["channel"].casefold() for row in plain.rows() if row["channel"]}
    named = [name for name in wanted if name.casefold() in there]
    frames = any((row["frames"] or 1) == len(wanted) for row in plain.rows() if row["error"] is None)
    if frames and not named:
        return build("frames", plain)  # names of a dataset.json stay: its order of frames may be another one
    # A channel that no scan has is told of each case, not of the folder: what is there makes the cases.
    return build(",".join(named), plain) if named else plain


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
    labelled = sum(row["kind"] == "volume" and bool(row["label_path"]) for row in rows)
    if labelled and takes.kind == "volume":
        found.notes.append(f"labels beside {labelled} of the scans are not looked at")
    good = []
    # Whoever indexed them as scans knows what they are, however their voxels look.
    no_scan = _NO_SCAN - ({"looks-like-labels"} if "label_maps=scan" in manifest.settings.get("given", ()) else set())
    for row in rows:
        aside = no_scan & set(row["flags"])
        if aside:
            found.skipped[_why_aside(row)] += 1
        elif row["kind"] != takes.kind:
            found.skipped[f"a {_noun(row['kind'])}, and {takes.run} takes {_noun(takes.kind)}s"] += 1
        elif row["error"] is not None:
            found.failed.append(_failed(row, manifest, manifest.nameless().text(str(row["error"]))))
        else:
            good.append({**row, "label_path": None, "label_values": None} if row["kind"] == "volume" else row)
    if wanted:
        _cases(good, manifest, takes, wanted, found)
        return
    by_hand = settings.channels.strip() if settings.channels != "auto" else ""
    single = by_hand or (takes.names[0] if takes.names else "")
    named = takes.kind == "volume" and any(
        row["channel"].casefold() == single.casefold() for row in good if row["channel"]
    )
    if by_hand and not named:
        listed = ", ".join(ordered_channels(row["channel"] for row in good if row["channel"])) or "none"
        raise ConfigError(f"channels={by_hand}: no scan has that channel. Channels that were found: {listed}.")
    for one in good:
        row = dict(one)
        if named and row["channel"] and row["channel"].casefold() != single.casefold():
            found.skipped[f"the channel {row['channel']}, and {takes.run} takes {single}"] += 1
            continue
        found.items.append(_single(row, manifest, takes, settings, expected="" if by_hand else single))


def _single(row: Row, manifest: Manifest, takes: Takes, settings: PredictSettings, *, expected: str) -> Item:
    """Make an item of one scan or cloud; say so where its channel is another than the one that is expected."""
    said: tuple[str, ...] = ()
    if row["kind"] == "volume":
        row, said = _of_modality(row, takes.channels[0], settings)
        if expected and unlike(row["channel"], expected):
            said += (f"it is the channel {row['channel']}, and {takes.run} was trained on {expected}",)
    elif settings.cloud_class:
        row = {**row, "targets": json.dumps({"class": settings.cloud_class})}
    return Item(row["id"], shown_of(row, manifest), _alone([{**row, "case": ""}], (), manifest), said=said)


def _cases(rows: Sequence[Row], manifest: Manifest, takes: Takes, wanted: tuple[str, ...], found: Inputs) -> None:
    """Make an item of each case; one that lacks a channel fails by the channel's name, unless the run knows that."""
    order, groups = cases_of(rows, manifest.settings.get("channels", ()))
    spelled = {name.casefold(): name for name in order}
    by_place = order == frame_names(len(wanted)) and not {name.casefold() for name in wanted} & set(spelled)
    if by_place:
        spelled = {name.casefold(): other for name, other in zip(wanted, order, strict=True)}
        found.notes.append(
            f"guess: nothing names the frames of {len(groups)} 4D files; they are taken for {', '.join(wanted)}, in "
            "this order. A dataset.json beside them names another one."
        )
    for group in groups:
        lacking = [
            ours for ours, name in zip(takes.names, wanted, strict=True)
            if not group.rows.get(spelled.get(name.casefold(), ""))
        ]  # fmt: skip
        members = [dict(row) for row in group.members]
        shown, path = shown_of(members[0], manifest), str(members[0]["path"])
        if lacking and (not takes.fills or len(lacking) == len(wanted)):
            why = f"The case lacks {', '.join(lacking)}; the run takes {', '.join(takes.names)}."
            found.failed.append(Failed(group.id, shown, path, why))
            continue
        several = [name for name, own in group.rows.items() if len(own) > 1]
        if several:
            why = f"Several scans are its channel {several[0]}. Name one in a CSV."
            found.failed.append(Failed(group.id, shown, path, why))
            continue
        members, said = _case_modalities(group, members, takes, wanted, spelled)
        if lacking:
            said += (f"lacks {', '.join(lacking)}, which is 0 to the network, as in training",)
        names = tuple(spelled.get(name.casefold(), name) for name in wanted)
        alone = _alone(members, names, manifest)
        found.items.append(Item(group.id, shown, alone, channels=",".join(names), said=tuple(dict.fromkeys(said))))
    inside = {row["id"] for group in groups for row in group.members}
    for row in rows:
        if row["id"] not in inside:
            what = f"It is the channel '{row['channel']}'" if row["channel"] else "Nothing says which channel it is"
            why = f"{what}; the run takes cases of {', '.join(takes.names)}. Name them: channels=..., or a CSV."
            found.failed.append(_failed(row, manifest, why))


def _case_modalities(
    group: CaseGroup, members: list[Row], takes: Takes, wanted: tuple[str, ...], spelled: Mapping[str, str]
) -> tuple[list[Row], tuple[str, ...]]:
    """Take what no file says of modality from the run, channel by channel."""
    said: tuple[str, ...] = ()
    changed = {row["id"]: row for row in members}
    if group.frames:  # one file of several frames is of one modality
        row, said = _of_modality(members[0], takes.channels[0], PredictSettings())
        return [row], said
    for channel, name in zip(takes.channels, wanted, strict=True):
        for own in group.rows.get(spelled.get(name.casefold(), ""), ()):
            changed[own["id"]], more = _of_modality(changed[own["id"]], channel, PredictSettings())
            said += more
    return list(changed.values()), said


def _of_modality(row: Row, channel: CardInput, settings: PredictSettings) -> tuple[Row, tuple[str, ...]]:
    """Return a row whose modality is the run's, where the file itself does not say it."""
    told = not {"modality-inferred", "modality-unknown"} & set(row["flags"])
    if told or settings.modality or "+" in channel.modality or not channel.modality:
        return dict(row), ()
    if row["modality"] == channel.modality:
        return dict(row), ()
    units = row["units"] if channel.modality == "CT" else "arbitrary"
    looked = f"it looks like {row['modality']}" if row["modality"] != "unknown" else "its file does not say"
    note = f"modality taken as {channel.modality}, as in training ({looked}); modality=... says otherwise"
    return {**row, "modality": channel.modality, "units": units}, (note,)


def _alone(rows: Sequence[Row], channels: Sequence[str], whole: Manifest) -> Manifest:
    privacy = {"privacy": "pseudonyms"} if whole.pseudonymous else {}
    return manifest_of_rows(rows, settings={"channels": list(channels), **privacy})


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


def shown_of(row: Mapping[str, Any], manifest: Manifest) -> str:
    """Return a row's file as seen from the folder that was named, or its name alone; its id where names are hidden."""
    path = Path(row["path"])
    if row["format"] == "dicom" or manifest.pseudonymous:
        return str(row["id"])  # folders and files of DICOM are often called after people
    root = Path(manifest.root) if manifest.root else path.parent
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return f"{name}:{row['item']}" if row.get("item") else name


def _failed(row: Mapping[str, Any], manifest: Manifest, reason: str) -> Failed:
    return Failed(row["id"], shown_of(row, manifest), str(row["path"]), reason)


def _why_aside(row: Mapping[str, Any]) -> str:
    flags = set(row["flags"])
    if "looks-like-labels" in flags:
        return "a label map, as its voxels look"
    if "label-without-image" in flags:
        return "a label, as its name says"
    return str(row["error"]).partition(" So are ")[0].rstrip(".")


def _noun(kind: str) -> str:
    return "scan" if kind == "volume" else "cloud"
