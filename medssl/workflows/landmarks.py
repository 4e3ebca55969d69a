"""The landmarks protocol of ``medssl evaluate``: the centroids and ends of structures, found again in other patients.

A landmark is asked from one training patient and looked for in each test patient: where features are nearest. Truth is
that of the label maps, exact on phantoms. See `medssl.evaluation.metrics` for what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medssl.errors import DataError
from medssl.evaluation.matching import landmarks_of, nearest
from medssl.evaluation.score_table import ScoreTable
from medssl.workflows import events
from medssl.workflows.place_features import AskedFrom, Described, PlaceReader, arm_words, asking, questions
from medssl.workflows.place_study import Found, Study

__all__ = ["LANDMARKS"]

Marks = dict[str, np.ndarray]


def _found(study: Study, asked: AskedFrom) -> Found:
    names, rows = study.dense.names, list[tuple[object, ...]]()
    with events.progress(len(asked.items) + len(study.test.entries), f"{study.noun}s read") as bar:
        reader = PlaceReader(study)
        sources = list(reader.all(study.train.subset(asked.items), bar))
        known = [landmarks_of(source.whole_labels, source.whole_mm, names) for source in sources]
        for there in reader.all(study.test, bar):
            truth = landmarks_of(there.whole_labels, there.whole_mm, names)
            for draw, (source, marks) in enumerate(zip(sources, known, strict=True)):
                rows += _errors(source, there, marks, truth, draw)
    if not rows:
        raise DataError(
            f"{study.test.folder}: no test {study.noun} shows a structure of those that the {len(sources)} asked from "
            "show, so there is no landmark to find again."
        )
    return Found(
        table=ScoreTable.of_rows(rows),
        metric="landmark_mm",
        overlap=asked.overlap,
        pairs=questions(study.frozen),
        arms=arm_words(study.frozen),
        content={"asked": len(asked.items)},
    )


def _errors(source: Described, there: Described, marks: Marks, truth: Marks, draw: int) -> Iterator[tuple[object, ...]]:
    """Return how far from the truth each arm finds each landmark, and how far along the first axis."""
    shared = [name for name in marks if name in truth]
    if not shared:
        return
    at, _ = nearest(np.stack([marks[name] for name in shared]), source.place_mm)
    for arm, features in source.arms.items():
        found, _ = nearest(features[at[:, 0]], there.arms[arm])
        gaps = there.place_mm[found[:, 0]].astype(np.float64) - np.stack([truth[name] for name in shared])
        for name, gap in zip(shared, gaps, strict=True):
            for metric, value in (("landmark_mm", np.linalg.norm(gap)), ("level_mm", abs(gap[0]))):
                yield (arm, "", 0, draw, 1, there.item, there.patient, name, metric, float(value), "")


LANDMARKS = asking("landmarks", _found, kind="landmarks", metrics=("landmark_mm", "level_mm"), whole=True)
