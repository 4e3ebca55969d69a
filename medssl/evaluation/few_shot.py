"""Few-shot tasks: a few classes with a few labelled items each, distinguished by a linear SVM of frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.directions import directions
from medssl.randomness import numpy_generator

__all__ = ["STANDARD", "FewShot", "few_shot", "tasks_of"]

Embeddings = npt.NDArray[np.floating]
STANDARD = ((5, 10), (5, 20), (10, 10), (10, 20))  # classes and labelled items of each, as papers have them
_SHOTS = 5  # counter that keeps the draws of few-shot tasks apart from others of the seed


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Accuracies of few-shot tasks.

    Attributes:
        ways: Classes of a task.
        shots: Labelled items of each class.
        accuracies: One a draw.
        draws: How many tasks were drawn.
    """

    ways: int
    shots: int
    accuracies: tuple[float, ...]
    draws: int

    @property
    def mean(self) -> float:
        """Mean accuracy over the draws."""
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float:
        """Standard deviation over the draws (of a sample); 0 for a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def few_shot(
    train_ND: Embeddings,
    train_classes: Sequence[Any],
    test_MD: Embeddings,
    test_classes: Sequence[Any],
    *,
    ways: int = 5,
    shots: int = 10,
    queries: int = 20,
    draws: int = 10,
    seed: int = 0,
) -> FewShot:
    """Score tasks of a few classes with a few labelled items each: a linear SVM (C = 1) of frozen embeddings.

    The mean of all training embeddings is taken off before rows are scaled to length 1; see `directions`.

    A draw takes ``ways`` classes, ``shots`` training items of each, and up to ``queries`` test items of each. It is a
    pure function of (seed, draw, the classes), so that all encoders meet the same tasks.

    Args:
        train_ND: Embeddings that shots are drawn from.
        train_classes: Their classes.
        test_MD: Embeddings that queries are drawn from.
        test_classes: Their classes.
        ways: Classes of a task, 2 or more.
        shots: Labelled items of each, 1 or more.
        queries: Most test items of each.
        draws: Tasks.
        seed: Names the draws.

    Raises:
        DataError: Too few classes have so many items.

    Reference:
        Sharma, Kaul, "Self-supervised few-shot learning on point clouds", NeurIPS 2020, arXiv:2009.14168 (the tasks).
    """
    from sklearn.svm import LinearSVC

    names, numbers = np.unique([str(name) for name in [*train_classes, *test_classes]], return_inverse=True)
    fitted, wanted = numbers[: len(train_classes)], numbers[len(train_classes) :]
    able = [number for number in range(len(names)) if (fitted == number).sum() >= shots and (wanted == number).any()]
    if ways < 2 or shots < 1 or draws < 1 or len(able) < ways:
        raise DataError(
            f"{ways} classes with {shots} labelled items each were asked for; so many and a test item: "
            f"{len(able)} of {len(names)}. Ask for fewer ways (2 or more) or shots (1 or more)."
        )
    train_UD, test_UD = directions(train_ND, test_MD)
    accuracies = []
    for draw in range(draws):
        generator = numpy_generator(seed, ways, shots, draw, _SHOTS)
        chosen = generator.choice(able, ways, replace=False)
        given = np.concatenate([generator.choice(np.flatnonzero(fitted == c), shots, replace=False) for c in chosen])
        asked = np.concatenate(
            [
                generator.choice(pool, min(queries, len(pool)), replace=False)
                for pool in (np.flatnonzero(wanted == c) for c in chosen)
            ]
        )
        # random_state: only where the dual is solved are coordinates visited in a random order
        model = LinearSVC(C=1.0, random_state=0, max_iter=5000).fit(train_UD[given], fitted[given])
        predicted = model.predict(test_UD[asked])
        accuracies.append(float((predicted == wanted[asked]).mean()))
    return FewShot(ways=ways, shots=shots, accuracies=tuple(accuracies), draws=draws)


def tasks_of(
    asked: Sequence[tuple[int, int]] | None, train_classes: Sequence[Any], test_classes: Sequence[Any]
) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the tasks that classes allow, and what is said of those that were asked for and are not allowed.

    Args:
        asked: (ways, shots) each; None for the standard ones, of which nothing is said.
        train_classes: Class of each labelled item.
        test_classes: Of each test item.
    """
    there = set(test_classes)
    counts = [list(train_classes).count(name) for name in set(train_classes) if name in there]
    able = {(w, s): sum(count >= s for count in counts) for w, s in (STANDARD if asked is None else asked)}
    left = [
        f"{w}-way {s}-shot is left out: {w} classes with {s} labelled items each were asked for; so many and a test "
        f"item: {n} of {len(set(train_classes))}. Ask for fewer ways (2 or more) or shots (1 or more)."
        for (w, s), n in able.items()
        if n < w and asked is not None
    ]
    return [task for task, n in able.items() if n >= task[0]], left
