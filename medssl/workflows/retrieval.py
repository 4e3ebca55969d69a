"""The retrieval protocol of ``medssl evaluate``: the nearest training patients of each test patient by frozen features.

An item is the mean of its places' features. Near patients should have structures of like volume, and where the store
knows a class, the same class; beside every arm stands "anyone", all training patients alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError
from medssl.evaluation.matching import nearest
from medssl.evaluation.score_table import ScoreTable
from medssl.workflows import events
from medssl.workflows.frozen import RANDOM
from medssl.workflows.place_features import (
    HANDMADE,
    PLACED,
    POSITION,
    TAKEN,
    Described,
    PlaceReader,
    arm_words,
    questions,
)
from medssl.workflows.place_study import Found, PlaceProtocol, Study

__all__ = ["ANYONE", "RETRIEVAL"]

ANYONE = "anyone"
Classes = Mapping[str, str]


def _planned(study: Study) -> tuple[str, Classes]:
    """Return what will be done, and the class of each item.

    Raises:
        ConfigError: There is no such target, or as many neighbours are asked for as there are.
    """
    own, there = study.own, len(study.train.entries)
    classes = study.dense.classes(study.frozen.store, own.target)
    if own.neighbours >= there:
        more = f"Set retrieval.neighbours to 1 to {there - 1}." if there > 1 else "Label more patients."
        raise ConfigError(
            f"retrieval.neighbours: {own.neighbours} nearest of {there} training {study.noun}s are all of them, "
            f"whatever features say. {more}"
        )
    return f"{own.places} {study.dense.place}s of each; the {own.neighbours} nearest of {there}", classes


def _found(study: Study, classes: Classes) -> Found:
    train, test = study.train, study.test
    with events.progress(len(train.entries) + len(test.entries), f"{study.noun}s read") as bar:
        reader = PlaceReader(study)
        bank = [_Item(item, study, train) for item in reader.all(train, bar)]
        asked = [_Item(item, study, test) for item in reader.all(test, bar)]
    rows: list[tuple[object, ...]] = []
    arms = [arm for arm in bank[0].vectors if arm not in (POSITION, f"{HANDMADE}-{PLACED}")]
    arms = [arm for arm in arms if not arm.partition("-seed")[0].endswith(f"-{PLACED}")]  # a mean place tells nothing
    for arm in [*arms, ANYONE]:
        near = np.tile(np.arange(len(bank)), (len(asked), 1))
        if arm != ANYONE:
            queries, there = (np.stack([item.vectors[arm] for item in part]) for part in (asked, bank))
            near, _ = nearest(queries - there.mean(axis=0), there - there.mean(axis=0), study.own.neighbours)
        for item, found_rows in zip(asked, near, strict=True):
            for metric, value in _scores(item, [bank[row] for row in found_rows], classes).items():
                rows.append((arm, "", 0, 0, len(bank), item.key, item.patient, "", metric, value, ""))
    pairs = {pair: said for pair, said in questions(study.frozen).items() if pair[1] == RANDOM}
    pairs |= {(arm, HANDMADE): f"a pretrained encoder ({arm})" for arm, _ in list(pairs)}
    return Found(
        table=ScoreTable.of_rows(rows),
        metric="same_class" if classes else "volume_gap",
        overlap={len(bank): 0.0},
        pairs=pairs,
        arms=arm_words(study.frozen),
        content={"target": study.own.target},
    )


class _Item:
    """An item as one vector for each arm, with the sizes of its structures."""

    def __init__(self, of: Described, study: Study, store: Any) -> None:
        self.key, self.patient = of.item, of.patient
        self.vectors: dict[str, npt.NDArray[Any]] = {arm: own.mean(axis=0) for arm, own in of.arms.items()}
        counts = np.array([(of.whole_labels == number).sum() for number in study.dense.names], dtype=float)
        size = study.dense.size(store.entries[of.row], len(of.whole_labels))
        self.volumes = np.where(counts > 0, counts * size, np.nan)


def _scores(item: _Item, near: Sequence[_Item], classes: Classes) -> dict[str, float]:
    gaps = np.abs(np.log(np.stack([other.volumes for other in near]) / item.volumes))
    scores = {"volume_gap": float(np.nanmean(gaps)) if np.isfinite(gaps).any() else float("nan")}
    if classes:
        own = classes.get(item.key)
        told = [classes[other.key] == own for other in near if other.key in classes]
        scores["same_class"] = float(np.mean(told)) if own is not None and told else float("nan")
    return scores


RETRIEVAL = PlaceProtocol(
    name="retrieval",
    kind="retrieval",
    metrics=("volume_gap", "same_class"),
    against="random encoders, and hand-made features",
    joined=(PLACED,),
    taken=(*TAKEN, ANYONE),
    plan=_planned,
    work=_found,
    whole=True,
)
