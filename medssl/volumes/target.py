"""What ``medssl auto`` learns of scans: their label maps, or where there are none, classes of patients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medssl.domains.deciding import Decision
from medssl.errors import ConfigError, did_you_mean
from medssl.manifest.targets import targets_of

__all__ = ["Target", "decide_target", "seen_classes"]

_MOST = 20  # classes; a column with more is hardly a diagnosis
_LEAST = 2  # patients of a class: one to train on and one to test


@dataclass(frozen=True)
class Target:
    """Classes that are learned.

    Attributes:
        name: The target's name in the manifest.
        classes: Those of which there are patients to train on; None for all.
    """

    name: str
    classes: tuple[str, ...] | None = None


def decide_target(rows: Sequence[Mapping[str, Any]], wanted: str) -> tuple[str, Decision | None]:
    """Return the target that is learned, "" for label maps or for nothing, and why.

    Args:
        rows: Readable scans of a manifest.
        wanted: A target that the user named, "" for none.

    Raises:
        ConfigError: The named target is not there, or has one class.
    """
    owners: dict[str, defaultdict[str, set[str]]] = {}
    for row in rows:
        for name, label in targets_of(row).items():
            owners.setdefault(name, defaultdict(set))[label].add(row["patient"] or row["id"])
    if wanted:
        if len(owners.get(wanted, {})) < 2:
            found = "has one class" if wanted in owners else "is not there"
            hint = did_you_mean(wanted, owners) if owners else "No scan has any: name a table with targets=FILE.csv."
            raise ConfigError(f"target: '{wanted}' {found}. {hint}")
        return wanted, Decision("task", f"classes of {wanted}: {_shown(owners[wanted])}", "as set")
    if any(row["label_path"] for row in rows):
        return "", None
    fitting = [
        name
        for name, classes in owners.items()
        if 2 <= len(classes) <= _MOST and min(map(len, classes.values())) >= _LEAST
    ]
    if not fitting:
        return "", None
    best = min(fitting, key=lambda name: (-len(set().union(*owners[name].values())), name))
    because = "no scan has a label map, and patients have classes"
    others = sorted(set(fitting) - {best})
    because += f"; target=NAME takes another: {', '.join(others)}" if others else ""
    return best, Decision("task", f"classes of {best}: {_shown(owners[best])}", because)


def seen_classes(pairs: Sequence[tuple[str, str]], target: str) -> Target:
    """Return a target with the classes that training scans have.

    Args:
        pairs: (split, class) of each scan that has a class.
        target: The target's name.
    """
    seen = {label for split, label in pairs if split in ("train", "")}
    return Target(target, None if seen == {label for _, label in pairs} else tuple(sorted(seen)))


def _shown(classes: Mapping[str, set[str]]) -> str:
    names = sorted(classes)
    said = ", ".join(f"{name} {len(classes[name])}" for name in names[:6])
    return said + (", ..." if len(names) > 6 else "")
