"""The prompt protocol of ``medssl evaluate``: a structure segmented from one place in it, by how alike features are.

For each structure of a test item the place nearest to its centroid is the prompt; what is as alike to it as a threshold
says is named. The threshold is the best of the training items of all draws together, one for each arm, so nothing is
read off the test part.

Reference:
    MMC, arXiv:2308.11448, whose zero-shot protocol this follows: a place, a map of cosines, a threshold, IoU, and how
    alike places inside an object are against those outside. Its equations were not at hand; here the prompt is the
    place nearest to the centroid, and the threshold is the best of training items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.matching import best_threshold, iou, prompt_row, similarity
from medssl.evaluation.score_table import ScoreTable
from medssl.workflows import events
from medssl.workflows.place_features import AskedFrom, Described, PlaceReader, arm_words, asking, questions
from medssl.workflows.place_study import Found, Study

__all__ = ["PROMPT"]

_FEWEST = 2  # places of a structure: the prompt, and one to find
Cosines = npt.NDArray[np.floating]
Truth = npt.NDArray[np.bool_]


def _found(study: Study, asked: AskedFrom) -> Found:
    names, rows = study.dense.names, list[tuple[object, ...]]()
    with events.progress(len(asked.items) + len(study.test.entries), f"{study.noun}s read") as bar:
        reader = PlaceReader(study)
        maps: dict[str, list[tuple[Cosines, Truth]]] = {}
        for item in reader.all(study.train.subset(asked.items), bar):
            for arm in item.arms:
                maps.setdefault(arm, []).extend((cosine, truth) for cosine, truth, _ in _maps(item, arm, names))
        _check(study, any(maps.values()), "training")
        thresholds = {arm: best_threshold(own_maps) for arm, own_maps in maps.items()}
        for item in reader.all(study.test, bar):
            for arm, threshold in thresholds.items():
                for cosine, truth, number in _maps(item, arm, names):
                    start = (arm, "", 0, 0, len(asked.items), item.item, item.patient, names[number])
                    rows += [(*start, name, value, "") for name, value in _scores(cosine, truth, threshold).items()]
    _check(study, bool(rows), "test")
    return Found(
        table=ScoreTable.of_rows(rows),
        metric="prompt_iou",
        overlap={len(asked.items): 0.0},
        pairs=questions(study.frozen),
        arms=arm_words(study.frozen),
        content={"thresholds": thresholds},
    )


def _check(study: Study, some: bool, word: str) -> None:
    if not some:
        raise DataError(
            f"{study.test.folder}: no structure holds {_FEWEST} of the {study.own.places} {study.dense.place}s that "
            f"are looked at in a {word} {study.noun}. Look at more, with prompt.places."
        )


def _maps(item: Described, arm: str, names: Mapping[int, str]) -> Iterator[tuple[Cosines, Truth, int]]:
    """Return the map of cosines, the truth and the number of every structure that an item shows often enough."""
    for number in names:
        truth = item.labels == number
        if truth.sum() >= _FEWEST:
            yield similarity(item.arms[arm], prompt_row(item.labels, item.place_mm, number)), truth, number


def _scores(cosine: Cosines, truth: Truth, threshold: float) -> dict[str, float]:
    return {
        "prompt_iou": iou(cosine >= threshold, truth),
        "intra_similarity": float(cosine[truth].mean()),
        "inter_similarity": float(cosine[~truth].mean()) if not truth.all() else float("nan"),
    }


PROMPT = asking("prompt", _found, kind="prompt", metrics=("prompt_iou", "intra_similarity", "inter_similarity"))
