"""What fine-tuning runs say of themselves: their start, their labelled patients, the structures that they never saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from medssl.engine.card import load_card
from medssl.errors import MedSSLError
from medssl.settings import flatten, load_yaml

__all__ = ["change_between", "labelled_patients_of", "unseen_of"]


def change_between(runs: Mapping[str, Path]) -> Callable[[str, str], str]:
    """Return what was changed between two runs: "pretraining" where one began with it and the other from scratch.

    Args:
        runs: Folders of runs by name.
    """
    starts = {name: _start(folder) for name, folder in runs.items()}

    def change(arm: str, baseline: str) -> str:
        return "pretraining" if starts.get(arm) and starts.get(baseline) == "" else ""

    return change


def _start(run: Path) -> str | None:
    """Return the pretraining run that a run began with, "" from scratch; None where it is not known."""
    try:
        settings = flatten(load_yaml(run / "run.yaml"))
    except (MedSSLError, OSError):
        return None  # a folder of predictions of another tool
    if "transfer.run" not in settings:
        return None
    return "" if settings.get("transfer.from_scratch") else str(settings["transfer.run"] or "")


def labelled_patients_of(runs: Iterable[Path]) -> int | None:
    """Return how many labelled patients runs were trained with; None where it is not known or not the same."""
    numbers: set[int | None] = set()
    for run in runs:
        try:
            numbers.add(json.loads((run / "card.json").read_text(encoding="utf-8"))["data"]["patients"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return numbers.pop() if len(numbers) == 1 else None


def unseen_of(run: Path) -> tuple[str, ...]:
    """Return the structures that no scan showed which a run was trained on; none where nothing says so."""
    try:
        said = load_card(run).method.get("unseen", ())
    except MedSSLError:
        return ()  # a folder of predictions of another tool
    return tuple(str(name) for name in said)
