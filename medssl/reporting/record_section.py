"""How it was done: commands, settings with their origins, environments, seeds, and what to cite."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from medssl.reporting.blocks import Block, Details, Listing, Section, Table, Text
from medssl.reporting.material import Material, RunRecord
from medssl.reporting.privacy import Cleaner, short_name
from medssl.reporting.training_sections import citations_of
from medssl.settings import flatten

__all__ = ["record_section"]


def record_section(material: Material, *, clean: Cleaner) -> Section | None:
    """Return the section; None where neither a run nor a store nor an evaluation was given."""
    blocks: list[Block] = []
    for run in material.runs:
        blocks += _run(run, clean)
    for folder, store in material.stores.items():
        told = f"Settings of the store {short_name(folder.resolve())}"
        blocks.append(Details(told, (Table(("setting", "value"), _leaves(store.settings, clean)),)))
    for folder, content in material.evaluations():
        if content.get("settings"):
            rows = _leaves(content["settings"], clean)
            told = f"Settings of the evaluation in {folder.resolve().name}"
            blocks.append(Details(told, (Table(("setting", "value"), rows),)))
    papers = list(dict.fromkeys(paper for run in material.runs for paper in citations_of(run)))
    if papers:
        blocks += [Text("To cite", "head"), *(Text(paper) for paper in papers)]
    return Section("record", "How it was done", blocks) if blocks else None


def _run(run: RunRecord, clean: Cleaner) -> list[Block]:
    environment = run.environment
    pairs = [("seed", str(run.settings.get("train.seed", "")))]
    if environment.get("command"):
        pairs.insert(0, ("command", shlex.join(clean.word(str(word)) for word in environment["command"])))
    presets = sorted({o for o in run.origins.values() if o.startswith(("preset ", "file "))})
    pairs.append(("settings from", clean.text(", ".join(presets)) or "defaults"))
    pairs += _environment(environment, clean)
    order = {"command line": 0, "preset": 1, "file": 1, "auto": 2, "default": 3}
    rows = [
        (key, _shown(clean.value(value)), clean.text(run.origins.get(key, ""))) for key, value in run.settings.items()
    ]
    rows.sort(key=lambda row: next((rank for start, rank in order.items() if row[2].startswith(start)), 2))
    settings = Details(
        f"All {len(rows)} settings of {run.name}, those that were chosen first",
        (Table(("setting", "value", "origin"), rows),),
    )
    return [Text(run.name, "head"), Listing([(k, v) for k, v in pairs if v]), settings]


def _environment(found: Mapping[str, Any], clean: Cleaner) -> list[tuple[str, str]]:
    if not found:
        return []
    versions = ", ".join(f"{name} {version}" for name, version in (found.get("versions") or {}).items() if version)
    devices = ", ".join(map(str, found.get("gpus") or ())) or f"no GPU; {found.get('cpus', '?')} CPUs"
    commit = str(found.get("commit") or "")
    changed = " with changes that are in no commit" if commit.endswith("+") else ""
    return [
        ("started", str(found.get("started") or "")),
        ("medssl", f"{found.get('medssl', '')}" + (f", commit {commit.rstrip('+')[:12]}{changed}" if commit else "")),
        ("Python", str(found.get("python") or "")),
        ("versions", versions),
        ("devices", devices + (f"; CUDA {found['cuda']}" if found.get("gpus") and found.get("cuda") else "")),
        ("system", clean.text(str(found.get("platform") or ""))),
    ]


def _leaves(settings: Mapping[str, Any], clean: Cleaner) -> list[tuple[str, str]]:
    return [(key, _shown(clean.value(value))) for key, value in flatten(settings).items()]


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(inner) for inner in value) + "]"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
