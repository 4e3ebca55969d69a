"""Saying which scans and labels a store left out, by the kind of fault, and how to take them all the same."""

from __future__ import annotations

from collections.abc import Mapping

from medssl.store.accepting import ACCEPTED, by_kind, how_to_accept, kind_of
from medssl.workflows import events

__all__ = ["say_refusals"]

_SHOWN = 10
_NAMED = 5


def say_refusals(failed: Mapping[str, str], refused_labels: Mapping[str, str]) -> None:
    """Say which scans were left out and which are stored without their label.

    Args:
        failed: Scan -> why it could not be stored.
        refused_labels: Scan -> "kind: reason" why its label was not.
    """
    plain = {scan: reason for scan, reason in failed.items() if kind_of(reason) not in ACCEPTED}
    for scan, reason in list(plain.items())[:_SHOWN]:
        events.warning(f"{scan} was left out: {reason}")
    if len(plain) > _SHOWN:
        events.warning(f"... and {len(plain) - _SHOWN} more; store.json lists all under 'failed'")
    for kind, scans in by_kind({s: r for s, r in failed.items() if s not in plain}).items():
        said = how_to_accept(kind)
        events.warning(f"{len(scans)} scans were left out ({kind}): {_names(scans)}. {said}")
    for kind, scans in by_kind(refused_labels).items():
        said = how_to_accept(kind) or f"The first: {refused_labels[scans[0]].partition(': ')[2]}"
        events.warning(f"{len(scans)} scans are stored without their label ({kind}): {_names(scans)}. {said}")


def _names(scans: list[str]) -> str:
    return ", ".join(scans[:_NAMED]) + (f" and {len(scans) - _NAMED} more" if len(scans) > _NAMED else "")
