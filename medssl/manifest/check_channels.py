"""What is doubtful in cases of several channels: channels that are lacking, on other grids, or of other patients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from medssl.formats.label_grid import grid_gap
from medssl.manifest.channel_cases import CaseGroup, cases_of
from medssl.manifest.targets import targets_of

__all__ = ["channels_together"]

Row = Mapping[str, Any]
Doubt = tuple[str, str, str, str]
_SHOWN = 4


def channels_together(rows: Sequence[Row], order: Sequence[str]) -> Iterator[Doubt]:
    """Yield what is to be known of the cases as a whole, as (severity, kind, what, what to do).

    Args:
        rows: Rows of the manifest, those that cannot be read or are left out too.
        order: Its channels.
    """
    order, groups = cases_of(rows, order)
    if not groups:
        return
    have = {group.id: [name for name in order if _usable(group.rows.get(name, ()))] for group in groups}
    for name in order:
        lacking = [case for case, own in have.items() if name not in own]
        if lacking:
            what = f"{len(lacking)} of {len(groups)} cases lack the channel {name}: {_listed(lacking)}"
            todo = "medssl cache leaves them out; missing=fill stores them, channels=NAME,NAME stores fewer."
            yield "warning", "channel-missing", what, todo
    sets = Counter(", ".join(own) for own in have.values() if own)
    if len(sets) > 1:
        said = "; ".join(f"{count} x {names}" for names, count in sets.most_common(_SHOWN))
        yield (
            "info",
            "channel-sets",
            f"cases have {len(sets)} different sets of channels: {said}",
            "Choose those that most have with channels=NAME,NAME of medssl cache.",
        )
    yield from _torn(groups)
    yield from _off_grid(groups, order)


def _torn(groups: Sequence[CaseGroup]) -> Iterator[Doubt]:
    for column, kind, what in (
        ("patient", "case-of-several-patients", "patients"),
        ("label_path", "case-of-several-labels", "label maps"),
        ("split", "case-of-several-splits", "splits"),
    ):
        torn = {
            group.id: values
            for group in groups
            if len(values := sorted({str(row[column]) for row in group.members if row[column]})) > 1
            and (column != "split" or len({row["patient"] for row in group.members}) == 1)
        }
        if torn:
            case, values = next(iter(torn.items()))
            said = f"{len(torn)} cases have channels of several {what}, such as {case}: {_listed(values)}"
            yield (
                "error",
                kind,
                said,
                "A case must have one. Fix the columns of the CSV, or: medssl index ... channels=none",
            )
    for group in groups:
        told: dict[str, str] = {}
        for name, word in (pair for row in group.members for pair in targets_of(row).items()):
            if told.setdefault(name, word) != word:
                what = f"channels of the case {group.id} have several classes of {name}: {told[name]}, {word}"
                yield ("error", "case-of-several-classes", what, "A case has one class: fix the table of targets.")
                break
    twice = [(group.id, name) for group in groups for name, own in group.rows.items() if sum(map(_is_good, own)) > 1]
    if twice:
        yield (
            "error",
            "channel-twice",
            f"{len(twice)} channels are named by several scans of their case, such as {twice[0][1]} of {twice[0][0]}",
            "Fix the columns 'case' and 'channel' of the CSV.",
        )


def _off_grid(groups: Sequence[CaseGroup], order: Sequence[str]) -> Iterator[Doubt]:
    """Yield channels that lie on another grid than the first of their case, a line each."""
    found: dict[str, list[tuple[float, str]]] = {}
    first = ""
    for group in groups:
        rows = {name: row for name in order if (row := _first(group.rows.get(name, ()))) and row["affine"]}
        if len(rows) < 2 or group.frames:
            continue
        first, lead = next(iter(rows.items()))
        for name, row in rows.items():
            gap = grid_gap(_grid(row), _grid(lead))
            if gap is not None:
                found.setdefault(name, []).append((gap.apart_mm, group.id))
    for name, gaps in found.items():
        apart, case = max(gaps)
        what = (
            f"the channel {name} of {len(gaps)} cases lies on another grid than their first one ({first}), with "
            f"corners up to {apart:.1f} mm apart, such as {case}"
        )
        todo = "medssl cache resamples it to the first one's grid by the headers; check that both show the same place."
        yield "warning", "channel-on-another-grid", what, todo


def _grid(row: Row) -> Any:
    return SimpleNamespace(shape=tuple(row["shape"]), affine=np.array(row["affine"], dtype=np.float64).reshape(4, 4))


def _is_good(row: Row) -> bool:
    return row["error"] is None and bool(row["keep"])


def _first(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if _is_good(row)), None)


def _usable(rows: Sequence[Row]) -> bool:
    return any(_is_good(row) for row in rows)


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
