"""The arms of a comparison: pretraining runs by name and by weights, of one architecture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl.command import Command
from medssl.domains.domain import domain_of_card
from medssl.engine.card import Card, load_card
from medssl.engine.run import differences
from medssl.errors import ConfigError, DataError
from medssl.settings import Resolved, Settings, flatten

__all__ = ["architecture_of", "arms_of", "check_same", "digest", "report_command", "same_command", "shared_window"]

# What finetune carries over: runs that share a frozen encoder differ in their decoder alone.
_CARRIED = ("encoder.safetensors", "decoder.safetensors", "network.safetensors")

_POOLED = (
    "They differ by encoder.pool alone, whose default was mean and became prenorm for unet and residual: a run that is "
    "pretrained with the other's encoder.pool can stand beside it."
)


def arms_of(runs: Sequence[Path], baseline: str) -> dict[str, str]:
    """Return the fingerprint of each arm's weights by name, first the baseline's, which is empty.

    A run's name is its folder's; its weights are those of encoder and decoder.

    Raises:
        CheckpointError: A run has not ended.
        DataError: A run holds no encoder.
        ConfigError: Two have one name.
    """
    arms = {baseline: ""}
    for run in runs:
        name = run.resolve().name
        weights = run / "encoder.safetensors"
        if not weights.is_file():
            load_card(run)  # of a run that has not ended it says how to close it
            raise DataError(f"{run}: no pretrained encoder (encoder.safetensors). Name a finished pretraining run.")
        if name in arms:
            raise ConfigError(f"Two arms are called '{name}'. Rename a run's folder: arms are named after them.")
        parts = [run / part for part in _CARRIED if (run / part).is_file()]
        arms[name] = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]
    return arms


def check_same(runs: Sequence[Path], *, windows: bool = True, pools: bool = True) -> None:
    """Refuse runs of different architectures: one baseline could not be that of both.

    Args:
        runs: The pretraining runs.
        windows: Whether their windows must be equal too: where each is fine-tuned at its own.
        pools: Whether what has no weights of their pooling must be equal: a segmenter pools nothing.

    Raises:
        ConfigError: Encoders, input or windows differ.
    """
    first = load_card(runs[0])
    for run in runs[1:]:
        card = load_card(run)
        both = [architecture_of(first), architecture_of(card)]
        if not pools and not any(own.get("pool") == "attention" for own in both):
            both = [{**own, "pool": None} for own in both]
        compared: list[tuple[str, object, object]] = [("encoder", both[0], both[1])]
        compared.append(("input", first.schemes, card.schemes))
        if windows:
            compared += [("window", first.window, card.window), ("number of points", first.points, card.points)]
        for what, ours, theirs in compared:
            if ours != theirs:
                pooled = what == "encoder" and [key for key, *_ in differences(*both)] == ["pool"]
                raise ConfigError(
                    f"{run} has the {what} {theirs}, {runs[0]} has {ours}. Arms of one comparison share their "
                    "architecture, the scheme that normalises their input, and their window where the settings name "
                    "none; compare these in two comparisons" + (f". {_POOLED}" if pooled else ".")
                )


def shared_window(runs: Sequence[Path], recipe: Resolved[Any], task: str) -> tuple[int, ...] | None:
    """Check that runs may be fine-tuned beside each other, and return the window that they bring into the comparison.

    Args:
        runs: The pretraining runs.
        recipe: Settings of finetune.
        task: The group of them that holds the window.

    Returns:
        The window of the runs where the recipe names none, so that each is fine-tuned at its own; else None.

    Raises:
        ConfigError: As of ``check_same``.
    """
    own = recipe.origins[f"{task}.window"] == "default"
    check_same(runs, windows=own, pools=task != "segmentation")
    return load_card(runs[0]).window if own else None


def architecture_of(card: Card) -> dict[str, Any]:
    """Return all settings of the encoder: a card written before one of them was added means that one's default."""
    return domain_of_card(card).architecture(card.encoder)


def report_command(runs: Sequence[Path], out: Path) -> Command:
    """Return the call of ``report`` on an evaluation and its runs.

    A folder without run.yaml is left out (imported weights, predictions of another tool): no page is made of it.
    """
    return Command("report", *dict.fromkeys([*(run for run in runs if (run / "run.yaml").is_file()), out]))


def same_command(
    runs: Sequence[Path], data: Path, out: Path, settings: Settings, protocol: str = "", shard: str | None = None
) -> Command:
    """Return the command of ``evaluate`` that was tried, with the settings that are not its defaults."""
    usual = flatten(type(settings)())
    given = {key: value for key, value in flatten(settings).items() if key not in usual or usual[key] != value}
    words = [f"{key}={json.dumps(list(value) if isinstance(value, tuple) else value)}" for key, value in given.items()]
    more: list[object] = [word for run in runs[1:] for word in ("--against", run)]
    more += ["--protocol", protocol] if protocol else []
    more += [*words, "--shard", shard] if shard else words
    return Command("evaluate", runs[0], "--data", data, "--out", out, *more)


def digest(*parts: object) -> str:
    """Return a fingerprint of values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
