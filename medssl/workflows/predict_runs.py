"""Fine-tuned runs as what predicts: one, or the mean of several that were trained on like data for the same task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medssl.domains.domain import domain_of_card, domains
from medssl.domains.predicting import Takes
from medssl.engine.card import Card, CardInput, load_card
from medssl.engine.predicts import predicts_as
from medssl.errors import CheckpointError, ConfigError
from medssl.prediction import Predictor
from medssl.quoting import quoted
from medssl.workflows.predict_settings import PredictSettings

__all__ = ["Predicting", "load_runs"]


@dataclass(frozen=True)
class Predicting:
    """Runs that are ready to predict.

    Attributes:
        predictor: What predicts.
        card: The first run's card.
        takes: What it takes.
        precision: As ``train.precision`` of the first run.
        notes: What a person should know of the runs.
    """

    predictor: Predictor[Any, Any]
    card: Card
    takes: Takes
    precision: str
    notes: tuple[str, ...] = ()


def load_runs(runs: Sequence[Path], settings: PredictSettings, device: torch.device) -> Predicting:
    """Load fine-tuning runs.

    Args:
        runs: One, or several whose probabilities are averaged.
        settings: What is asked for otherwise than the runs say.
        device: Where they shall compute.

    Raises:
        CheckpointError: A run has not ended, cannot be read, or is a pretraining run.
        ConfigError: The runs do not go together, or a setting does not fit them.
    """
    cards = [_card(run) for run in runs]
    first = cards[0]
    for run, card in zip(runs[1:], cards[1:], strict=True):
        _same(runs[0], first, run, card)
    domain = domain_of_card(first)
    task = domain.task(first.method["name"])
    for other in domains():
        for one in map(other.task, other.tasks):
            foreign = [name for name in one.asks if name not in task.asks and getattr(settings, name) is not None]
            if foreign:
                raise ConfigError(
                    f"{foreign[0]}: is of {one.maker}s of {other.noun}s, and {runs[0]} is none. Leave it out."
                )
    takes = Takes(
        domain=domain,
        channels=domain.new_items.channels(first),
        fills=dict(first.data.get("store_settings", {})).get("missing") == "fill",
        run=str(runs[0]),
    )
    unseen = first.method.get("unseen") or ()
    notes = (f"no scan it was trained on shows {', '.join(unseen)}",) if unseen else ()
    predictor = task.predictor(runs, settings, device)
    return Predicting(predictor, first, takes, predicts_as(runs[0], first)["precision"], notes)


def _card(run: Path) -> Card:
    card = load_card(run)
    if card.method.get("name") not in domain_of_card(card).tasks or "network.safetensors" not in card.weights:
        raise CheckpointError(
            f"{run}: this is a pretraining run ({card.method.get('name', 'unknown')}): an encoder, which names no "
            f"structure or class yet. Next: medssl finetune {quoted(run)} --data STORE --out {quoted(f'{run}-tuned')}"
        )
    return card


def _same(first: Path, one: Card, run: Path, other: Card) -> None:
    """Refuse runs whose mean has no meaning, or that want their scans prepared differently."""
    facts = {
        "kind": (one.kind, other.kind),
        "task": (one.method["name"], other.method["name"]),
        "channels": (_channel_names(one), _channel_names(other)),
        "intensity scales": ([c.scale for c in one.inputs_known], [c.scale for c in other.inputs_known]),
        "normalised inputs": ([_input(c) for c in one.inputs_known], [_input(c) for c in other.inputs_known]),
        "store settings": (_prepared(one), _prepared(other)),
    }
    for name, (ours, theirs) in facts.items():
        if ours != theirs:
            raise ConfigError(
                f"{run} and {first} cannot be averaged: their {name} differ ({theirs} and {ours}). Take runs of one "
                "task that were trained on stores made alike."
            )


def _channel_names(card: Card) -> list[str]:
    return [channel.name for channel in card.inputs_known] if card.in_channels > 1 else ["one"]


def _input(channel: CardInput) -> tuple[object, ...]:
    return (channel.normalise, *(channel.numbers or ()))


def _prepared(card: Card) -> dict[str, Any]:
    """Return what of a store's settings decides the voxels or points of an item."""
    said = dict(card.data.get("store_settings", {}))
    no_part = ("accept", "mixed_scales", "channels", "channel_gap_mm", "normalise")
    return {k: v for k, v in said.items() if k not in no_part}
