"""A run that is resumed with fewer steps than it was planned for: it is closed there, and its plan stays what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.engine.run import recorded_settings
from medssl.engine.train_settings import TrainSettings
from medssl.settings import Resolved, load_yaml

__all__ = ["lowered_words", "whole_plan"]


def whole_plan(resolved: Resolved[Any], folder: Path) -> tuple[Resolved[Any], int | None]:
    """Return the settings with the steps that the run was started for, and the step at which it shall end.

    Only ``train.steps`` on the command line lowers a plan: a preset that was named anew with fewer steps differs from
    the run's settings, and is refused as any other difference is.

    Args:
        resolved: What the run is resumed with.
        folder: The run.

    Returns:
        The settings, and the step; None where no fewer steps are asked for.
    """
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
