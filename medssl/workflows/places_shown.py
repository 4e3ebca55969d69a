"""Which structures labelled items show: what none shows cannot be learned, asked from or scored, and that is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medssl.domains.dense import Dense
from medssl.errors import DataError
from medssl.reporting.prose import counted

__all__ = ["Shown", "few_of", "shown_of"]

_LISTED = 4


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What labelled items show.

    Attributes:
        noun: What an item is called.
        names: The structures by number.
        train: Structures that each training item shows; None of one whose labels are all to be ignored.
        test: The same of test items.
    """

    noun: str
    names: Mapping[int, str]
    train: dict[str, frozenset[int] | None]
    test: dict[str, frozenset[int] | None]

    def known(self, item: str) -> bool:
        """Tell whether any place of an item has a known label."""
        return (self.train | self.test)[item] is not None

    def of(self, item: str) -> frozenset[int]:
        """Return the structures of an item."""
        return (self.train | self.test)[item] or frozenset()

    def lacking(self, items: Iterable[str]) -> list[str]:
        """Return the names of structures that none of some items shows."""
        every = frozenset[int]().union(*map(self.of, items))
        return [name for number, name in self.names.items() if number not in every]

    def lines(self, split: str) -> list[str]:
        """Return what is left out, and which structures one side lacks, a sentence each."""
        told = []
        for items, word in ((self.train, "training"), (self.test, "test")):
            none = [item for item, own in items.items() if own is None]
            if none:
                told.append(
                    f"{counted(len(none), f'{word} {self.noun}')} left out, such as {none[0]}: all of the labels are "
                    "to be ignored"
                )
        unasked = self.lacking(self.test)
        unseen = [name for name in self.lacking(self.train) if name not in unasked]
        if unseen:
            told.append(
                f"no training {self.noun} shows {few_of(unseen)}: scores of it are of nothing that was shown, and the "
                "mean over structures holds them"
            )
        if unasked:
            told.append(f"no {self.noun} of split '{split}' shows {few_of(unasked)}")
        return told


def shown_of(dense: Dense, train: Any, test: Any, *, noun: str) -> Shown:
    """Read which structures the items of two stores show.

    Raises:
        DataError: Those of one of them show none.
    """
    found = [{e.id: dense.shown(part, row) for row, e in enumerate(part.entries)} for part in (train, test)]
    for part, own, word in zip((train, test), found, ("training", "test"), strict=True):
        if not any(own.values()):
            raise DataError(
                f"{part.folder}: none of its {counted(len(own), f'labelled {word} {noun}')} shows a structure "
                f"({few_of(list(dense.names.values()))}). Label some, or choose another split."
            )
    return Shown(noun=noun, names=dense.names, train=found[0], test=found[1])


def few_of(names: Sequence[str]) -> str:
    """Return some names, and how many more there are.

    Example:
        >>> few_of(["a", "b", "c", "d", "e"])
        'a, b, c, d and 1 more'
    """
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
