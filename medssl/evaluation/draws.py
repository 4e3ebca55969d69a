"""Which patients are labelled in a few-label comparison: nested subsets, the same for every arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from medssl.errors import DataError
from medssl.randomness import counter_of, numpy_generator

__all__ = ["labelled_patients", "stratified_patients"]


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
    order = numpy_generator(seed, counter_of("labelled patients"), draw).permutation(len(different))
    return tuple(different[i] for i in order[:n])


def stratified_patients(classes: Mapping[str, str], n: int, *, draw: int, seed: int = 0) -> tuple[str, ...]:
    """Return the ``n`` patients whose labels one draw may use, every class among them and in proportion.

    The patients of `labelled_patients`' order are put in another: one of each class first, then the rest so that every
    start of the order holds the classes in the proportions of the whole, as nearly as whole patients allow. So the
    subsets of one draw are nested, as there. Of patients of one class the result is that of `labelled_patients`.

    Args:
        classes: The class of each patient.
        n: How many to take: at least one for each class.
        draw: Number of the draw, from 0.
        seed: Seed of the whole comparison.

    Raises:
        DataError: If ``n`` is below the number of classes or above that of patients, or ``draw`` is negative.

    Example:
        >>> patients = {"a": "ill", "b": "ill", "c": "ill", "d": "well"}
        >>> sorted({patients[p] for p in stratified_patients(patients, 2, draw=0)})
        ['ill', 'well']
    """
    order = labelled_patients(classes, len(set(classes)), draw=draw, seed=seed) if classes else ()
    sizes = {label: list(classes.values()).count(label) for label in set(classes.values())}
    if not len(sizes) <= n <= len(order):
        if len(sizes) == 1 or n > len(order):
            labelled_patients(classes, n, draw=draw, seed=seed)  # says what is allowed
        raise DataError(
            f"{n} labelled patients cannot hold every class: there are {len(sizes)} ({', '.join(sorted(sizes))}). "
            f"Allowed: {len(sizes)} to {len(order)}."
        )
    seen = dict.fromkeys(sizes, 0)
    places = []
    for rank, patient in enumerate(order):
        label = classes[patient]
        # the first of a class comes before all that are not the first of theirs
        share = seen[label] / sizes[label]
        places.append((seen[label] > 0, share, rank, patient))
        seen[label] += 1
    return tuple(patient for *_, patient in sorted(places)[:n])
