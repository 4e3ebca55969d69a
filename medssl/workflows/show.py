"""``medssl show``: one preset, method, encoder, data card or verb, with everything that can be set in it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medssl.command import Command
from medssl.errors import ConfigError, did_you_mean
from medssl.presets import find_preset, list_presets, preset_folder
from medssl.table import Table
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.setting_docs import SettingDoc, setting_docs
from medssl.workflows.verbs import VERBS, settings_of

__all__ = ["Shown", "show"]

# Kind -> dotted path of its table.
_TABLES = {
    "method": "medssl.methods.table.METHODS",
    "part": "medssl.methods.parts.table.PARTS",
    "encoder": "medssl.encoders.table.ENCODERS",
    "cloud method": "pointcloud.methods.table.CLOUD_METHODS",
    "cloud encoder": "pointcloud.encoders.table.CLOUD_ENCODERS",
}
_BOTH = ("code", "weights")  # of published weights, each has a licence


@dataclass(frozen=True)
class Shown(Result):
    """What is known of a name; ``figures`` has the texts of presets and the facts of rows and cards.

    Attributes:
        name: The name.
        settings: Everything that can be set in it; of a name of several kinds, one kind after the other.
    """

    name: str
    settings: tuple[SettingDoc, ...] = ()


def show(name: str, *, every: bool = False) -> Shown:
    """Tell what is known of ``name``: a preset's text, a table's row, or a verb's settings.

    Args:
        name: A preset (``voco`` or ``pretrain/voco``), a method, an encoder, a data card or a verb. A name of
            several kinds shows them all.
        every: Show a verb's settings with those of all methods, encoders and tasks that it may be given, not of the
            default ones alone; of a method also what a step over parts of a batch is.

    Raises:
        ConfigError: Nothing has that name.
    """
    tables = {kind: _table(kind) for kind in _TABLES}
    bare = name.rpartition("/")[2]
    presets = [p for p in list_presets() if name in {p.name, f"{p.verb}/{p.name}"}]
    rows = {kind: table[name] for kind, table in tables.items() if name in table}
    cards = importlib.import_module("medssl.manifest.cards").list_cards()
    weights = importlib.import_module("medssl.weights.table").SOURCES
    refused = importlib.import_module("medssl.weights.refused").refused_by_name(name)
    if not presets and not rows and not refused and not any(name in known for known in (VERBS, cards, weights)):
        known = {p.name for p in list_presets()} | {key for table in tables.values() for key in table}
        known |= set(VERBS) | set(cards) | set(weights)
        raise ConfigError(f"Nothing is called '{name}'. {did_you_mean(bare, known)}")
    figures: dict[str, Any] = {}
    docs: list[SettingDoc] = []
    following = Command()
    for kind, row in rows.items():
        facts = {key: _in_words(value) for key, value in asdict(row).items() if value and key not in ("name", "wants")}
        if kind.endswith("method") and every:  # its class says it, which needs torch
            facts["accumulate"] = _in_parts(row)
        if kind.endswith("method") and (fits := _fitting(kind, name)):
            facts["parts"] = fits
        _say_facts(f"{kind.capitalize()} {name}", facts)
        figures[kind.replace(" ", "_")] = {"name": name} | facts
        docs += _show_settings(f"\nSettings of {kind} {name}", _table(kind).settings_class(name))
    if name in VERBS:
        events.message(f"medssl {name}: {VERBS[name].summary}")
        cls = settings_of(name)
        if cls is not None:
            docs += _show_settings(f"Settings of {name}, set by key=value", cls, every=every)
    if name in cards:
        facts = {key: value for key, value in cards[name].model_dump(mode="json").items() if value}
        _say_facts(f"Data set {name}", facts)
        figures["data"] = {"name": name} | facts
        following = Command("fetch", name)
    if name in weights:
        facts = _facts_of_weights(weights[name])
        _say_facts(f"Published weights {name}", facts)
        figures["weights"] = {"name": name} | facts
        following = Command("import", "FILE", "--as", name, "--out", "RUN")
    if refused:
        facts = {"why not": refused.why, "nearest": refused.nearest}
        _say_facts(f"Published weights {refused.name} ({refused.title}), which are not taken", facts)
        figures["weights"] = {"name": refused.name, "taken": False} | facts
        following = Command("list", "weights")
    for preset in presets:
        text = find_preset(f"{preset.verb}/{preset.name}").read_text(encoding="utf-8")
        place = preset.path.relative_to(preset_folder())
        events.message(f"\nPreset {preset.verb}/{preset.name} ({place})\n\n{text.rstrip()}", lines=True)
        figures["preset"] = {"verb": preset.verb, "name": preset.name, "path": preset.path, "text": text}
    if presets:
        following = Command("copy", f"{presets[0].verb}/{presets[0].name}", "my.yaml")
    return events.written(Shown(name, tuple(docs), next=following, figures=figures))


def _table(kind: str) -> Table[Any]:
    table: Table[Any] = pkgutil.resolve_name(_TABLES[kind])
    return table


def _in_words(value: Any) -> Any:
    """Return a row's field as it is said: of names with reasons, each with its own."""
    return "; ".join(f"{name}: {why}" for name, why in value.items()) if isinstance(value, Mapping) else value


def _fitting(kind: str, name: str) -> str:
    """Return which parts plug in a method at its defaults, by their slots; empty where none does."""
    offers = getattr(_table(kind).settings_class(name)(), "offers", None)
    if offers is None:
        return ""
    parts = importlib.import_module("medssl.methods.parts.table")
    fits = [f"{part} ({parts.PARTS[part].slot})" for part in parts.parts_of(offers)]
    return f"method.parts=NAME or [NAME,...]: {', '.join(fits)}"


def _in_parts(row: Any) -> str:
    """Return what a step over parts of a batch (train.accumulate) is with a method."""
    coupled = pkgutil.resolve_name(row.target).coupled
    outcome = f"not the step of the whole batch: {coupled}" if coupled else "the step of the whole batch"
    return f"{outcome}; batch norms, where there are any, normalise part by part"


def _facts_of_weights(row: Any) -> dict[str, Any]:
    facts = {key: value for key, value in asdict(row).items() if value and key not in ("name", "target")}
    for what in _BOTH:
        licence = getattr(row, what)
        limits = f" ({', '.join(licence.limits)})" if licence.limits else ""
        facts[f"{what} licence"] = facts.pop(what)["name"] + limits
    return facts


def _say_facts(title: str, facts: Mapping[str, Any]) -> None:
    width = max(11, *(len(what) + 2 for what in facts))
    events.message(title)
    for what, text in facts.items():
        events.message(f"  {what.replace('_', ' ') + ':':<{width}}{text}")


def _show_settings(title: str, cls: Any, *, every: bool = True) -> list[SettingDoc]:
    docs = list(setting_docs(cls, every=every))
    rows = [(doc.key, doc.default, doc.allowed, doc.meaning) for doc in docs]
    if any("[" in key for key, *_ in rows):
        events.message("Leave out the brackets when you set a key: for method[voco].crop write method.crop=...")
    choices = [doc for doc in docs if doc.choice]
    if choices and not every:
        chosen = ", ".join(f"{doc.key} {doc.default}" for doc in choices)
        events.message(f"Shown for the defaults ({chosen}). Those of another: medssl show NAME; all of them: --all.")
    events.table(title, ("Key", "Default", "Allowed", "Meaning"), rows, key="settings")
    return docs
