"""Which task a store's labels are for, where nobody said it; and which flag is meant where it was said wrong.

``finetune`` and the few-label protocol ask here alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import ConfigError
from medssl.settings import Auto

__all__ = ["StoreLabels", "check_task", "suited_task"]


@dataclass(frozen=True)
class StoreLabels:
    """What a store knows of its scans or clouds.

    Attributes:
        folder: The store.
        noun: "scan" or "cloud".
        drawn: How many have a label map, or labels of their points.
        classes: Target -> its classes; of clouds there is one, "".
    """

    folder: Path
    noun: str
    drawn: int
    classes: Mapping[str, tuple[str, ...]]

    @property
    def maps(self) -> str:
        """What segmentation learns from."""
        return "label maps" if self.noun == "scan" else "labels of points"

    @property
    def distinguished(self) -> dict[str, tuple[str, ...]]:
        """The targets with two classes or more."""
        return {name: found for name, found in self.classes.items() if len(found) > 1}


def suited_task(labels: StoreLabels) -> dict[str, Auto]:
    """Return the settings that a store's labels ask for where nobody chose a task: none where it is segmentation.

    Args:
        labels: What the store knows.
    """
    if labels.drawn or not labels.distinguished:
        return {}
    names = list(labels.distinguished)
    told = f"the store's {labels.noun}s have classes and no {labels.maps}"
    found = {"task": Auto("classification", told)}
    if labels.noun == "scan" and len(names) == 1:
        found["classification.target"] = Auto(names[0], "the store's only target")
    return found


def check_task(task: str, labels: StoreLabels, *, shows: bool = False, group: str = "") -> str:
    """See that a store has labels for the task, and say what else it has.

    Args:
        task: "segmentation" or "classification".
        labels: What the store knows.
        shows: Whether the classes are whether a structure shows.
        group: What stands before the settings of ``finetune`` where another verb takes them.

    Returns:
        A line for the user, "" where there is nothing to say.

    Raises:
        ConfigError: It has none for this task and some for the other.
    """
    flag = f"{group}task=" if group else "--task "
    other = ", ".join(f"{name or 'class'} ({', '.join(found[:6])})" for name, found in labels.distinguished.items())
    if task == "segmentation" and not labels.drawn and labels.distinguished:
        raise ConfigError(
            f"{labels.folder}: its {labels.noun}s have no {labels.maps} to segment by. They have classes: {other}. "
            f"Take {flag}classification."
        )
    if task == "classification" and labels.drawn and not labels.distinguished and not shows:
        more = f", or {group}classification.shows=NUMBER for whether a scan shows a structure"
        raise ConfigError(
            f"{labels.folder}: its {labels.noun}s have {labels.maps} and no two classes to distinguish. Take "
            f"{flag}segmentation{more if labels.noun == 'scan' else ''}."
        )
    if task == "segmentation" and other:
        return f"the store has classes too, which {flag}classification learns: {other}"
    return ""
