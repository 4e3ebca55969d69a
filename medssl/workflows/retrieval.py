"""The retrieval protocol of ``medssl evaluate``: the nearest training patients of each test patient by frozen features.

An item is the mean of its places' features. Near patients should have structures of like volume, and where the store
knows a class, the same class; beside every arm stands "anyone", all training patients alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.command import Command
from medssl.domains.dense import Dense
from medssl.errors import ConfigError, did_you_mean
from medssl.evaluation.matching import nearest
from medssl.evaluation.score_table import ScoreTable
from medssl.workflows import events
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.evaluate_settings import EvaluateSettings
from medssl.workflows.frozen import RANDOM, Frozen
from medssl.workflows.place_features import (
    HANDMADE,
    PLACED,
    POSITION,
    Described,
    PlaceReader,
    arm_words,
    opened,
    questions,
)
from medssl.workflows.score_files import Scored

__all__ = ["ANYONE", "retrieval"]

ANYONE = "anyone"


def retrieval(
    runs: Sequence[Path], *, data: Path, out: Path, settings: EvaluateSettings, dry_run: bool = False
) -> Scored:
    """Find nearest patients.

    Args:
        runs: Pretraining runs of one architecture.
        data: A store with label maps, or of clouds with labels of their points, split into train and test.
        out: Folder of the comparison: retrieval.json, retrieval.csv, retrieval.png.
        settings: Settings of the verb.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError, CheckpointError, DataError: As of `medssl.workflows.place_features.opened`; or there is no such
            target.
    """
    own = settings.retrieval
    found = opened(runs, data=data, out=out, settings=settings, own=own, protocol="retrieval", dry_run=dry_run)
    if isinstance(found, Scored):
        return found
    frozen, dense, train, test = found
    classes = _classes(frozen, own.target)
    with events.progress(len(train.entries) + len(test.entries), f"{frozen.domain.noun}s read") as bar:
        reader = PlaceReader(frozen, dense, own, train)
        bank = [_Item(item, dense) for item in reader.all(train, bar)]
        asked = [_Item(item, dense) for item in reader.all(test, bar)]
    rows: list[tuple[object, ...]] = []
    arms = [arm for arm in bank[0].vectors if arm not in (POSITION, f"{HANDMADE}-{PLACED}")]
    arms = [arm for arm in arms if not arm.partition("-seed")[0].endswith(f"-{PLACED}")]  # a mean place tells nothing
    for arm in [*arms, ANYONE]:
        near = np.tile(np.arange(len(bank)), (len(asked), 1))
        if arm != ANYONE:
            queries, there = (np.stack([item.vectors[arm] for item in part]) for part in (asked, bank))
            near, _ = nearest(queries - there.mean(axis=0), there - there.mean(axis=0), own.neighbours)
        for item, found_rows in zip(asked, near, strict=True):
            for metric, value in _scores(item, [bank[row] for row in found_rows], classes).items():
                rows.append((arm, "", 0, 0, len(bank), item.key, item.patient, "", metric, value, ""))
    metrics = ["volume_gap"] + (["same_class"] if classes else [])
    pairs = {pair: said for pair, said in questions(frozen).items() if pair[1] == RANDOM}
    pairs |= {(arm, HANDMADE): f"a pretrained encoder ({arm})" for arm, _ in list(pairs)}
    return write_arms(
        ScoreTable.of_rows(rows),
        out,
        name="retrieval",
        kind="retrieval",
        baseline=RANDOM,
        metric=metrics[-1],
        against="random encoders, and hand-made features",
        metrics=metrics,
        level=settings.level,
        unit=frozen.domain.owner,
        overlap={len(bank): 0.0},
        pairs=pairs,
        content={
            "split": settings.split or "test",
            "seen": dense.seen,
            "arms": arm_words(frozen),
            "target": own.target,
            "settings": own.model_dump(mode="json"),
        },
        then=Command("report", *frozen.runs, out),
    )


class _Item:
    """An item as one vector for each arm, with the volumes of its structures."""

    def __init__(self, of: Described, dense: Dense) -> None:
        self.key, self.patient = of.item, of.patient
        self.vectors: dict[str, npt.NDArray[Any]] = {arm: own.mean(axis=0) for arm, own in of.arms.items()}
        counts = np.array([(of.whole_labels == number).sum() for number in dense.names], dtype=float)
        self.volumes = np.where(counts > 0, counts * (_voxel(of) if dense.place == "voxel" else 1.0), np.nan)


def _voxel(of: Described) -> float:
    """Return the volume of a voxel, from the distances of places along each axis."""
    steps = [np.diff(np.unique(np.round(of.whole_mm[:, axis], 4))) for axis in range(3)]
    return float(np.prod([step.min() if len(step) else 1.0 for step in steps]))


def _scores(item: _Item, near: Sequence[_Item], classes: Mapping[str, str]) -> dict[str, float]:
    gaps = np.abs(np.log(np.stack([other.volumes for other in near]) / item.volumes))
    scores = {"volume_gap": float(np.nanmean(gaps)) if np.isfinite(gaps).any() else float("nan")}
    if classes:
        own = classes.get(item.key)
        told = [classes[other.key] == own for other in near if other.key in classes]
        scores["same_class"] = float(np.mean(told)) if own is not None and told else float("nan")
    return scores


def _classes(frozen: Frozen, target: str) -> dict[str, str]:
    """Return the class of each item: of scans of a target, of clouds their own; empty where none is asked for."""
    entries = frozen.store.entries
    if frozen.domain.kind == "cloud":
        return {entry.id: str(entry.label) for entry in entries if entry.label is not None}
    if not target:
        return {}
    known = {name for entry in entries for name, _ in entry.targets}
    if target not in known:
        hint = did_you_mean(target, known) if known else "It has none."
        raise ConfigError(f"retrieval.target: the store has no target '{target}'. {hint}")
    return {entry.id: label for entry in entries if (label := entry.target(target)) is not None}
