"""The one-shot protocol of ``medssl evaluate``: the labels of one patient carried to others, with nothing fitted.

By frozen features: each place takes the label that most of its nearest places in the labelled patient have, with
position among the features ("placed") and without. Beside them what people use: SimpleITK's registration of scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.command import Command
from medssl.evaluation.dense_probe import overlaps
from medssl.evaluation.matching import carried
from medssl.evaluation.registration import Way, registered_labels
from medssl.evaluation.score_table import ScoreTable
from medssl.store.read import Store
from medssl.workflows import events
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.evaluate_settings import EvaluateSettings
from medssl.workflows.frozen import RANDOM
from medssl.workflows.landmarks import asked_from
from medssl.workflows.place_features import Described, PlaceReader, arm_words, opened, questions
from medssl.workflows.score_files import Scored

__all__ = ["one_shot"]


def one_shot(
    runs: Sequence[Path], *, data: Path, out: Path, settings: EvaluateSettings, dry_run: bool = False
) -> Scored:
    """Carry labels by nearest features and by registration.

    Args:
        runs: Pretraining runs of one architecture.
        data: A store with label maps, or of clouds with labels of their points, split into train and test.
        out: Folder of the comparison: one_shot.json, one_shot.csv, one_shot.png.
        settings: Settings of the verb. Dice is of the places that are looked at.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError, CheckpointError, DataError: As of `medssl.workflows.place_features.opened`.
    """
    own = settings.one_shot
    found = opened(runs, data=data, out=out, settings=settings, own=own, protocol="one-shot", dry_run=dry_run)
    if isinstance(found, Scored):
        return found
    frozen, dense, train, test = found
    asked, overlap = asked_from(train, own, dense)
    ways = own.registration if isinstance(frozen.store, Store) else ()
    names, rows = dict(dense.names), list[tuple[object, ...]]()
    failed: dict[str, dict[str, str]] = {}
    with events.progress(len(asked) + len(test.entries), f"{frozen.domain.noun}s read") as bar:
        reader = PlaceReader(frozen, dense, own, train)
        sources = list(reader.all(train.subset(asked), bar))
        for index, there in enumerate(reader.all(test, bar)):
            for draw, source in enumerate(sources):
                for arm, features in there.arms.items():
                    said = carried(features, source.arms[arm], source.labels, own.neighbours)
                    rows += _dice(arm, there, said, names, draw)
                for way in ways:
                    mask, why = _registered(train, asked[draw], test, index, way, seed=own.seed)
                    if why:
                        failed.setdefault(way, {})[there.item] = why
                    rows += _dice(way, there, _at(mask, there, test.entries[index]), names, draw)
    for name, cases in failed.items():
        case, why = next(iter(cases.items()))
        events.warning(f"{name}: {len(cases)} scans were left as a failed step found them, such as {case}: {why}")
    return write_arms(
        ScoreTable.of_rows(rows),
        out,
        name="one_shot",
        kind="segmentation",
        baseline=RANDOM,
        metric="dice",
        against="random encoders; and, with position, against hand-made features and registration",
        metrics=["dice"],
        level=settings.level,
        unit=frozen.domain.owner,
        overlap=overlap,
        pairs=questions(frozen, *ways),
        content={
            "split": settings.split or "test",
            "seen": dense.seen,
            "arms": arm_words(frozen),
            "registration_failed": failed,
            "settings": own.model_dump(mode="json"),
        },
        then=Command("report", *frozen.runs, out),
    )


def _dice(
    arm: str, there: Described, said: npt.NDArray[np.int64], names: dict[int, str], draw: int
) -> list[tuple[object, ...]]:
    """Return the Dice of each structure over the places of an item."""
    found = overlaps(
        said, there.labels, np.ones(len(said)), np.zeros(len(said), np.int64), structures=max(names), cases=1
    )
    dice = found.dice()[0]
    return [
        (arm, "", 0, draw, 1, there.item, there.patient, name, "dice", float(dice[number - 1]), "")
        for number, name in names.items()
    ]


def _registered(
    train: Any, item: str, test: Any, index: int, way: Way, *, seed: int
) -> tuple[npt.NDArray[np.int16], str]:
    row = next(place for place, entry in enumerate(train.entries) if entry.id == item)
    spacings = test.entries[index].spacing_mm, train.entries[row].spacing_mm
    return registered_labels(test.values(index), train.values(row), train.labels(row), spacings, way=way, seed=seed)


def _at(mask: npt.NDArray[np.int16], there: Described, entry: Any) -> npt.NDArray[np.int64]:
    """Return a mask's labels at the places of an item."""
    voxels = np.rint(there.place_mm / np.array(entry.spacing_mm)).astype(int)
    return np.asarray(mask[tuple(voxels.T)], dtype=np.int64)
