"""The prompt protocol of ``medssl evaluate``: a structure segmented from one place in it, by how alike features are.

For each structure of a test item the place nearest to its centroid is the prompt; what is as alike to it as a threshold
says is named. The threshold is the best of the training items, one for each arm, so nothing is read off the test part.

Reference:
    MMC, arXiv:2308.11448, whose zero-shot protocol this follows: a place, a map of cosines, a threshold, IoU, and how
    alike places inside an object are against those outside. Its equations were not at hand; here the prompt is the
    place nearest to the centroid, and the threshold is the best of training items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.command import Command
from medssl.evaluation.matching import best_threshold, iou, prompt_row, similarity
from medssl.evaluation.score_table import ScoreTable
from medssl.workflows import events
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.evaluate_settings import EvaluateSettings
from medssl.workflows.frozen import RANDOM
from medssl.workflows.landmarks import asked_from
from medssl.workflows.place_features import Described, PlaceReader, arm_words, opened, questions
from medssl.workflows.score_files import Scored

__all__ = ["prompt"]

Map = tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_], int]


def prompt(runs: Sequence[Path], *, data: Path, out: Path, settings: EvaluateSettings, dry_run: bool = False) -> Scored:
    """Segment structures from one place each.

    Args:
        runs: Pretraining runs of one architecture.
        data: A store with label maps, or of clouds with labels of their points, split into train and test.
        out: Folder of the comparison: prompt.json, prompt.csv, prompt.png.
        settings: Settings of the verb; the training items of all draws together give the thresholds.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError, CheckpointError, DataError: As of `medssl.workflows.place_features.opened`.
    """
    own = settings.prompt
    found = opened(runs, data=data, out=out, settings=settings, own=own, protocol="prompt", dry_run=dry_run)
    if isinstance(found, Scored):
        return found
    frozen, dense, train, test = found
    asked, _ = asked_from(train, own, dense)
    rows: list[tuple[object, ...]] = []
    with events.progress(len(asked) + len(test.entries), f"{frozen.domain.noun}s read") as bar:
        reader = PlaceReader(frozen, dense, own, train)
        maps: dict[str, list[tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]]] = {}
        for item in reader.all(train.subset(asked), bar):
            for arm in item.arms:
                maps.setdefault(arm, []).extend((cosine, truth) for cosine, truth, _ in _maps(item, arm, dense.names))
        thresholds = {arm: best_threshold(own_maps) for arm, own_maps in maps.items()}
        for item in reader.all(test, bar):
            for arm, threshold in thresholds.items():
                for cosine, truth, number in _maps(item, arm, dense.names):
                    scores = {
                        "prompt_iou": iou(cosine >= threshold, truth),
                        "intra_similarity": cosine[truth].mean(),
                        "inter_similarity": cosine[~truth].mean() if not truth.all() else float("nan"),
                    }
                    rows += [
                        (
                            arm,
                            "",
                            0,
                            0,
                            len(asked),
                            item.item,
                            item.patient,
                            dense.names[number],
                            name,
                            float(value),
                            "",
                        )
                        for name, value in scores.items()
                    ]
    return write_arms(
        ScoreTable.of_rows(rows),
        out,
        name="prompt",
        kind="prompt",
        baseline=RANDOM,
        metric="prompt_iou",
        against="random encoders; and, with position, against hand-made features",
        metrics=["prompt_iou", "intra_similarity", "inter_similarity"],
        level=settings.level,
        unit=frozen.domain.owner,
        overlap={len(asked): 0.0},
        pairs=questions(frozen),
        content={
            "split": settings.split or "test",
            "seen": dense.seen,
            "arms": arm_words(frozen),
            "thresholds": thresholds,
            "settings": own.model_dump(mode="json"),
        },
        then=Command("report", *frozen.runs, out),
    )


def _maps(item: Described, arm: str, names: Mapping[int, str]) -> Iterator[Map]:
    """Return the map of cosines, the truth and the number of every structure that an item shows twice or more."""
    for number in names:
        truth = item.labels == number
        if truth.sum() >= 2:
            yield similarity(item.arms[arm], prompt_row(item.labels, item.place_mm, number)), truth, number
