"""Numbers for structures that labels name themselves: one number for one name, in every label of the cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medssl.errors import FormatError
from medssl.formats.label_map import structure_names
from medssl.manifest.sources import Source

__all__ = ["cohort_structures", "number_structures"]


def cohort_structures(sources: Iterable[Source], classes: Mapping[int, str] | None = None) -> dict[int, str]:
    """Return label value -> name of all structures that labels name themselves; nothing where none does.

    Args:
        sources: Scans with their labels. Labels that cannot be read are passed over; the scan's row says so.
        classes: Numbers that a data set gives to names; they are kept, and other names follow.

    Example:
        >>> cohort_structures([])
        {}
    """
    return _numbered(_names(sources), classes)


def number_structures(
    sources: Sequence[Source], classes: Mapping[int, str]
) -> tuple[list[Source], dict[int, str], list[str]]:
    """Give every source whose label names its structures the numbers of the cohort.

    Args:
        sources: Scans with their labels.
        classes: Label value -> name, where a data set says so.

    Returns:
        The sources, the classes of the cohort, and notes.
    """
    names = _names(sources)
    found = _numbered(names, classes)
    if not found:
        return list(sources), dict(classes), []
    pairs = tuple(sorted(found.items()))
    result = [replace(source, structures=pairs) if names.get(source.label_path) else source for source in sources]
    return result, {0: "background", **found}, _alike(found.values())


def _names(sources: Iterable[Source]) -> dict[Path | None, tuple[str, ...]]:
    names: dict[Path | None, tuple[str, ...]] = {}
    for source in sources:
        if source.label_path is None or source.label_path in names or source.error is not None:
            continue
        try:
            names[source.label_path] = structure_names(source.label_path)
        except FormatError:
            names[source.label_path] = ()
    return names


def _numbered(names: Mapping[Path | None, tuple[str, ...]], classes: Mapping[int, str] | None) -> dict[int, str]:
    every = sorted({name for found in names.values() for name in found})
    if not every:
        return {}
    result = dict(classes or {})
    taken = set(result.values())
    following = max([0, *result]) + 1
    for name in every:
        if name not in taken:
            result[following] = name
            following += 1
    return result


def _alike(names: Iterable[str]) -> list[str]:
    """Say which names differ in case alone: probably one structure, which would be trained as two."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name.casefold()].append(name)
    pairs = [" and ".join(sorted(group)) for group in groups.values() if len(group) > 1]
    said = f"Structures whose names differ in case alone count as different ones: {'; '.join(pairs)}."
    return [said] if pairs else []
