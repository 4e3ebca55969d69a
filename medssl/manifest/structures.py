"""One number for each structure of the cohort, where labels name their structures themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medssl.errors import FormatError
from medssl.formats.label_map import structure_names
from medssl.formats.table import is_scan_name
from medssl.manifest.sources import Source
from medssl.pool import run_jobs

__all__ = ["number_structures"]


def number_structures(
    sources: Sequence[Source],
    classes: Mapping[int, str],
    *,
    ignored: Sequence[int] = (),
    before: Mapping[int, str] | None = None,
) -> tuple[list[Source], dict[int, str], list[str]]:
    """Give every source the meaning of its label's values, and number structures that have names alone.

    A name that the data set numbers keeps that number, then one that an earlier index numbered, so that a new scan
    changes no label that is there. New names follow in their order.

    Args:
        sources: The scans.
        classes: Value -> name, as the data set says.
        ignored: Values that say "not known".
        before: Value -> name of an earlier index.

    Returns:
        The sources, value -> name of the cohort, and notes.
    """
    names = _names(sources)
    numbered = dict(classes)
    missing = names - set(numbered.values())
    for value, name in sorted((before or {}).items()):
        if name in missing and value not in numbered and value not in ignored:
            numbered[value] = name
            missing.discard(name)
    free = max([0, *numbered, *ignored]) + 1
    numbered |= {free + place: name for place, name in enumerate(sorted(missing))}
    if names:
        numbered.setdefault(0, "background")
    pairs = tuple(sorted(numbered.items()))
    result = [replace(source, structures=pairs, ignored=tuple(ignored)) for source in sources]
    return result, dict(pairs), _alike(names)


def _names(sources: Iterable[Source]) -> set[str]:
    labels = dict.fromkeys(
        source.label_path for source in sources if source.label_path is not None and source.error is None
    )
    jobs = {number: (path,) for number, path in enumerate(labels) if path is not None and _may_name(path)}
    found = run_jobs(_names_of, jobs, workers=1, crashed=lambda _, why: ())
    return {name for _, names in found for name in names}


def _may_name(path: Path) -> bool:
    """Tell whether a label may name structures: a label map of one file never does, and is not opened here."""
    return path.is_dir() or not is_scan_name(path)


def _names_of(path: Path) -> tuple[str, ...]:
    try:
        return structure_names(path)
    except (FormatError, OSError):
        return ()  # its row will say so


def _alike(names: Iterable[str]) -> list[str]:
    """Say which names differ in case alone: probably one structure, which would be trained as two."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name.casefold()].append(name)
    pairs = [" and ".join(sorted(group)) for _, group in sorted(groups.items()) if len(group) > 1]
    said = f"Structures whose names differ in case alone count as different ones: {'; '.join(pairs)}."
    return [said] if pairs else []
