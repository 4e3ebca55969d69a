"""Published weights that cannot be held here: how their files are told, why not, and the nearest that can."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medssl.table import Row, Table

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["REFUSED", "RefusedSource", "refused_by_name", "refused_by_tensors"]


@dataclass(frozen=True, kw_only=True)
class RefusedSource(Row):
    """One kind of published weights that is not taken.

    Attributes:
        title: What it is.
        why: What it has that no encoder here has.
        nearest: What to take instead, by names of the table of sources.
        told_by: Regular expression of a tensor's name that only such files hold; "" where another reader tells it.
        axes: How many axes that tensor has; 0 where its name says enough.
        other_names: What else it is called.
    """

    target: str = ""
    title: str
    why: str
    nearest: str
    told_by: str = ""
    axes: int = 0
    other_names: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What it is, why it is not taken, and the nearest that is, in one line."""
        return f"{self.title} is not taken: {self.why}. Nearest: {self.nearest}"


REFUSED = Table(
    "source of weights that is not taken",
    (
        RefusedSource(
            name="recon",
            title="ReCon",
            why="its blocks see three class tokens, and ours one at most",
            nearest="point-mae",
        ),
        RefusedSource(
            name="point-bert",
            title="Point-BERT",
            why="its blocks see a class token, and its tokens pass a reduction that 'point_vit' has not",
            nearest="point-mae or point-jepa",
            told_by=r"transformer_q\..+",
            other_names=("pointbert",),
        ),
    ),
)


def refused_by_name(name: str) -> RefusedSource | None:
    """Return the row that is called so; None where none is."""
    bare = name.lower()
    return next((row for row in REFUSED.values() if bare == row.name or bare in row.other_names), None)


def refused_by_tensors(state: Mapping[str, Tensor]) -> RefusedSource | None:
    """Return the row that tensors of such names are of; None where none is."""
    bare = {name.removeprefix("module."): tensor.ndim for name, tensor in state.items()}
    for row in REFUSED.values():
        for name, axes in bare.items():
            if row.told_by and re.fullmatch(row.told_by, name) and row.axes in (0, axes):
                return row
    return None
