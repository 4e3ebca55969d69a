"""New scans and cases as a run predicts them: their channels, modality and differences, and a store of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.domains.predicting import (
    Asked,
    Failed,
    Inputs,
    Item,
    NewItems,
    Prepared,
    Row,
    Takes,
    alone,
    failed_row,
    shown_of,
)
from medssl.engine.card import Card, CardInput
from medssl.errors import ConfigError, DataError
from medssl.formats.arrays import write_npz
from medssl.manifest.channel_cases import CaseGroup, by_number, cases_of
from medssl.manifest.describe import describe
from medssl.manifest.rules.channels import frame_names, ordered_channels, unlike
from medssl.manifest.schema import Manifest, manifest_of_rows
from medssl.manifest.series_cases import guess_lines
from medssl.manifest.sources import Source
from medssl.store.alone import job_alone, recipe_of, store_alone
from medssl.store.normalised import normalised_as
from medssl.store.prepare import Job
from medssl.tasks.classification_prediction import ClassificationPredictor
from medssl.tasks.segmentation_prediction import SegmentationPredictor
from medssl.volumes.differences import scan_differences

__all__ = ["NEW_ITEMS", "NewScans", "ScanWorker"]
_NUMBERED = re.compile(r"_(\d{4})(?:\.[A-Za-z]|$)")  # as nnU-Net numbers channels


class NewScans(NewItems):
    """Scans, and cases of several channels."""

    def channels(self, card: Card) -> tuple[CardInput, ...]:
        """Return those of the card."""
        return card.inputs_known

    def wanted(self, takes: Takes, settings: Any) -> tuple[str, ...]:
        """Return what the new scans call the run's channels."""
        return _wanted(takes, settings)

    def described(self, build: Callable[..., Manifest], wanted: tuple[str, ...], settings: Any) -> Manifest:
        """Return the manifest with cases of the channels that are wanted.

        Raises:
            ConfigError: No scan has one of the channels.
        """
        plain = build("none")
        if not wanted:
            return plain
        if settings.channels == "frames":
            return build("frames", plain)
        there = {row["channel"].casefold() for row in plain.rows() if row["channel"]}
        if by_number(wanted):
            there = {match[1] for row in plain.rows() if (match := _NUMBERED.search(Path(row["path"]).name))}
        named = [name for name in wanted if name.casefold() in there]
        frames = any((row["frames"] or 1) == len(wanted) for row in plain.rows() if row["error"] is None)
        if frames and not named:
            return build("frames", plain)  # names of a dataset.json stay: its order of frames may be another one
        # A channel that no scan has is told of each case, not of the folder: what is there makes the cases.
        return build(",".join(named), plain) if named else plain

    def guesses(self, manifest: Manifest) -> list[str]:
        """Return how channels of series were guessed, and that labels are passed over."""
        rows = list(manifest.rows())
        labelled = sum(row["keep"] and row["kind"] == "volume" and bool(row["label_path"]) for row in rows)
        over = [f"labels beside {labelled} of the scans are not looked at"] if labelled else []
        return [*guess_lines(rows), *over]

    def sorted(self, rows: Sequence[Row], asked: Asked, found: Inputs) -> None:
        """Make items of scans, or of the cases that they are channels of."""
        manifest, takes, wanted, settings = asked.manifest, asked.takes, asked.wanted, asked.settings
        good = [{**row, "label_path": None, "label_values": None} for row in rows]
        if wanted:
            _cases(good, manifest, takes, wanted, found)
            return
        by_hand = settings.channels.strip() if settings.channels != "auto" else ""
        single = by_hand or (takes.names[0] if takes.names else "")
        named = any(row["channel"].casefold() == single.casefold() for row in good if row["channel"])
        if by_hand and not named:
            listed = ", ".join(ordered_channels(row["channel"] for row in good if row["channel"])) or "none"
            raise ConfigError(f"channels={by_hand}: no scan has that channel. Channels that were found: {listed}.")
        for one in good:
            if named and one["channel"] and one["channel"].casefold() != single.casefold():
                found.skipped[f"the channel {one['channel']}, and {takes.run} takes {single}"] += 1
                continue
            found.items.append(_single(dict(one), manifest, takes, settings, expected="" if by_hand else single))

    def worker(self, predictor: Any, card: Card) -> ScanWorker:
        """Return how scans are predicted."""
        return ScanWorker(predictor, card)

    def of_array(
        self, values: Any, work: Path, takes: Takes, *, affine: Any, spacing_mm: Sequence[float] | None, modality: str
    ) -> Item:
        """Write a scan (z, y, x), or a case (C, z, y, x) in the order of the run's channels."""
        count = len(takes.names)
        stacked = values if values.ndim == 4 else values[None]
        if stacked.ndim != 4 or len(stacked) != count:
            axes = "(z, y, x)" if count == 1 else f"({count}, z, y, x) of {', '.join(takes.names)}"
            raise ConfigError(f"{takes.run} takes an array {axes}. Got one of shape {values.shape}.")
        if (affine is None) == (spacing_mm is None):
            raise ConfigError("Say the voxel size of the array: spacing_mm=(z, y, x) in mm, or affine=, and not both.")
        if affine is None:
            sizes = np.asarray(spacing_mm, dtype=np.float64)
            if sizes.shape != (3,) or not (np.isfinite(sizes) & (sizes > 0)).all():
                raise ConfigError(f"spacing_mm: three sizes above 0 are taken, (z, y, x) in mm. Got {spacing_mm}.")
            affine = np.diag([*sizes[::-1], 1.0])
        elif np.shape(affine) != (4, 4):
            raise ConfigError(
                f"affine: 4x4 is taken, RAS+ mm from (x, y, z) indices. Got the shape {np.shape(affine)}."
            )
        rows = []
        for place, channel in enumerate(takes.channels):
            kind = modality or ("" if "+" in channel.modality else channel.modality)
            path = work / f"image-{place}.npz"
            write_npz(path, stacked[place], np.asarray(affine, dtype=np.float64), modality=kind or "unknown")
            facts = describe(Source(path=path, relative=path.name, modality=kind))
            if facts["error"]:
                raise DataError(f"The array of channel {channel.name}: {facts['error']}")
            rows.append(
                {
                    **facts,
                    "id": f"image-{place}",
                    "modality": kind or "unknown",
                    "units": "arbitrary",
                    "patient": "image",
                    "channel": channel.name if count > 1 else "",
                    "case": "image" if count > 1 else "",
                }
            )
        names = takes.names if count > 1 else ()
        manifest = manifest_of_rows(rows, settings={"channels": list(names)})
        return Item("image", "array", manifest, channels=",".join(names) or "scans")


class ScanWorker:
    """Scans and cases.

    Args:
        predictor: What predicts.
        card: The first run's card.
    """

    def __init__(self, predictor: SegmentationPredictor | ClassificationPredictor, card: Card) -> None:
        self._predictor, self._card = predictor, card
        self._recipe = recipe_of(dict(card.data.get("store_settings", {})))
        self._seen: Mapping[str, Any] = dict(card.data.get("seen", {}))

    def key(self, item: Item) -> str:
        """Return the hash of its bytes and settings that a store names its version by."""
        return self._job(item).key

    def prepare(self, item: Item, folder: Path) -> Prepared:
        """Read, turn, resample and scale it as the training store did."""
        store, record = store_alone(folder, self._job(item))
        store = normalised_as(store, self._card.inputs_known)
        differs = scan_differences(store.entries[0], self._card, self._recipe, self._seen, record.flags)
        if item.names_nobody and isinstance(self._predictor, SegmentationPredictor):
            differs = (*differs, "written as NIfTI: a DICOM SEG names the patient, and the manifest has pseudonyms")
        return Prepared(
            entry=store.entries[0],
            predicted=lambda: self._predictor.predict(store, 0),
            write=lambda found, target: self._predictor.write(found, store, 0, target),
            differs=(*item.said, *differs),
        )

    def _job(self, item: Item) -> Job:
        return job_alone(item.manifest, self._recipe, channels=item.channels)


def _wanted(takes: Takes, settings: Any) -> tuple[str, ...]:
    names = takes.names
    if len(names) == 1:
        if settings.channels == "frames" or "," in settings.channels:
            raise ConfigError(f"channels={settings.channels}: {takes.run} takes one channel, {names[0]}. Leave it out.")
        return ()
    if settings.channels in ("auto", "frames"):
        return names
    given = tuple(name.strip() for name in settings.channels.split(",") if name.strip())
    listed = ", ".join(names)
    if len(given) != len(names):
        raise ConfigError(
            f"channels={settings.channels}: {takes.run} takes {len(names)} channels ({listed}). "
            f"Name what the new scans call each, in this order."
        )
    lower = [name.casefold() for name in given]
    for place, name in enumerate(names):
        if name.casefold() in lower and lower.index(name.casefold()) != place:
            raise ConfigError(
                f"channels={settings.channels}: '{name}' stands in place {lower.index(name.casefold()) + 1}, and "
                f"{takes.run} takes it in place {place + 1}: {listed}. Keep this order."
            )
    return given


def _single(row: Row, manifest: Manifest, takes: Takes, settings: Any, *, expected: str) -> Item:
    """Make an item of one scan; say so where its channel is another than the one that is expected."""
    row, said = _of_modality(row, takes.channels[0], settings.modality)
    if expected and unlike(row["channel"], expected):
        said += (f"it is the channel {row['channel']}, and {takes.run} was trained on {expected}",)
    return Item(row["id"], shown_of(row, manifest), alone([{**row, "case": ""}], (), manifest), said=said)


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
            ours
            for ours, name in zip(takes.names, wanted, strict=True)
            if not group.rows.get(spelled.get(name.casefold(), ""))
        ]
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
        own = alone(members, names, manifest)
        found.items.append(Item(group.id, shown, own, channels=",".join(names), said=tuple(dict.fromkeys(said))))
    inside = {row["id"] for group in groups for row in group.members}
    for row in rows:
        if row["id"] not in inside:
            what = f"It is the channel '{row['channel']}'" if row["channel"] else "Nothing says which channel it is"
            why = f"{what}; the run takes cases of {', '.join(takes.names)}. {_how_to_name(row, len(wanted))}"
            found.failed.append(failed_row(row, manifest, why))


def _how_to_name(row: Row, count: int) -> str:
    numbers = ",".join(f"{number:04d}" for number in range(count))
    if _NUMBERED.search(Path(row["path"]).name):
        return f"Its name ends in a number: channels={numbers} takes these in the order of the run's. Or give a CSV."
    return "Name them: channels=..., or a CSV."


def _case_modalities(
    group: CaseGroup, members: list[Row], takes: Takes, wanted: tuple[str, ...], spelled: Mapping[str, str]
) -> tuple[list[Row], tuple[str, ...]]:
    """Take what no file says of modality from the run, channel by channel."""
    said: tuple[str, ...] = ()
    changed = {row["id"]: row for row in members}
    if group.frames:  # one file of several frames is of one modality
        row, said = _of_modality(members[0], takes.channels[0])
        return [row], said
    for channel, name in zip(takes.channels, wanted, strict=True):
        for own in group.rows.get(spelled.get(name.casefold(), ""), ()):
            changed[own["id"]], more = _of_modality(changed[own["id"]], channel)
            said += more
    return list(changed.values()), said


def _of_modality(row: Row, channel: CardInput, given: str = "") -> tuple[Row, tuple[str, ...]]:
    """Return a row whose modality is the run's, where the file itself does not say it."""
    told = not {"modality-inferred", "modality-unknown"} & set(row["flags"])
    if told or given or "+" in channel.modality or not channel.modality:
        return dict(row), ()
    if row["modality"] == channel.modality:
        return dict(row), ()
    units = row["units"] if channel.modality == "CT" else "arbitrary"
    looked = f"it looks like {row['modality']}" if row["modality"] != "unknown" else "its file does not say"
    note = f"modality taken as {channel.modality}, as in training ({looked}); modality=... says otherwise"
    return {**row, "modality": channel.modality, "units": units}, (note,)


NEW_ITEMS = NewScans()
