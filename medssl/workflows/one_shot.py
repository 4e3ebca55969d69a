"""The one-shot protocol of ``medssl evaluate``: the labels of one patient carried to others, with nothing fitted.

By frozen features: each place takes the label that most of its nearest places in the labelled patient have, with
position among the features ("placed") and without. Beside them what people use where the kind of data has it:
SimpleITK's registration of scans. Dice is of the places that are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from medssl.domains.dense import Dense
from medssl.evaluation.dense_probe import dice_rows, in_order, overlaps
from medssl.evaluation.matching import carried
from medssl.evaluation.metrics import EMPTY_MASKS
from medssl.evaluation.score_table import ScoreTable
from medssl.workflows import events
from medssl.workflows.place_features import AskedFrom, Described, PlaceReader, arm_words, asking, questions
from medssl.workflows.place_study import Found, Study

__all__ = ["ONE_SHOT"]


def _found(study: Study, asked: AskedFrom) -> Found:
    dense, own, rows = study.dense, study.own, list[tuple[object, ...]]()
    ways = {}
    if dense.registered is not None:
        ways = {way: partial(dense.registered, way=way, seed=own.seed) for way in own.registration}
    failed: dict[str, dict[str, str]] = {}
    with events.progress(len(asked.items) + len(study.test.entries), f"{study.noun}s read") as bar:
        reader = PlaceReader(study)
        labelled = study.train.subset(asked.items)
        sources = list(reader.all(labelled, bar))
        for there in reader.all(study.test, bar):
            for draw, source in enumerate(sources):
                for arm, features in there.arms.items():
                    said = carried(features, source.arms[arm], source.labels, own.neighbours)
                    rows += _dice(arm, there, said, dense, draw)
                for way, registered in ways.items():
                    told = registered(labelled, source.row, study.test, there.row, there.place_mm)
                    if told.why:
                        failed.setdefault(way, {})[there.item] = told.why
                    rows += _dice(way, there, told.labels, dense, draw)
    for name, cases in failed.items():
        case, why = next(iter(cases.items()))
        events.warning(f"{name}: {len(cases)} scans were left as a failed step found them, such as {case}: {why}")
    return Found(
        table=ScoreTable.of_rows(rows),
        metric="dice",
        overlap=asked.overlap,
        pairs=questions(study.frozen, *ways),
        arms=arm_words(study.frozen),
        content={"registration_failed": failed, "definitions": {"empty masks": EMPTY_MASKS}},
    )


def _dice(
    arm: str, there: Described, said: npt.NDArray[np.int64], dense: Dense, draw: int
) -> Sequence[tuple[object, ...]]:
    """Return the Dice of each structure over the places of an item."""
    named, truth = in_order(said, dense.names), in_order(there.labels, dense.names)
    every, alone = np.ones(len(said)), np.zeros(len(said), np.int64)
    found = overlaps(named, truth, every, alone, structures=len(dense.names), cases=1)
    return dice_rows(found, [(there.item, there.patient)], list(dense.names.values()), arm=arm, labels=1, draw=draw)


ONE_SHOT = asking(
    "one-shot",
    _found,
    kind="segmentation",
    metrics=("dice",),
    beside=" and registration",
    taken=("affine", "deformable"),
)
