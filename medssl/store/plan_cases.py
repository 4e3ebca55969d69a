"""From the scans of a manifest to the cases that a store shall hold: which channels, which rows, which are left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.formats.dicom_labels import is_label_object
from medssl.formats.label_grid import grid_gap
from medssl.formats.table import format_of
from medssl.manifest.channel_cases import CaseGroup, cases_of
from medssl.manifest.targets import targets_of
from medssl.store.options import StoreSettings

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = ["Asked", "CasePlan", "Member", "cases_asked"]

AUTO, SCANS = "auto", "scans"
_SHOWN = 4
_LABEL = ("label_path", "label_values", "label_voxels", "label_file_hash")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """One channel of a case to be stored: the row that has it, None where the case lacks it, and its frame."""

    name: str
    row: Row | None
    frame: int | None = None


@dataclass(frozen=True)
class CasePlan:
    """One case to be stored.

    Attributes:
        row: The row of its first channel, with the case's id and label.
        members: Its channels in the store's order.
        label_fault: Why its label is not to be used, "" where it is.
    """

    row: dict[str, Any]
    members: tuple[Member, ...]
    label_fault: str = ""


@dataclass(frozen=True)
class Asked:
    """What the setting ``channels`` comes to on a manifest.

    Attributes:
        channels: The store's channels; () where scans are stored by themselves.
        cases: The cases to be stored.
        refused: Cases that cannot be stored, id -> reason.
        notes: Sentences: what is stored, what is left out, and how to get it otherwise.
        usual: Channel -> a row that has it, for what a case that lacks it is told of it.
    """

    channels: tuple[str, ...] = ()
    cases: tuple[CasePlan, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    usual: dict[str, Row] = field(default_factory=dict)


def cases_asked(manifest: Manifest, settings: StoreSettings) -> Asked:
    """Return the cases that a store of a manifest shall hold; none where scans are stored by themselves.

    Raises:
        ConfigError: A channel is asked for that the manifest does not have.
        DataError: Every case lacks a channel.
    """
    if settings.channels in (SCANS, "none"):  # the word of index
        return Asked()
    order, groups = cases_of(manifest.rows(), manifest.settings.get("channels", ()))
    if settings.channels != AUTO:
        order = _named(settings.channels, order)
    if not groups:
        return Asked()
    cases, refused, usual = [], dict[str, str](), dict[str, Row]()
    left: dict[str, list[str]] = {name: [] for name in order}
    for group in groups:
        members = [Member(name, _usable(group.rows.get(name, ())), group.frames.get(name)) for name in order]
        lacking = [member.name for member in members if member.row is None]
        usual = {member.name: member.row for member in members if member.row is not None} | usual
        if len(lacking) == len(members):
            continue
        if lacking and settings.missing == "leave-out":
            for name in lacking:
                left[name].append(group.id)
            continue
        fault = _fault(group, order)
        if fault:
            refused[group.id] = fault
        else:
            cases.append(_plan(group.id, members))
    left = {name: ids for name, ids in left.items() if ids}
    if not cases and not refused:
        said = "; ".join(f"{len(ids)} lack {name}" for name, ids in left.items())
        raise DataError(
            f"Every case of the manifest lacks a channel ({said}). missing=fill stores them with the channel marked as "
            "lacking; channels=NAME,NAME stores fewer channels; channels=scans stores every scan by itself."
        )
    notes = [
        f"cases of {len(order)} channels are stored ({', '.join(order)}); channels=scans stores every scan by itself"
    ]
    for name, ids in left.items():
        more = f", and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        notes.append(
            f"cases that lack {name} are left out: {len(ids)} ({', '.join(ids[:_SHOWN])}{more}); missing=fill stores "
            "them with the channel marked as lacking"
        )
    alone = sum(_is_good(row) and row["kind"] == "volume" and not row["case"] for row in manifest.rows())
    if alone:
        notes.append(f"{alone} scans are no channel of a case and are not stored; channels=scans stores every scan")
    return Asked(order, tuple(cases), refused, tuple(notes), usual)


def _named(asked: str, order: Sequence[str]) -> tuple[str, ...]:
    known = {name.casefold(): name for name in order}
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if not order:
        raise ConfigError(
            f"channels={asked}: the manifest has no cases of several channels. Say which scans are channels of one "
            f"case: medssl index ... channels={asked}. Or store every scan by itself: channels=scans."
        )
    for name in names:
        if name.casefold() not in known:
            raise ConfigError(
                f"channels: the manifest's cases have no channel '{name}'. They have: "
                f"{', '.join(order)}. {did_you_mean(name, order)}".strip()
            )
    if not names or len({name.casefold() for name in names}) < len(names):
        raise ConfigError(f"channels={asked!r}: name each channel once, such as channels={','.join(order)}; or auto.")
    return tuple(known[name.casefold()] for name in names)


def _is_good(row: Row) -> bool:
    return row["error"] is None and bool(row["keep"])


def _usable(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if _is_good(row)), None)


def _fault(group: CaseGroup, order: Sequence[str]) -> str:
    """Return why a case cannot be stored, "" where it can."""
    rows = [row for name in order for row in group.rows.get(name, ()) if _is_good(row)]
    patients = sorted({str(row["patient"]) for row in rows})
    if len(patients) > 1:
        return (
            f"Its channels are of several patients ({', '.join(patients[:_SHOWN])}). A case is of one: mend the "
            "columns 'case' and 'patient'."
        )
    splits = sorted({str(row["split"]) for row in rows})
    if len(splits) > 1:
        return f"Its channels are of several splits ({', '.join(splits)}). A case is of one: mend the column 'split'."
    said: dict[str, str] = {}
    for row in rows:
        for name, word in targets_of(row).items():
            if said.setdefault(name, word) != word:
                return f"Its channels have several classes of {name} ({said[name]}, {word}). A case has one: mend them."
    for name in order:
        paths = [row["path"] for row in group.rows.get(name, ()) if _is_good(row)]
        if len(paths) > 1:
            return f"{len(paths)} scans are its channel {name}: {paths[0]}, {paths[1]}. Mend the column 'case'."
    return ""


def _plan(case: str, members: Sequence[Member]) -> CasePlan:
    rows = [member.row for member in members if member.row is not None]
    labelled = next((row for row in rows if row["label_path"]), rows[0])
    labels = sorted({row["label_path"] for row in rows if row["label_path"]})
    fault = (
        f"label-several: {labels[0]}: The channels of the case name {len(labels)} label maps. A case has one: mend the "
        "column 'label'."
        if len(labels) > 1
        else _off_grid(labelled, rows[0])
    )
    told = {name: word for row in reversed(rows) for name, word in targets_of(row).items()}
    targets = json.dumps(told, sort_keys=True) if told else None
    row = {**rows[0], **{name: labelled[name] for name in _LABEL}, "id": case, "targets": targets}
    return CasePlan(row, tuple(members), fault)


def _off_grid(labelled: Row, lead: Row) -> str:
    """Return why contours that were drawn on another channel are no label of the case, "" where they are.

    A label map has a grid, which is held against that of the first channel when both are read. An RTSTRUCT has
    none: painted into slices that it was not drawn on, it would have gaps.
    """
    path = labelled["label_path"]
    if not path or labelled is lead or format_of(Path(path)) not in (None, "dicom") or not is_label_object(Path(path)):
        return ""
    if any(row["affine"] is None or row["shape"] is None for row in (labelled, lead)):
        return ""
    gap = grid_gap(_grid(labelled), _grid(lead))
    if gap is None:
        return ""
    return (
        f"label-of-another-channel: {path}: It was drawn on {labelled['channel']}, which is not on the grid of "
        f"{lead['channel']}: {gap.words}. The first channel gives the grid: channels={labelled['channel']},... of "
        "medssl cache puts that one first."
    )


def _grid(row: Row) -> Any:
    return SimpleNamespace(shape=tuple(row["shape"]), affine=np.array(row["affine"], dtype=np.float64).reshape(4, 4))
