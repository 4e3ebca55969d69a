"""What a kind of data that is no scan looks for in its own rows, and draws of them, when a manifest is checked.

The table holds dotted paths: this package knows nothing of clouds, and loads what does where a manifest has some.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["OwnChecks", "own_checks"]

OWN_CHECKS = {"cloud": "pointcloud.checking.CHECKS"}
Row = Mapping[str, Any]
Doubt = tuple[str, str, str, str]


class OwnChecks(Protocol):
    """What is looked for; each doubt is (severity, kind, what, what to do).

    Attributes:
        notes: (beginning of a reader's note, kind, severity, what to do).
        pictured: How its pictures are seen, a sentence for the page.
    """

    notes: tuple[Doubt, ...]
    pictured: str

    def of_one(self, row: Row) -> Iterator[Doubt]:
        """Yield what is odd about one readable item."""
        ...

    def together(self, rows: Sequence[Row]) -> Iterator[Doubt]:
        """Yield what is odd about all readable items of the kind."""
        ...

    def charts(self, rows: Sequence[Row]) -> list[tuple[str, npt.NDArray[np.generic] | list[tuple[str, int]]]]:
        """Return titles with numbers, whose spread is drawn, or with counts by name; rows is not empty."""
        ...


def own_checks(kinds: set[str]) -> dict[str, OwnChecks]:
    """Return what checks the kinds of rows that have checks of their own."""
    return {kind: pkgutil.resolve_name(path) for kind, path in OWN_CHECKS.items() if kind in kinds}
