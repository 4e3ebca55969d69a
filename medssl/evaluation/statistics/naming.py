"""What the figures of an evaluation are of, in words: structures, a target with its classes, parts of clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medssl.evaluation.score_table import ScoreTable

__all__ = ["named_few", "of_what"]

_FEW = 4  # names that a sentence can hold


def of_what(content: Mapping[str, Any], table: ScoreTable | None) -> str:
    """Return what the metric of a summary is of, as it stands behind the metric's name; "" where nothing says it.

    Args:
        content: The summary: its kind, and its target where it has one.
        table: The rows.

    Example:
        >>> of_what({"kind": "classification", "target": "diagnosis", "classes": ["well", "ill"]}, None)
        'of diagnosis (well, ill)'
    """
    kind = str(content.get("kind", ""))
    names = list(map(str, content.get("classes") or ())) or _targets(table)
    if kind == "classification":
        target = str(content.get("target") or "")
        if not names:
            return f"of {target}" if target else ""
        if target:
            return f"of {target} ({named_few(names, 'classes', joined=', ')})"
        return f"of the classes {named_few(names, '')}" if len(names) <= _FEW else f"of {len(names)} classes"
    if not names or names == [""]:
        return ""
    if kind == "parts":
        return f"for the parts of {named_few(names, 'classes of clouds')}"
    return f"of {named_few(names, 'structures')}"


def named_few(names: Sequence[str], noun: str, *, joined: str = "") -> str:
    """Return names as a list, or how many there are where they are many.

    Example:
        >>> named_few(["liver", "spleen"], "structures"), named_few(list("abcdef"), "structures")
        ('liver and spleen', '6 structures')
    """
    if len(names) > _FEW:
        return f"{len(names)} {noun}"
    if joined or len(names) < 2:
        return joined.join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _targets(table: ScoreTable | None) -> list[str]:
    if table is None:
        return []
    frame = table.frame.filter(table.frame["value"].is_not_null())
    return [str(name) for name in frame["target"].unique(maintain_order=True) if name]
