"""Reduction of cases of several channels: a case is kept or left out as a whole, never a channel of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medssl.manifest.channel_cases import cases_of
from medssl.reduction.marks import Mark
from medssl.reduction.verify import Level

__all__ = ["case_members", "followed", "followers_of", "whole_cases"]

_OF_A_STRATEGY = "not chosen"


def case_members(rows: Sequence[Mapping[str, Any]], order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the rows of every case of several scans by the one that leads it, that of its first channel.

    Args:
        rows: Readable rows.
        order: Channels of the manifest.
    """
    order, groups = cases_of(rows, order)
    found: dict[str, tuple[str, ...]] = {}
    for group in groups:
        ids = tuple(dict.fromkeys(str(row["id"]) for name in order for row in group.rows.get(name, ())))
        if len(ids) > 1:
            found[ids[0]] = ids
    return found


def followers_of(cases: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the scans that do what the first channel of their case does."""
    return {name for lead, ids in cases.items() for name in ids if name != lead}


def whole_cases(marks: Mapping[str, Mark], cases: Mapping[str, Sequence[str]]) -> dict[str, Mark]:
    """Return marks in which each case is kept whole, or left out whole as the copy of another.

    A case is a copy of another where each of its scans is a copy of one of that other's. Where some are, or scans of
    one case are copies of each other, all of it is kept. A scan by itself yields to a case that it is a copy of.

    Args:
        marks: From `marks.mark_copies`.
        cases: From `case_members`.
    """
    result = dict(marks)
    lead_of = {name: lead for lead, ids in cases.items() for name in ids}
    alike: defaultdict[str, list[str]] = defaultdict(list)  # who stands for them -> scans
    for name, mark in marks.items():
        if mark.level != "unreadable":
            alike[mark.representative].append(name)

    def others(name: str) -> dict[str, str]:
        """Return the cases that hold a copy of a scan, and the copy."""
        mark, own = marks[name], lead_of[name]
        if mark.level == "unreadable":
            return {}
        return {lead_of[one]: one for one in alike[mark.representative] if lead_of.get(one, own) != own}

    kept: set[str] = set()
    copied: dict[str, set[str]] = {
        lead: set.intersection(*(set(others(name)) for name in ids)) for lead, ids in cases.items()
    }
    part = {lead: any(lead not in copied[one] for one in copied[lead]) for lead in cases}  # of a larger case
    for lead in sorted(cases, key=lambda lead: (part[lead], not marks[lead].keep, -len(cases[lead]), lead)):
        there = sorted(copied[lead] & kept)
        if there:
            for name in cases[lead]:
                twin = others(name)[there[0]]
                level = marks[name].level or marks[twin].level or Level.SAME_IMAGE.value
                reason = f"{level} as {twin}, and so are all channels of its case"
                result[name] = replace(marks[name], keep=False, level=level, reason=reason, representative=twin)
            continue
        kept.add(lead)
        for name in cases[lead]:
            own = marks[name]
            if not own.keep and own.level != "unreadable":
                result[name] = replace(
                    own,
                    keep=True,
                    level="",
                    representative=name,
                    distance=0.0,
                    score=None,
                    reason=f"{own.reason}; kept, for its case is no copy as a whole",
                )
    _yield_to_cases(result, marks, [name for lead in kept for name in cases[lead]], alike, lead_of)
    return result


def _yield_to_cases(
    result: dict[str, Mark],
    marks: Mapping[str, Mark],
    kept: Sequence[str],
    alike: Mapping[str, Sequence[str]],
    lead_of: Mapping[str, str],
) -> None:
    """Leave out the scans by themselves that are copies of a channel of a kept case."""
    for name in kept:
        for one in alike.get(marks[name].representative, ()):
            if one not in lead_of:
                old = result[one]
                level = old.level or marks[name].level or Level.SAME_IMAGE.value
                reason = f"{level} as {name}, which is a channel of a case"
                result[one] = replace(old, keep=False, level=level, reason=reason, representative=name)


def followed(marks: Mapping[str, Mark], cases: Mapping[str, Sequence[str]]) -> dict[str, Mark]:
    """Return marks in which the scans of a case that a strategy leaves out go with its first channel."""
    result = dict(marks)
    for lead, ids in cases.items():
        if marks[lead].keep or marks[lead].level != _OF_A_STRATEGY:
            continue
        for name in ids[1:]:
            if marks[name].keep:
                result[name] = replace(
                    marks[name],
                    keep=False,
                    level=_OF_A_STRATEGY,
                    reason=f"{marks[lead].reason} (with {lead})",
                    representative=marks[lead].representative if marks[lead].representative != lead else name,
                    distance=marks[lead].distance,
                )
    return result
