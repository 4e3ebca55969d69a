"""Which scans are channels of one case: the column ``case``, the order of channels, and what is said of both.

The manifest stays one row a scan. Scans of one patient, visit and body are one case where they have different channels
of the cohort; of a file whose frames are channels the one row is the case, and ``channel`` names all of them.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from medssl.errors import ConfigError, did_you_mean
from medssl.manifest.rules.channels import (
    chosen_channels,
    frame_names,
    is_view,
    joined_names,
    ordered_channels,
    split_names,
)
from medssl.manifest.rules.words import channel_of
from medssl.manifest.series import SET_ASIDE
from medssl.manifest.series_cases import GAP_MM, is_series, series_groups
from medssl.manifest.sources import Source, stem

__all__ = ["AUTO", "CaseGroup", "FoundCases", "by_number", "case_lines", "cases_of", "find_cases"]

AUTO = "auto"
NONE, FRAMES = "none", "frames"
_NO_SCAN = {SET_ASIDE, "label-without-image", "looks-like-labels"}
_SHOWN = 4
_NUMBER = re.compile(r"\d{4}")
_NUMBERED = re.compile(r"(.+)_(\d{4})")  # of nnU-Net
Row = Mapping[str, Any]


@dataclass(frozen=True)
class FoundCases:
    """What `find_cases` says beside the column.

    Attributes:
        order: The channels of the cohort, in the order that a case has them; () where there are no cases.
        notes: Sentences about scans that could have been channels and are none.
    """

    order: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseGroup:
    """The rows of one case.

    Attributes:
        id: Its name, safe as a file name.
        rows: Channel -> the rows that have it; several where a person listed them so.
        frames: Channel -> frame of its file; empty where each channel is a file.
    """

    id: str
    rows: dict[str, list[Row]] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)

    @property
    def members(self) -> list[Row]:
        """Every row once."""
        return list({row["id"]: row for own in self.rows.values() for row in own}.values())


def find_cases(
    rows: Sequence[dict[str, Any]],
    sources: Mapping[tuple[str, ...], Source],
    *,
    asked: str = AUTO,
    named: Sequence[str] = (),
    gap_mm: float = GAP_MM,
) -> FoundCases:
    """Fill in ``case`` of every row that is a channel.

    Args:
        rows: All rows; changed in place.
        sources: Files of a row -> its source.
        asked: "auto", "none", "frames", or the names of channels with commas between them, in their order.
        named: Channels that a dataset.json names, in its order.
        gap_mm: How far the first channel of a DICOM study may reach beyond another one.

    Raises:
        ConfigError: No scan has one of the channels that are asked for.
    """
    for row in rows:
        row["case"] = ""
    volumes = [row for row in rows if row.get("kind", "volume") == "volume" and not _NO_SCAN & set(row["flags"])]
    asked = NONE if asked == "scans" else asked  # the word of cache
    by_hand = tuple(name.strip() for name in asked.split(",") if name.strip())
    by_hand = () if asked in (AUTO, NONE, FRAMES) else by_hand
    of_frames = _frames(volumes, asked, by_hand)
    if of_frames is not None or asked in (NONE, FRAMES):
        return of_frames or FoundCases()
    found: defaultdict[tuple[str, str, str], defaultdict[str, list[dict[str, Any]]]]
    found = defaultdict(lambda: defaultdict(list))
    spelled: dict[str, str] = {}
    told = [name.casefold() for name in (*by_hand, *named)]
    series: list[dict[str, Any]] = []
    numbered, volumes = _numbered(volumes, sources, by_hand)
    for row in sorted(volumes, key=lambda row: str(row["path"])):
        source = sources.get(tuple(row["paths"]))
        if source is None or not row["channel"]:
            continue
        if is_series(row) and not source.case:
            series.append(row)
            continue
        said = source.case or row["channel"].casefold() in told
        if is_view(row["channel"]) and not said:
            continue
        key = ("case", source.case, "") if source.case else (row["patient"], row["study"] or "", source.body)
        spelled.setdefault(row["channel"].casefold(), row["channel"])
        found[key][row["channel"].casefold()].append(row)
    for row, key in numbered:
        spelled.setdefault(row["channel"], row["channel"])
        found[key][row["channel"]].append(row)
    grouped = series_groups(series, said=told, gap_mm=gap_mm)
    for key, own in grouped.of.items():
        for name, members in own.items():
            spelled.setdefault(name, members[0]["channel"])
            found[key][name] += members
    order, notes = _order(found, spelled, by_hand, named)
    if not order:
        return FoundCases((), tuple(notes))
    notes += grouped.notes
    wanted = [name.casefold() for name in order]
    chosen = {key: _members({n: found[key][n] for n in wanted if n in found[key]}) for key in sorted(found)}
    rivals = [row for _, more in chosen.values() for row in more]
    groups = [(key, members) for key, (members, _) in chosen.items() if members]
    taken = {id(row) for _, members in groups for row in members}
    _name(groups, [str(row["id"]) for row in rows if id(row) not in taken])
    if rivals:
        first = rivals[0]
        name = first["id"] if is_series(first) else PurePosixPath(first["path"]).name
        notes.append(
            f"{len(rivals)} scans repeat a channel of their case (a second run, or other processing) and stay scans "
            f"by themselves, such as {name} ({first['channel']}). Say which one is meant "
            "with a CSV that has the columns path, case and channel."
        )
    return FoundCases(order, tuple(notes))


def by_number(by_hand: Sequence[str]) -> bool:
    """Tell whether channels are named by the numbers that nnU-Net gives files, such as 0000 and 0001."""
    return bool(by_hand) and all(_NUMBER.fullmatch(name) for name in by_hand)


def _numbered(
    volumes: list[dict[str, Any]], sources: Mapping[tuple[str, ...], Source], by_hand: Sequence[str]
) -> tuple[list[tuple[dict[str, Any], tuple[str, str, str]]], list[dict[str, Any]]]:
    """Return rows of files that are numbered as nnU-Net does with their case, and the rows that names are to tell.

    ``case_0000.nii.gz`` to ``case_0003.nii.gz`` are four channels of the case, and of one patient, of that name. That
    is taken where a person asks for numbers: a few files show no such rule.
    """
    if not by_number(by_hand):
        return [], volumes
    found = []
    for row in sorted(volumes, key=lambda row: str(row["path"])):
        source = sources.get(tuple(row["paths"]))
        where = PurePosixPath(source.relative if source is not None else row["path"])
        match = _NUMBERED.fullmatch(stem(where.name))
        if match is None or match[2] not in by_hand:
            continue
        case = str(where.with_name(match[1]))
        row["channel"] = match[2]
        row["patient"] = case if row["patient"].endswith(f"_{match[2]}") else row["patient"]
        found.append((row, ("case", case, "")))
    return found, []


def cases_of(rows: Iterable[Row], order: Sequence[str]) -> tuple[tuple[str, ...], list[CaseGroup]]:
    """Return the channels of a manifest in their order, and its cases in the order of the rows.

    Args:
        rows: Rows of a manifest.
        order: What ``manifest.settings["channels"]`` keeps; channels that a person wrote into a CSV come behind.
    """
    groups: dict[str, CaseGroup] = {}
    names: list[str] = list(order)
    for row in rows:
        if row["kind"] != "volume" or not row["case"] or not row["channel"]:
            continue
        group = groups.setdefault(row["case"], CaseGroup(row["case"]))
        for frame, name in enumerate(split_names(row["channel"]) or (row["channel"],)):
            known = next((one for one in names if one.casefold() == name.casefold()), None)
            if known is None:
                names.append(known := name)
            group.rows.setdefault(known, []).append(row)
            if split_names(row["channel"]):
                group.frames[known] = frame
    if not groups:
        return (), []
    present = [name for name in names if any(name in group.rows for group in groups.values()) or name in order]
    return ordered_channels(present, order), list(groups.values())


def case_lines(rows: Sequence[Row], order: Sequence[str]) -> list[str]:
    """Return what was understood of channels: how many cases there are, which lack what, and what is no case."""
    order, groups = cases_of(rows, order)
    if not groups:
        return []
    labelled = sum(any(row["label_path"] for row in group.members) for group in groups)
    lines = [f"{len(groups)} cases x {len(order)} channels ({', '.join(order)}), {labelled} labelled"]
    for name in order:
        lacking = [group.id for group in groups if not _usable(group.rows.get(name, ()))]
        if lacking:
            more = f", and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            shown = ", ".join(lacking[:_SHOWN])
            lines.append(
                f"{len(lacking)} case{'s' * (len(lacking) > 1)} lack{'s' * (len(lacking) == 1)} {name}: {shown}{more}"
            )
    if len(lines) > 1:
        lines.append("medssl cache leaves out cases that lack a channel; missing=fill keeps them, the channel marked")
    alone = [row for row in rows if row["kind"] == "volume" and not row["case"] and row["error"] is None]
    if alone:
        counted = Counter(row["channel"] or "no name" for row in alone)
        kinds = ", ".join(f"{name} {count}" for name, count in counted.most_common(_SHOWN))
        lines.append(
            f"{len(alone)} scans are no channel of a case ({kinds}{', ...' * (len(counted) > _SHOWN)}); medssl cache "
            "stores cases, or every scan by itself with channels=scans"
        )
    return lines


def _usable(rows: Iterable[Row]) -> bool:
    return any(row["error"] is None and row["keep"] for row in rows)


def _frames(volumes: Sequence[dict[str, Any]], asked: str, by_hand: tuple[str, ...]) -> FoundCases | None:
    """Make cases of files whose frames are channels; None where there are none."""
    counts = Counter(row.get("frames") or 1 for row in volumes if not row.get("error"))
    there = {row["channel"].casefold() for row in volumes if row["channel"]}
    plain = by_hand if not there & {name.casefold() for name in by_hand} and counts.get(len(by_hand)) else ()
    names: tuple[str, ...] = ()
    odd = []
    for row in volumes:
        own = split_names(row["channel"])
        row["channel"] = "" if own else row["channel"]
        several = (row.get("frames") or 1) > 1 and not row.get("error")
        if not several or asked == NONE or (by_hand and not plain):
            continue
        own = plain or own or (frame_names(row["frames"]) if asked == FRAMES else ())
        if not own:
            continue
        names = names or own
        if len(own) != row["frames"] or own != names:
            odd.append(row)
            continue
        row["case"], row["channel"] = row["id"], joined_names(own)
    if not names:
        if asked == FRAMES:
            raise ConfigError(
                "channels=frames takes the frames of 4D files for channels, and there is no 4D file. Leave it out, or "
                "name the channels: channels=t1,t2."
            )
        return None
    notes = []
    if odd:
        notes.append(
            f"{len(odd)} files have another number of frames than the {len(names)} channels ({', '.join(names)}) and "
            f"stay scans by themselves, such as {PurePosixPath(odd[0]['path']).name} with {odd[0]['frames']}."
        )
    return FoundCases(names, tuple(notes))


def _order(
    found: Mapping[tuple[str, str, str], Mapping[str, Any]],
    spelled: Mapping[str, str],
    by_hand: Sequence[str],
    named: Sequence[str],
) -> tuple[tuple[str, ...], list[str]]:
    """Return the channels of the cohort's cases, and what is said of those that were left."""
    if by_hand:
        for name in by_hand:
            if name.casefold() not in spelled:
                listed = ", ".join(ordered_channels(spelled.values())) or "none; names of files show none"
                raise ConfigError(
                    f"channels: no scan has the channel '{name}'. Channels that were found: {listed}. "
                    f"{did_you_mean(name, spelled.values())}".strip()
                )
        return tuple(by_hand), []
    listed_by_hand = {name for key, own in found.items() if key[0] == "case" for name in own}
    stated = [name for name in named if name.casefold() in spelled]
    if listed_by_hand:
        chosen = frozenset(listed_by_hand)
    elif len(stated) > 1:
        chosen = frozenset(name.casefold() for name in stated)
    else:
        chosen = chosen_channels(frozenset(own) for own in found.values())
    order = ordered_channels((spelled[name] for name in chosen), stated)
    notes = []
    several = [own for own in found.values() if len(own) > 1]
    others = Counter(name for own in several for name in own if name not in chosen)
    if several and not chosen:
        shown = ", ".join(ordered_channels(spelled[name] for name in others))
        notes.append(
            f"{len(several)} patients have scans of several channels ({shown}), and too few have the same ones for "
            "cases; each scan stays by itself. Say it with channels=NAME,NAME of medssl index."
        )
    elif others:
        shown = ", ".join(f"{spelled[name]} of {count}" for name, count in others.most_common(_SHOWN))
        whole = ",".join(ordered_channels(spelled[name] for name in {*chosen, *others}))
        notes.append(
            f"channels that only some of the {len(found)} cases have are left out: {shown}. They become channels with "
            f"channels={whole} of medssl index."
        )
    return order, notes


def _members(
    candidates: Mapping[str, list[dict[str, Any]]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return one row a channel, and those that were not taken. Rows of one folder and one processing go together."""
    groups: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, rows in candidates.items():
        for row in rows:
            groups[_processing(row)].add(name)
    ranked = sorted(groups, key=lambda group: (-len(groups[group]), group))
    taken, left = [], []
    for rows in candidates.values():
        ordered = sorted(rows, key=lambda row: (bool(row.get("error")), ranked.index(_processing(row)), row["path"]))
        taken.append(ordered[0])
        left += ordered[1:]
    return taken, left


def _processing(row: Row) -> tuple[str, str]:
    """Return the folder without those that name a channel, and what the name says of runs and processing."""
    path = PurePosixPath(row["path"])
    folder = "/".join(part for part in path.parts[:-1] if not channel_of(part))
    words = re.split(r"[_\-. ]+", path.name.casefold())
    runs = [
        b + (a if b in ("run", "rep", "acq", "echo") else "")
        for b, a in zip(words, [*words[1:], ""], strict=True)
        if re.match(r"(run|rep|acq|echo|n4|reg|bet|brain|raw|orig|pre|norm)", b)
    ]
    return folder, "-".join(runs)


def _name(groups: Sequence[tuple[tuple[str, str, str], list[dict[str, Any]]]], others: Iterable[str]) -> None:
    """Name every case after patient, visit and body: safe as a file name, and like no other case or scan."""
    seen = {name.casefold() for name in others}
    for key, members in groups:
        body = key[2].rpartition("|")[2]
        parts = [key[1]] if key[0] == "case" and not key[2] else [key[0], key[1], body]
        if is_series(members[0]) and key[0] != "case":  # hashes, of which the beginning will do
            short = key[0][:8] if members[0]["patient_rule"] == "dicom" else key[0]
            parts = ["dicom", short, key[1][:8], body[:4]]
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(part for part in parts if part)).strip("-.") or "case"
        if name.casefold() in seen:
            name += "-" + hashlib.sha256("\0".join(key).encode()).hexdigest()[:8]
        seen.add(name.casefold())
        for row in members:
            row["case"] = name
