"""A fine-tuning run's task with its trained weights, whatever it is a task of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from medssl.engine.card import Card, load_card, load_weights
from medssl.errors import CheckpointError
from medssl.quoting import quoted

__all__ = ["trained_task"]

Task = TypeVar("Task", bound=Any)


def trained_task(
    folder: str | Path, *, noun: str, make: Callable[[Card], Task], claims: Callable[[Card], bool], task: str
) -> Task:
    """Build a task from a run's card, with its trained weights, in evaluation mode, on the CPU.

    Args:
        folder: A fine-tuning run that has ended.
        noun: What the network is called: "segmenter".
        make: Makes the task that the card describes.
        claims: Says whether the card is of such a task.
        task: What ``medssl finetune --task`` calls it.

    Raises:
        CheckpointError: Card or weights are missing or damaged, do not fit each other, or are of no such task.
    """
    folder = Path(folder)
    card = load_card(folder)
    if not claims(card):
        raise CheckpointError(
            f"{folder}: this is a run of '{card.method.get('name')}' on {card.kind}s, not of a {noun}. "
            f"Make one with: medssl finetune {quoted(folder)} --data STORE --task {quoted(task)} --out FOLDER"
        )
    try:
        made = make(card)
        made.network.load_state_dict(load_weights(folder, "network"), strict=True)
    except (ValidationError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: the weights are not those of the {noun} on the card. {error}") from error
    made.eval()
    return made
