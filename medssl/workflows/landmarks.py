"""The landmarks protocol of ``medssl evaluate``: the centroids and ends of structures, found again in other patients.

A landmark is asked from one training patient and looked for in each test patient: where features are nearest. Truth is
that of the label maps, exact on phantoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.command import Command
from medssl.domains.dense import Dense
from medssl.evaluation.matching import landmarks_of, nearest
from medssl.evaluation.score_table import ScoreTable
from medssl.workflows import events
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.evaluate_settings import DrawSettings, EvaluateSettings, PlaceSettings
from medssl.workflows.frozen import RANDOM
from medssl.workflows.labelled import label_sets_of, patient_of
from medssl.workflows.place_features import Described, PlaceReader, arm_words, opened, questions
from medssl.workflows.score_files import Scored

__all__ = ["asked_from", "landmarks"]


def landmarks(
    runs: Sequence[Path], *, data: Path, out: Path, settings: EvaluateSettings, dry_run: bool = False
) -> Scored:
    """Find landmarks again by frozen features; see `medssl.evaluation.metrics` for what is measured.

    Args:
        runs: Pretraining runs of one architecture.
        data: A store with label maps, or of clouds with labels of their points, split into train and test.
        out: Folder of the comparison: landmarks.json, landmarks.csv, landmarks.png.
        settings: Settings of the verb.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError, CheckpointError, DataError: As of `medssl.workflows.place_features.opened`.
    """
    own = settings.landmarks
    found = opened(runs, data=data, out=out, settings=settings, own=own, protocol="landmarks", dry_run=dry_run)
    if isinstance(found, Scored):
        return found
    frozen, dense, train, test = found
    asked, overlap = asked_from(train, own, dense)
    rows = []
    with events.progress(len(asked) + len(test.entries), f"{frozen.domain.noun}s read") as bar:
        reader = PlaceReader(frozen, dense, own, train)
        sources = list(reader.all(train.subset(asked), bar))
        known = [landmarks_of(source.whole_labels, source.whole_mm, dense.names) for source in sources]
        for there in reader.all(test, bar):
            truth = landmarks_of(there.whole_labels, there.whole_mm, dense.names)
            for draw, (source, own_marks) in enumerate(zip(sources, known, strict=True)):
                shared = [name for name in own_marks if name in truth]
                rows += _errors(source, there, own_marks, truth, shared, draw)
    return write_arms(
        ScoreTable.of_rows(rows),
        out,
        name="landmarks",
        kind="landmarks",
        baseline=RANDOM,
        metric="landmark_mm",
        against="random encoders; and, with position, against hand-made features",
        metrics=["landmark_mm", "level_mm"],
        level=settings.level,
        unit=frozen.domain.owner,
        overlap=overlap,
        pairs=questions(frozen),
        content={
            "split": settings.split or "test",
            "seen": dense.seen,
            "arms": arm_words(frozen),
            "asked": len(asked),
            "settings": own.model_dump(mode="json"),
        },
        then=Command("report", *frozen.runs, out),
    )


def asked_from(train: Any, own: PlaceSettings, dense: Dense) -> tuple[list[str], dict[int, float]]:
    """Return the training items that are asked from, one a draw, and what two draws have in common."""
    drawn = DrawSettings(sizes=(1,), draws=own.draws, draw_seed=own.draw_seed)
    sets = label_sets_of(train.entries, dense.class_of, drawn)
    first = {patient_of(entry): entry.id for entry in reversed(train.entries)}
    return [first[sets.patients(1, draw)[0]] for draw in sets.different(1)], sets.overlap(distinct=True)


def _errors(
    source: Described,
    there: Described,
    marks: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    shared: Sequence[str],
    draw: int,
) -> list[tuple[object, ...]]:
    """Return how far from the truth each arm finds each landmark, and how far along the first axis."""
    if not shared:
        return []
    at, _ = nearest(np.stack([marks[name] for name in shared]), source.place_mm)
    rows: list[tuple[object, ...]] = []
    for arm, features in source.arms.items():
        found, _ = nearest(features[at[:, 0]], there.arms[arm])
        gaps = there.place_mm[found[:, 0]].astype(np.float64) - np.stack([truth[name] for name in shared])
        for name, gap in zip(shared, gaps, strict=True):
            for metric, value in (("landmark_mm", np.linalg.norm(gap)), ("level_mm", abs(gap[0]))):
                rows.append((arm, "", 0, draw, 1, there.item, there.patient, name, metric, float(value), ""))
    return rows
