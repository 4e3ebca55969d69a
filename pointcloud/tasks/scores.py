"""The tasks on clouds as verbs ask for them: a class of each cloud, or a part of each of its points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.domains.class_task import ClassTask
from medssl.domains.task import Basis, Labels, RunScores, Task, silent
from medssl.errors import ConfigError, DataError
from medssl.evaluation.few_label import SEEDING
from medssl.evaluation.metrics import PART_METRICS, metric_of
from medssl.evaluation.parts import PartScores, part_scores
from medssl.evaluation.score_table import ScoreTable
from medssl.spreadsheet import rows_of_csv
from pointcloud.part_examples import PartExample, draw_part_examples, part_colours
from pointcloud.store import CloudEntry, CloudStore

if TYPE_CHECKING:
    from pointcloud.tasks.contract import CloudTask
    from pointcloud.tasks.prediction import CloudClassPredictor, PartPredictor

__all__ = ["PARTS", "CloudClassification", "PartScoring", "class_named", "classes_asked"]

PARTS = "parts.csv"  # which file holds the predicted parts of which cloud


def class_named(store: CloudStore, entry: CloudEntry) -> str:
    """Return the name of a cloud's class, "" where it has none."""
    return "" if entry.label is None else store.classes.get(entry.label, str(entry.label))


def classes_asked(store: CloudStore, wanted: Sequence[str] | None) -> dict[int, str]:
    """Return the names of the classes to distinguish, by number, in the order that was asked for.

    Raises:
        ConfigError: One is asked for that the store does not have.
    """
    there = sorted({int(e.label) for e in store.entries if e.label is not None})
    names = {number: store.classes.get(number, str(number)) for number in there}
    if wanted is None:
        return names
    numbers = {name: number for number, name in names.items()}
    unknown = [name for name in wanted if name not in numbers]
    if unknown:
        raise ConfigError(
            f"classification.classes: the store has no {', '.join(unknown)}; it has {', '.join(numbers)}."
        )
    return {numbers[name]: name for name in wanted}


def _key(of: Basis) -> list[Any]:
    own = {name: value for name, value in of.recipe.items() if name not in ("segmentation", "inference", "encoder")}
    listed = [(e.id, e.patient, e.file, of.labels.class_of(e)) for e in of.entries]
    return [own, of.card.encoder, SEEDING, listed, sorted(of.draws.sets.items())]


class CloudClassification(ClassTask):
    """A class of each cloud."""

    noun = "cloud"
    wanted = "clouds of known class"
    sees = "cloud.points"
    learns = "pointcloud.tasks.learn_classification.CloudClassLearning"

    def labels(self, store: CloudStore, recipe: Any, *, group: str = "") -> Labels:
        """Return the clouds whose class is one of those asked for."""
        classes = classes_asked(store, recipe.classification.classes)
        names = sorted(classes.values())
        return Labels(
            class_of=lambda entry: classes.get(entry.label),
            asked=f"{len(names)} classes",
            facts={"target": "class", "classes": names},
        )

    def load(self, run: Path) -> CloudTask:
        """Return a trained network of clouds."""
        from pointcloud.tasks.loading import load_cloud_task

        return load_cloud_task(run)

    def predictor(self, runs: Sequence[Path], settings: Any, device: Any) -> CloudClassPredictor:
        """Return a classifier of clouds, or several."""
        from pointcloud.tasks.prediction import cloud_classifiers_of

        return cloud_classifiers_of(runs, device)

    def key(self, of: Basis) -> list[Any]:
        """Return recipe, encoder, clouds with their classes, and draws."""
        return _key(of)


@dataclass(frozen=True, kw_only=True)
class PartTest:
    """The clouds of a store, the split that is scored, and which parts each class may have."""

    store: CloudStore
    split: str
    parts_of: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class _Parts:
    scores: PartScores
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    files: Mapping[str, Path]  # by id
    test: PartTest

    @cached_property
    def majority(self) -> dict[str, float]:
        """What naming the most frequent part of each class would score; it reads every label of the store, once."""
        return _majority(self, self.test)


class PartScoring(Task):
    """A part of each point. Which parts a class may have is what the store's labels show of it, in all splits."""

    name = "segmentation"
    kind = "parts"
    sees = "cloud.points"
    learns = "pointcloud.tasks.learn_parts.PartLearning"
    noun = "cloud"
    maker = "segmenter of points"
    wanted = "clouds with labels of points"
    summary = "part_scores.json"
    metrics = PART_METRICS
    metric = "instance_miou"

    def labels(self, store: CloudStore, recipe: Any, *, group: str = "") -> Labels:
        """Return the clouds whose points have labels; draws hold every class of clouds."""
        parts = [store.parts.get(part, str(part)) for part in sorted({*chain(*_parts_of(store).values())})]
        return Labels(
            class_of=lambda entry: None if entry.label_file is None else class_named(store, entry),
            asked=f"{len(parts)} parts",
            facts={"target": "part", "parts": parts},
        )

    def load(self, run: Path) -> CloudTask:
        """Return a trained network of clouds."""
        from pointcloud.tasks.loading import load_cloud_task

        return load_cloud_task(run)

    def predictor(self, runs: Sequence[Path], settings: Any, device: Any) -> PartPredictor:
        """Return a segmenter of points, or several."""
        from pointcloud.tasks.prediction import part_segmenters_of

        return part_segmenters_of(runs, settings.batch_size, device)

    def claims(self, run: Path) -> bool:
        """Tell whether a folder holds predicted parts of clouds."""
        return (run / PARTS).is_file()

    def test_set(self, data: Path, settings: Any, runs: Sequence[Path] = ()) -> PartTest:
        """Return the store and the split."""
        store = CloudStore.open(data)
        return PartTest(store=store, split=settings.split or "test", parts_of=_parts_of(store))

    def described(self, test: PartTest, run: Path) -> str:
        """Return how many clouds are scored."""
        return f"{len(_listed(run, test))} clouds of the split '{test.split}'"

    def score(self, run: Path, test: PartTest, progress: Callable[[str], None] = silent) -> RunScores:
        """Score the predicted parts of the clouds of the split.

        Raises:
            DataError: A prediction is missing or damaged or is of another cloud, or nothing of the split has labels.
        """
        listed, store = _listed(run, test), test.store
        rows = {entry.id: row for row, entry in enumerate(store.entries)}
        files = {row["id"]: run / row["file"] for row in listed}
        try:
            predicted = [np.load(path, allow_pickle=False) for path in files.values()]
        except (OSError, ValueError) as error:
            raise DataError(
                f"{run / PARTS}: the predicted parts cannot be read ({error}). Make them with: medssl finetune"
            ) from error
        truths = [np.asarray(store.labels(rows[one])) for one in files]
        for (one, path), truth, found in zip(files.items(), truths, predicted, strict=True):
            if truth.shape != found.shape:
                raise DataError(
                    f"{path}: holds parts of {len(found)} points; cloud {one!r} of {store.folder} has {len(truth)}. "
                    "Score a run on the store that it was fitted on."
                )
            progress(one)
        classes = tuple(row["class"] for row in listed)
        found = part_scores(truths, predicted, classes, test.parts_of)
        patients = tuple(row["patient"] or row["id"] for row in listed)
        columns: dict[str, Sequence[float] | npt.NDArray[np.float64]] = {
            "shape_iou": found.shapes,
            "points_right": [int(((t == p) & (t >= 0)).sum()) for t, p in zip(truths, predicted, strict=True)],
            "points_labelled": [int((t >= 0).sum()) for t in truths],
        }
        return RunScores(
            table=ScoreTable.joined(
                ScoreTable.of_values(values, tuple(files), patients, run="", metric=metric, targets=classes)
                for metric, values in columns.items()
            ),
            items=len(listed),
            facts={"by_class": found.by_class, "by_part": found.by_part},
            kept=_Parts(found, tuple(files), classes, files, test),
        )

    def definitions(self, unit: str) -> dict[str, str]:
        """Return how the parts of a shape are scored."""
        return {
            "IoU of a part": "mean over the shapes whose class has the part; a part that neither truth nor prediction "
            "shows counts 1.",
            "points": "points without a label are left out.",
        }

    def lines(self, test: PartTest, scored: Mapping[str, RunScores]) -> list[tuple[str, bool]]:
        """Return what naming the most frequent part of a class would score."""
        found: Mapping[str, float] = next(iter(scored.values())).kept.majority
        shown = ", ".join(f"{metric_of(name).words} {value:.3f}" for name, value in found.items())
        return [(f"always naming the part that is most frequent in its class: {shown}", False)] if found else []

    def content(self, test: PartTest, scored: Mapping[str, RunScores]) -> dict[str, Any]:
        """Return how many clouds there are of each class, the names of the parts, and what no learning scores."""
        first: _Parts = next(iter(scored.values())).kept
        numbers = sorted({*chain(*test.parts_of.values())})
        shown = part_colours(_examples(test, scored), test.store.parts)
        return {
            "clouds": dict(sorted(Counter(first.classes).items())),
            "parts": {str(part): test.store.parts.get(part, str(part)) for part in numbers},
            "majority": first.majority,
            "parts_shown": [name for name, _ in shown.values()],
        }

    def pictures(
        self, test: PartTest, scored: Mapping[str, RunScores], runs: Mapping[str, Path], out: Path
    ) -> list[Path]:
        """Draw the first run's best, middle and worst cloud of those that all have, and what each run says of them."""
        path = out / "part_examples.png"
        draw_part_examples(_examples(test, scored), path, test.store.parts)
        return [path]

    def key(self, of: Basis) -> list[Any]:
        """Return recipe, encoder, clouds with their labels, draws, and which parts a class may have."""
        files = [e.label_file for e in of.entries]
        return [*_key(of), files, sorted(of.test.parts_of.items())]


def _examples(test: PartTest, scored: Mapping[str, RunScores]) -> list[PartExample]:
    kept: dict[str, _Parts] = {name: own.kept for name, own in scored.items()}
    first = next(iter(kept.values()))
    shared = [place for place, one in enumerate(first.ids) if all(one in own.files for own in kept.values())]
    order = sorted(shared, key=lambda place: -first.scores.shapes[place])
    rows = {entry.id: row for row, entry in enumerate(test.store.entries)}
    return [
        PartExample(
            title=f"{first.classes[place] or 'cloud'}, IoU {first.scores.shapes[place]:.2f}",
            points=test.store.points(rows[first.ids[place]]),
            truth=np.asarray(test.store.labels(rows[first.ids[place]])),
            predicted={name: np.load(own.files[first.ids[place]], allow_pickle=False) for name, own in kept.items()},
        )
        for place in dict.fromkeys(order[place] for place in (0, len(order) // 2, -1))
    ]


def _majority(found: _Parts, test: PartTest) -> dict[str, float]:
    """Return what is scored by giving every point the part that most points of its class have, where not tested on."""
    tested, store = set(found.ids), test.store
    counts: dict[str, Counter[int]] = {}
    truths: dict[str, npt.NDArray[np.int64]] = {}
    for row, entry in enumerate(store.entries):
        if entry.label_file is None:
            continue
        truth = np.asarray(store.labels(row), dtype=np.int64)
        if entry.id in tested:
            truths[entry.id] = truth
        else:
            values, numbers = np.unique(truth[truth >= 0], return_counts=True)
            own = counts.setdefault(class_named(store, entry), Counter())
            own.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    if any(name not in counts for name in found.classes):
        return {}
    most = {name: own.most_common(1)[0][0] for name, own in counts.items()}
    wanted = [truths[one] for one in found.ids]
    guessed = [np.full_like(truth, most[name]) for truth, name in zip(wanted, found.classes, strict=True)]
    scores = part_scores(wanted, guessed, found.classes, test.parts_of)
    return dict(zip(PART_METRICS, (scores.instance_miou, scores.class_miou, scores.accuracy), strict=True))


def _listed(run: Path, test: PartTest) -> list[dict[str, str]]:
    """Return the rows of a run's list of predictions that are of the split and whose points have labels."""
    path, entries = run / PARTS, {entry.id: entry for entry in test.store.entries}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            listed = [row for row in rows_of_csv(file) if row["split"] == test.split and row["id"] in entries]
        found = [row for row in listed if entries[row["id"]].label_file is not None]
        _ = [(row["file"], row["patient"], row["class"]) for row in found]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: the predicted parts cannot be read ({error}). Make them with: medssl finetune"
        ) from error
    if not found:
        raise DataError(
            f"{path}: no cloud with labelled points is in the split '{test.split}'. Choose another: split=NAME."
        )
    return found


def _parts_of(store: CloudStore) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for row, entry in enumerate(store.entries):
        if entry.label_file is not None:
            own = {int(v) for v in np.unique(store.labels(row)) if v >= 0}
            found.setdefault(class_named(store, entry), set()).update(own)
    return {name: tuple(sorted(parts)) for name, parts in found.items()}
