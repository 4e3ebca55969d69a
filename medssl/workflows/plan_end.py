"""A run that is resumed with fewer steps than it was planned for: it is closed there, and its plan stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.engine.checkpoint import step_of_newest
from medssl.engine.run import recorded_settings
from medssl.engine.train_settings import TrainSettings
from medssl.settings import Resolved, load_yaml

__all__ = ["left_off", "lowered_words", "whole_plan"]


def whole_plan(resolved: Resolved[Any], folder: Path, *, resume: bool) -> tuple[Resolved[Any], int | None]:
    """Return the settings with the steps that the run was started for, and the step at which it shall end.

    Only ``train.steps`` on the command line lowers a plan: a preset that was named anew with fewer steps differs from
    the run's settings, and is refused as any other difference is.

    Args:
        resolved: What the run is resumed with.
        folder: The run.
        resume: Whether it is resumed; a new run's plan is its own.

    Returns:
        The settings, and the step; None where no fewer steps are asked for.
    """
    if not resume:
        return resolved, None
    planned = load_yaml(recorded_settings(folder)).get("train", {}).get("steps")
    train: TrainSettings = resolved.settings.train
    given = resolved.origins.get("train.steps") == "command line"
    if not given or not isinstance(planned, int) or train.steps >= planned:
        return resolved, None
    whole = train.model_copy(update={"steps": planned})
    return replace(resolved, settings=resolved.settings.model_copy(update={"train": whole})), train.steps


def lowered_words(until: int, train: TrainSettings) -> str:
    """Return the line that says so.

    Args:
        until: The step at which the run shall end.
        train: Its settings.
    """
    return (
        f"train.steps={until} is below the {train.steps:,} steps that were planned: the run is closed at step "
        f"{until:,}, or at the one that it reached where that is later; learning rates stay those of the plan"
    )


def left_off(checkpoints: Path, *, resume: bool, finish: bool) -> int | None:
    """Return how many steps of a run are done before it goes on; None where it is closed and trains no more.

    Args:
        checkpoints: Its folder of checkpoints.
        resume: Whether it is resumed.
        finish: Whether it is closed.
    """
    if finish:
        return None
    return step_of_newest(checkpoints) if resume else 0
