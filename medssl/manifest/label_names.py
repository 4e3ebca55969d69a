"""What a dataset.json says of label values: names of classes, regions that overlap, and what is to be ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from medssl.regions import Region

__all__ = ["LabelNames", "label_names"]

_IGNORE = "ignore"


@dataclass(frozen=True, kw_only=True)
class LabelNames:
    """The meaning of label values.

    Attributes:
        classes: Value -> name; no two values have one name.
        ignored: Values that say "not known".
        regions: Unions of values, in the order in which a prediction writes them; empty where classes exclude each
            other.
        notes: Sentences about what was doubtful.
    """

    classes: dict[int, str] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    notes: tuple[str, ...] = ()


def label_names(said: Mapping[str, Any], where: str) -> LabelNames:
    """Read ``labels`` and ``regions_class_order`` of a dataset.json.

    Both directions are read: ``{"0": "background"}`` (MSD, nnU-Net v1) and ``{"background": 0}`` (nnU-Net v2); values
    may be written as text. A list is a region; lists in lists are joined. "ignore" is no class.

    Args:
        said: The dataset.json.
        where: Its path, for sentences.
    """
    notes: list[str] = []
    pairs = list(_pairs(said.get("labels"), where, notes))
    ignored = tuple(sorted({v for name, values in pairs if name.strip().lower() == _IGNORE for v in values}))
    pairs = [(name, tuple(v for v in values if v not in ignored)) for name, values in pairs]
    pairs = [(name, values) for name, values in pairs if values and name.strip().lower() != _IGNORE]
    classes = _classes(pairs, where, notes)
    regions: tuple[Region, ...] = ()
    if any(len(values) > 1 for _, values in pairs):
        regions = _regions(pairs, said.get("regions_class_order"), where, notes)
        for value in sorted({v for _, values in pairs for v in values}):
            classes.setdefault(value, f"structure {value}")
    if 0 in classes and classes[0].strip().lower() != "background":
        notes.append(f"{where} names the value 0 '{classes[0]}'; 0 is taken for the background all the same.")
    return LabelNames(classes=dict(sorted(classes.items())), ignored=ignored, regions=regions, notes=tuple(notes))


def _pairs(said: object, where: str, notes: list[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each name and its values, whichever of the two is the key."""
    for key, value in said.items() if isinstance(said, Mapping) else ():
        key, numbers = str(key), _numbers(value)
        if isinstance(value, str) and _numbers(key):  # {"1": "1"} too, for MSD writes values as keys
            yield value, _numbers(key)
        elif numbers:
            yield key, numbers
        else:
            notes.append(f"{where} names the label '{key}' with {value!r}, which is not a number and was passed over.")


def _numbers(value: object) -> tuple[int, ...]:
    """Return the whole numbers that a value is made of; none where it is anything else."""
    if isinstance(value, bool):
        return ()
    if isinstance(value, int):
        return (value,)
    if isinstance(value, float) and value.is_integer():
        return (int(value),)
    if isinstance(value, str):
        text = value.strip()
        return (int(text),) if text.removeprefix("-").isdecimal() else ()
    if isinstance(value, list | tuple):
        parts = [_numbers(part) for part in value]
        return tuple(sorted({n for part in parts for n in part})) if all(parts) else ()
    return ()


def _classes(pairs: list[tuple[str, tuple[int, ...]]], where: str, notes: list[str]) -> dict[int, str]:
    classes: dict[int, str] = {}
    for name, values in pairs:
        if len(values) != 1:
            continue
        if values[0] in classes:
            notes.append(f"{where} names the value {values[0]} twice; '{classes[values[0]]}' is kept, not '{name}'.")
            continue
        if name in classes.values():
            notes.append(
                f"{where} gives the name '{name}' to several values; {values[0]} is called '{name} {values[0]}'."
            )
            name = f"{name} {values[0]}"
        classes[values[0]] = name
    return classes


def _regions(
    pairs: list[tuple[str, tuple[int, ...]]], order: object, where: str, notes: list[str]
) -> tuple[Region, ...]:
    """Return the regions; none, with a note, where it is not said in which order a prediction writes them."""
    named = [(name, values) for name, values in pairs if values != (0,)]
    written = [_numbers(value) for value in order] if isinstance(order, list | tuple) else []
    if len(written) != len(named) or not all(len(value) == 1 for value in written):
        notes.append(
            f"{where} has {len(named)} regions and no regions_class_order of as many values, so that overlapping "
            "regions could not be written; the single values are taken as classes."
        )
        return ()
    return tuple(
        Region(name, tuple(v for v in values if v), number[0])
        for (name, values), number in zip(named, written, strict=True)
    )
