"""One number for each structure of the cohort, where labels name their structures themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from medssl.errors import FormatError
from medssl.formats.label_map import structure_names
from medssl.manifest.sources import Source

__all__ = ["number_structures"]


def number_structures(
    sources: Sequence[Source],
    classes: Mapping[int, str],
    *,
    ignored: Sequence[int] = (),
    before: Mapping[int, str] | None = None,
) -> tuple[list[Source], dict[int, str]]:
    """Give every source the meaning of its label's values, and number structures that have names alone.

    A name that the data set numbers keeps that number, then one that an earlier index numbered, so that a new scan
    changes no label that is there. New names follow in their order.

    Args:
        sources: The scans.
        classes: Value -> name, as the data set says.
        ignored: Values that say "not known".
        before: Value -> name of an earlier index.

    Returns:
        The sources, and value -> name of the cohort.
    """
    names: set[str] = set()
    for source in sources:
        if source.label_path is not None and source.error is None:
            try:
                names |= set(structure_names(source.label_path))
            except (FormatError, OSError):
                continue  # its row will say so
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
    return [replace(source, structures=pairs, ignored=tuple(ignored)) for source in sources], dict(pairs)
