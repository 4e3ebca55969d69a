"""Which patients are labelled in a few-label comparison: nested subsets, the same for every arm."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from medssl.errors import DataError
from medssl.randomness import numpy_generator

__all__ = ["labelled_patients", "nested_subsets"]


def _stream(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def labelled_patients(patients: Iterable[str], n: int, *, draw: int, seed: int = 0) -> tuple[str, ...]:
    """Return the ``n`` patients whose labels one draw may use.

    The patients are put in an order that is a pure function of (the set of patients, draw, seed); the first ``n`` are
    taken. So the subsets of one draw are nested (those of n = 2 hold those of n = 1), the order and the repeats of
    ``patients`` do not matter, and every arm of a comparison that asks with the same draw gets the same patients.

    Args:
        patients: Patient keys that have labels and are in the training split; repeats are ignored.
        n: How many to take, at least 1 and at most the number of different patients.
        draw: Number of the draw, from 0. Different draws are independent.
        seed: Seed of the whole comparison.

    Raises:
        DataError: If ``n`` is not in 1 ... number of patients, or ``draw`` is negative.

    Example:
        >>> one = labelled_patients("abcdef", 1, draw=0)
        >>> labelled_patients("fedcba", 2, draw=0)[:1] == one
        True
    """
    different = sorted(set(patients))
    if not 1 <= n <= len(different):
        raise DataError(
            f"A draw of {n} labelled patients was asked for, and {len(different)} patients have labels. "
            f"Allowed: 1 to {len(different)}. Label more patients, or ask for fewer."
        )
    if draw < 0:
        raise DataError(f"Draws are numbered from 0. Got {draw}.")
    order = numpy_generator(seed, _stream("labelled patients"), draw).permutation(len(different))
    return tuple(different[i] for i in order[:n])


def nested_subsets(
    patients: Iterable[str], sizes: Sequence[int], *, draw: int, seed: int = 0
) -> dict[int, tuple[str, ...]]:
    """Return the patients of one draw for each of several sizes; each smaller subset is the start of the larger ones.

    Args:
        patients: See `labelled_patients`.
        sizes: The numbers of labelled patients, in any order.
        draw: Number of the draw, from 0.
        seed: Seed of the whole comparison.
    """
    different = sorted(set(patients))
    return {n: labelled_patients(different, n, draw=draw, seed=seed) for n in sizes}
