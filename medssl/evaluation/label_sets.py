"""Which patients are labelled at each number of them: drawn, or named in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from medssl.errors import ConfigError, DataError
from medssl.evaluation.draws import stratified_patients
from medssl.settings import load_yaml

__all__ = ["LabelSets", "drawn_sets", "named_sets", "sizes_of_shares"]


@dataclass(frozen=True)
class LabelSets:
    """The labelled patients of a comparison.

    Attributes:
        sets: Number of patients -> the patients of each draw.
    """

    sets: Mapping[int, tuple[tuple[str, ...], ...]]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of patients, in rising order."""
        return tuple(sorted(self.sets))

    @property
    def draws(self) -> int:
        """Draws that every size has."""
        return min(len(draws) for draws in self.sets.values())

    def patients(self, n: int, draw: int) -> tuple[str, ...]:
        """Return the labelled patients of one draw."""
        return self.sets[n][draw]

    def overlap(self, *, distinct: bool = False) -> dict[int, float]:
        """Return for each size the share of patients that two of its draws have in common, on average; 0 of one.

        Args:
            distinct: Whether draws of the same patients as an earlier one are left out.
        """
        found = {}
        for n, every in self.sets.items():
            draws = [every[draw] for draw in self.different(n)] if distinct else every
            pairs = [len(set(a) & set(b)) / n for a, b in combinations(draws, 2)]
            found[n] = sum(pairs) / len(pairs) if pairs else 0.0
        return found

    def different(self, n: int) -> tuple[int, ...]:
        """Return the draws of a size that are not the same patients as an earlier one."""
        seen = [frozenset(patients) for patients in self.sets[n]]
        return tuple(draw for draw, own in enumerate(seen) if own not in seen[:draw])


def sizes_of_shares(shares: Iterable[float], patients: int, classes: int = 1) -> tuple[int, ...]:
    """Return numbers of patients for shares of them: rounded to the nearest, and at least one for each class.

    Args:
        shares: Shares in (0, 1].
        patients: How many there are.
        classes: Classes that every draw holds.

    Raises:
        ConfigError: A share is not one.

    Example:
        >>> sizes_of_shares((0.05, 0.25, 1.0), 54, classes=5)
        (5, 14, 54)
    """
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong:
        raise ConfigError(f"A share of the labelled patients lies above 0 and up to 1. Got {wrong[0]}.")
    return tuple(sorted({max(min(classes, patients), round(share * patients)) for share in shares} - {0}))


def drawn_sets(classes: Mapping[str, str], sizes: Sequence[int], *, draws: int, seed: int = 0) -> LabelSets:
    """Return nested draws that hold every class; see ``stratified_patients``.

    Args:
        classes: The class of each patient; one class for all where they have none.
        sizes: Numbers of labelled patients.
        draws: How many draws.
        seed: Seed of the draws.

    Raises:
        DataError: A size is below the number of classes or above that of patients.
    """
    return LabelSets(
        {n: tuple(stratified_patients(classes, n, draw=draw, seed=seed) for draw in range(draws)) for n in sizes}
    )


def named_sets(path: str | Path, known: Mapping[str, str]) -> LabelSets:
    """Read the labelled patients from a YAML or JSON file: number -> list of patients, or a list of such lists.

    For example ``{1: [[p7], [p9]], 2: [[p7, p8], [p9, p4]]}``: two draws each of one and of two patients.

    Args:
        path: The file.
        known: Patient of each name that the file may use: of the patients themselves, and of their scans.

    Raises:
        ConfigError: The file is not of this form, names an unknown patient, or names other than so many.
    """
    content = load_yaml(Path(path))
    sets: dict[int, tuple[tuple[str, ...], ...]] = {}
    for number, listed in content.items():
        if not number.isdigit() or not isinstance(listed, list):
            raise ConfigError(
                f"{path}: holds lists of patients by their number, such as '2: [[a, b]]'. Got '{number}'."
            )
        draws = [listed] if listed and not isinstance(listed[0], list) else listed
        found = []
        for names in draws:
            unknown = [str(name) for name in names if str(name) not in known]
            if unknown:
                raise ConfigError(
                    f"{path}: '{unknown[0]}' is not a labelled patient or scan of the training split of this store."
                )
            patients = tuple(dict.fromkeys(known[str(name)] for name in names))
            if str(len(patients)) != str(number):
                raise ConfigError(f"{path}: under {number} a draw names {len(patients)} patients. Name {number}.")
            found.append(patients)
        if found:
            sets[int(number)] = tuple(found)
    if not sets:
        raise DataError(f"{path} names no labelled patients. Give lists of patients by their number: '2: [[a, b]]'.")
    return LabelSets(sets)
