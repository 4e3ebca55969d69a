"""What is said of a pretraining run before it starts: its plan, its time, and the command that makes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medssl.domains.choosing import Chosen
from medssl.engine.launch import launch
from medssl.engine.loop import Loader
from medssl.engine.processes import launcher_words
from medssl.engine.trial import StepTime
from medssl.methods.contract import Method
from medssl.reporting.prose import counted_of
from medssl.settings import Resolved, flatten
from medssl.workflows.plan_time import fewer_steps, free_beside, small_preset, time_lines
from medssl.workflows.pretrain_settings import PretrainSettings

__all__ = ["loader_of", "plan_lines", "plan_time_lines", "pretrain_command"]


def loader_of(settings: PretrainSettings, chosen: Chosen[Any], plan: Any, fabric: Fabric) -> Loader:
    """Return this process's batches."""
    rank, world = fabric.global_rank, fabric.world_size
    pin = fabric.device.type == "cuda"
    return settings.domain.training.loader(chosen.train, plan, settings, rank=rank, world_size=world, pin=pin)


def plan_lines(
    resolved: Resolved[PretrainSettings],
    chosen: Chosen[Any],
    method: Method,
    out: Path,
    *,
    world_size: int | None,
) -> list[str]:
    """Return what the user wants to know before a long run starts."""
    settings = resolved.settings
    train, domain = settings.train, settings.domain
    training = domain.training
    presets = sorted({o for o in resolved.origins.values() if o.startswith(("preset ", "file "))})
    entries = chosen.train.entries
    patients = len({e.patient or e.id for e in entries})
    held = f"{len(chosen.held_out)} held out for probes" if chosen.held_out is not None else "none held out"
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    of_encoder = sum(p.numel() for p in method.encoder.parameters() if p.requires_grad)
    items = (len(entries), f"{domain.noun}s")
    count, things = training.counted(chosen.train, method.plan, settings) or items
    epochs = train.steps * train.batch_size / count
    processes = f" on {world_size} processes" if world_size and world_size > 1 else ""
    return [
        f"settings: {', '.join(presets) or 'defaults'}",
        f"store: {settings.data.store}: {counted_of(len(entries), domain.noun, patients)} "
        f"({training.data_words(chosen.train)}); {held}",
        f"method: {settings.method.name}; encoder: {settings.encoder.name}, "
        + (
            f"{of_encoder:,} of {trained:,} trained parameters"
            if of_encoder
            else f"frozen; {trained:,} parameters train"
        ),
        f"plan: {train.steps:,} steps of {train.batch_size} {training.window_words(method.plan, settings)}{processes}, "
        f"{epochs:,.1f} times through the {things}; into {out}",
        *training.reading_doubts(chosen.train, method.plan),
    ]


def plan_time_lines(
    resolved: Resolved[PretrainSettings],
    chosen: Chosen[Any],
    method: Method,
    preset: str | Path | None,
    out: Path,
    fabric: Fabric | None,
    **told: Any,
) -> list[str]:
    """Return what is said of the time that the plan takes here; ``told`` is more of `time_lines`."""
    aside = free_beside(out)

    def smaller(step: StepTime) -> str:
        small = small_preset("pretrain", resolved.settings.method.name, list(resolved.origins.values()))
        if small:
            return pretrain_command(resolved, small, aside, only=("data.", "train.seed"))
        return pretrain_command(resolved, preset, aside, changed={"train.steps": fewer_steps(step)})

    return time_lines(
        method,
        lambda: loader_of(resolved.settings, chosen, method.plan, fabric or launch(resolved.settings.train)),
        resolved,
        smaller=smaller,
        **told,
    )


def pretrain_command(
    resolved: Resolved[PretrainSettings],
    preset: str | Path | None,
    out: Path,
    *,
    only: tuple[str, ...] = ("",),
    changed: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that makes this run, with the settings that it was given.

    Args:
        resolved: The settings.
        preset: What was named first.
        out: The run.
        only: Beginnings of the settings that are kept.
        changed: Settings that are to be others.
    """
    leaves = flatten(resolved.settings)
    named = {"data.store": "--data", "train.devices": "--devices"}
    given = {key: leaves[key] for key, origin in resolved.origins.items() if origin == "command line"}
    given = {key: value for key, value in given.items() if key.startswith(only) and key != "method.name"}
    words = [*launcher_words(), "pretrain", str(preset)]
    for key, value in {**given, **(changed or {})}.items():
        if key not in named:
            words.append(f"{key}={'null' if value is None else list(value) if isinstance(value, tuple) else value}")
    words += ["--data", str(leaves["data.store"])]
    if "train.devices" in given:
        words += ["--devices", str(leaves["train.devices"])]
    return shlex.join([*words, "--out", str(out)])
