"""``medssl list``: what there is to choose from."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from medssl.command import Command
from medssl.errors import ConfigError, did_you_mean
from medssl.presets import list_presets
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.verbs import VERBS

__all__ = ["KINDS", "Listed", "list_things"]

Rows = list[tuple[str, ...]]


def _presets() -> tuple[tuple[str, ...], Rows]:
    rows: Rows = [(p.verb, p.name, p.header.get("purpose", "")) for p in list_presets()]
    return ("Verb", "Name", "Purpose"), rows


def _verbs() -> tuple[tuple[str, ...], Rows]:
    return ("Name", "What it does"), [(name, verb.summary) for name, verb in VERBS.items()]


def _data() -> tuple[tuple[str, ...], Rows]:
    cards = importlib.import_module("medssl.manifest.cards").list_cards()
    return ("Name", "Licence", "What it is"), [(name, card.licence, card.title) for name, card in cards.items()]


def _formats() -> tuple[tuple[str, ...], Rows]:
    table = importlib.import_module("medssl.formats.table")
    return ("Name", "Suffixes"), [(row.name, " ".join(row.suffixes)) for row in table.FORMATS.values()]


def _methods() -> tuple[tuple[str, ...], Rows]:
    table = importlib.import_module("medssl.methods.table").METHODS
    clouds = importlib.import_module("pointcloud.methods.table").CLOUD_METHODS
    rows: Rows = [(name, "volumes", row.take_when, row.needs, row.paper) for name, row in table.items()]
    rows += [(name, "clouds", row.take_when, row.needs, row.paper) for name, row in clouds.items()]
    return ("Name", "For", "Take it when", "Needs", "Paper"), rows


def _parts() -> tuple[tuple[str, ...], Rows]:
    table = importlib.import_module("medssl.methods.parts.table").PARTS
    rows: Rows = [(n, r.slot, r.take_when, r.needs, ", ".join(r.excludes), r.paper) for n, r in table.items()]
    return ("Name", "Is", "Take it when", "Needs", "Not with", "Paper"), rows


def _encoders() -> tuple[tuple[str, ...], Rows]:
    table = importlib.import_module("medssl.encoders.table").ENCODERS
    clouds = importlib.import_module("pointcloud.encoders.table").CLOUD_ENCODERS
    rows: Rows = [(name, "volumes", row.take_when, row.paper) for name, row in table.items()]
    rows += [(name, "clouds", row.take_when, row.paper) for name, row in clouds.items()]
    return ("Name", "For", "Take it when", "Paper"), rows


def _weights() -> tuple[tuple[str, ...], Rows]:
    sources = importlib.import_module("medssl.weights.table").SOURCES
    rows: Rows = [(name, row.title, row.trained_on, row.weights.name, row.encoder) for name, row in sources.items()]
    return ("Name", "What it is", "Trained on", "Licence of the weights", "Encoder"), rows


def _trackers() -> tuple[tuple[str, ...], Rows]:
    table = importlib.import_module("medssl.engine.trackers").TRACKERS
    return ("Name", "Take it when", "Needs"), [(name, row.take_when, row.needs) for name, row in table.items()]


def _tell_refused() -> None:
    refused = importlib.import_module("medssl.weights.refused").REFUSED
    cells = [(name, row.why, row.nearest) for name, row in refused.items()]
    events.table("Not taken", ("Name", "Why not", "The nearest that is"), cells, key="not_taken")


_SHOWN_BY_LIST = ("formats", "trackers")  # a row says all, so `show` has no page of them
KINDS: dict[str, Callable[[], tuple[tuple[str, ...], Rows]]] = {
    "presets": _presets,
    "methods": _methods,
    "parts": _parts,
    "encoders": _encoders,
    "data": _data,
    "weights": _weights,
    "formats": _formats,
    "trackers": _trackers,
    "verbs": _verbs,
}


@dataclass(frozen=True)
class Listed(Result):
    """What there is to choose from.

    Attributes:
        columns: The heads.
        rows: One a thing, as long as ``columns``.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def list_things(kind: str = "presets") -> Listed:
    """List one kind of thing, and show it as a table.

    Args:
        kind: A key of ``KINDS``.

    Raises:
        ConfigError: There is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"Cannot list '{kind}'. {did_you_mean(kind, KINDS)}")
    columns, rows = KINDS[kind]()
    events.table(kind.capitalize(), columns, rows, key=kind)
    if kind == "weights":
        _tell_refused()
    first = "/".join(rows[0][:2]) if kind == "presets" else rows[0][0]
    return events.written(
        Listed(columns, tuple(rows), next=Command() if kind in _SHOWN_BY_LIST else Command("show", first))
    )
