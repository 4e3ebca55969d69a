"""``medssl show``: one preset, method, encoder, data card or verb, with everything that can be set in it."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import asdict
from typing import Any

from medssl.errors import ConfigError, did_you_mean
from medssl.presets import find_preset, list_presets, preset_folder
from medssl.quoting import quoted
from medssl.table import Table
from pipelines import console
from pipelines.setting_docs import setting_docs
from pipelines.verbs import VERBS, settings_of

__all__ = ["show"]

# Kind -> dotted path of its table.
_TABLES = {
    "method": "medssl.methods.table.METHODS",
    "encoder": "medssl.encoders.table.ENCODERS",
    "cloud method": "pointcloud.methods.table.CLOUD_METHODS",
    "cloud encoder": "pointcloud.encoders.table.CLOUD_ENCODERS",
}
_BOTH = ("code", "weights")  # of published weights, each has a licence


def show(name: str, *, every: bool = False) -> None:
    """Print what is known of ``name``: a preset's text, a table's row, or a verb's settings.

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
    if not presets and not rows and not any(name in known for known in (VERBS, cards, weights)):
        known = {p.name for p in list_presets()} | {key for table in tables.values() for key in table}
        known |= set(VERBS) | set(cards) | set(weights)
        raise ConfigError(f"Nothing is called '{name}'. {did_you_mean(bare, known)}")
    for kind, row in rows.items():
        _show_row(kind, name, row, every)
    if name in VERBS:
        _show_verb(name, every)
    if name in cards:
        _show_card(name, cards[name])
    if name in weights:
        _show_weights(name, weights[name])
    for preset in presets:
        text = find_preset(f"{preset.verb}/{preset.name}").read_text(encoding="utf-8")
        place = preset.path.relative_to(preset_folder())
        console.say(f"\nPreset {preset.verb}/{preset.name} ({place})\n\n{text.rstrip()}", lines=True)
        console.tell(preset={"verb": preset.verb, "name": preset.name, "path": preset.path, "text": text})
    if presets:
        console.done(None, f"medssl copy {quoted(f'{presets[0].verb}/{presets[0].name}')} my.yaml")


def _table(kind: str) -> Table[Any]:
    table: Table[Any] = pkgutil.resolve_name(_TABLES[kind])
    return table


def _show_row(kind: str, name: str, row: Any, every: bool) -> None:
    facts = {key: value for key, value in asdict(row).items() if value and key != "name"}
    console.say(f"{kind.capitalize()} {name}")
    if kind.endswith("method") and every:  # its class says it, which needs torch
        facts["accumulate"] = _in_parts(row)
    for what, text in facts.items():
        console.say(f"  {what.replace('_', ' ') + ':':<11}{text}")
    console.tell(**{kind.replace(" ", "_"): {"name": name} | facts})
    _show_settings(f"\nSettings of {kind} {name}", _table(kind).settings_class(name))


def _in_parts(row: Any) -> str:
    """Return what a step over parts of a batch (train.accumulate) is with a method."""
    coupled = pkgutil.resolve_name(row.target).coupled
    outcome = f"not the step of the whole batch: {coupled}" if coupled else "the step of the whole batch"
    return f"{outcome}; batch norms, where there are any, normalise part by part"


def _show_card(name: str, card: Any) -> None:
    facts = {key: value for key, value in card.model_dump(mode="json").items() if value}
    console.say(f"Data set {name}")
    for what, value in facts.items():
        console.say(f"  {what.replace('_', ' ') + ':':<13}{value}")
    console.tell(data={"name": name} | facts)
    console.done(None, f"medssl fetch {name}")


def _show_weights(name: str, row: Any) -> None:
    facts = {key: value for key, value in asdict(row).items() if value and key not in ("name", "target")}
    facts |= {f"{what} licence": " ".join([facts.pop(what)["name"], *_limits(getattr(row, what))]) for what in _BOTH}
    console.say(f"Published weights {name}")
    for what, text in facts.items():
        console.say(f"  {what.replace('_', ' ') + ':':<17}{text}")
    console.tell(weights={"name": name} | facts)
    console.done(None, f"medssl import FILE --as {quoted(name)} --out RUN")


def _limits(licence: Any) -> list[str]:
    return [f"({', '.join(licence.limits)})"] if licence.limits else []


def _show_verb(name: str, every: bool) -> None:
    console.say(f"medssl {name}: {VERBS[name].summary}")
    cls = settings_of(name)
    if cls is not None:
        _show_settings(f"Settings of {name}, set by key=value", cls, every=every)


def _show_settings(title: str, cls: Any, *, every: bool = True) -> None:
    docs = list(setting_docs(cls, every=every))
    rows = [(doc.key, doc.default, doc.allowed, doc.meaning) for doc in docs]
    if any("[" in key for key, *_ in rows):
        console.say("A key with a kind in brackets is set without them: method[voco].crop by method.crop=...")
    choices = [doc for doc in docs if doc.choice]
    if choices and not every:
        chosen = ", ".join(f"{doc.key} {doc.default}" for doc in choices)
        console.say(f"Shown for the defaults ({chosen}). Those of another: medssl show NAME; all of them: --all.")
    console.table(title, ("Key", "Default", "Allowed", "Meaning"), rows, key="settings")
