"""``medssl evaluate`` for part segmentation: mean IoU of the parts of clouds, with intervals and paired tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.metrics import PART_METRICS, metric_of
from medssl.evaluation.parts import PartScores, part_scores
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.naming import of_what
from medssl.evaluation.statistics.summary_file import as_json
from medssl.quoting import quoted
from medssl.reporting.prose import counted_of, owner_of
from medssl.spreadsheet import rows_of_csv
from pipelines import console
from pipelines.finetune_parts import PARTS
from pipelines.predict_command import predict_command
from pipelines.run_classes import change_between, labelled_patients_of
from pipelines.score_files import Scored, found_in, show_comparisons, show_notes, show_scores, write_scores
from pointcloud.part_examples import PartExample, draw_part_examples, part_colours
from pointcloud.store import CloudStore

__all__ = ["evaluate_parts", "is_part_segmentation"]

_DEFINITIONS = {
    "IoU of a part": "mean over the shapes whose class has the part; a part that neither truth nor prediction shows "
    "counts 1.",
    "points": "points without a label are left out.",
}


@dataclass(frozen=True)
class _Parts:
    scores: PartScores
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    classes: tuple[str, ...]
    files: Mapping[str, str]  # by id
    points: npt.NDArray[np.int64]


def is_part_segmentation(run: Path) -> bool:
    """Tell whether a folder holds predicted parts of clouds."""
    return (run / PARTS).is_file()


def evaluate_parts(
    runs: Mapping[str, Path], data: Path, out: Path, *, split: str, level: float, dry_run: bool = False
) -> Scored:
    """Score the predicted parts of runs, and test the first against the others.

    Which parts a class may have is what the store's labels show of it, in all splits.

    Args:
        runs: Folders of segmentation runs on clouds, by name.
        data: The store that they were fitted on.
        out: Where part_scores.json goes.
        split: The split to score.
        level: Confidence level of the intervals.
        dry_run: Say what would be done; write nothing.

    Raises:
        DataError: A prediction is missing or damaged or is of another cloud, or nothing of the split has labels.
    """
    store = CloudStore.open(data)
    parts_of = _parts_of(store)
    scored = {name: _score(folder, store, parts_of, split) for name, folder in runs.items()}
    first = next(iter(scored))
    console.say(f"{len(scored[first].ids)} clouds of the split '{split}'; runs: {', '.join(runs)}")
    if dry_run:
        console.done(None, "")
        return Scored()
    counts = len(scored[first].ids), "cloud", len(set(scored[first].patients))
    owner, labels = owner_of(*counts), labelled_patients_of(runs.values())
    found = found_in(
        ScoreTable.joined(_table(name, own, labels) for name, own in scored.items()),
        [(first, name) for name in scored if name != first], metrics=PART_METRICS, compared=PART_METRICS[:1],
        level=level, unit=owner, pooled=False, change=change_between(runs),
    )  # fmt: skip
    show_scores(found, title=counted_of(*counts), unit=owner)
    show_comparisons(found, unit=owner, of=of_what({"kind": "parts"}, found.table))
    show_notes(found, PART_METRICS)
    for name, text in _DEFINITIONS.items():
        console.say(f"{name}: {text}")
    examples = _examples(scored, runs, store)
    shown_parts = [name for name, _ in part_colours(examples, store.parts).values()]
    majority = _majority(scored[first], store, parts_of)
    if majority:
        shown = ", ".join(f"{metric_of(name).words} {value:.3f}" for name, value in majority.items())
        console.say(f"always naming the part that is most frequent in its class: {shown}")
    content: dict[str, Any] = {
        "split": split,
        "majority": majority,
        "parts_shown": shown_parts,
        "definitions": _DEFINITIONS,
        "clouds": dict(sorted(Counter(scored[first].classes).items())),
        "parts": {str(part): store.parts.get(part, str(part)) for part in sorted({*chain(*parts_of.values())})},
        "runs": {
            name: {"by_class": own.scores.by_class, "by_part": own.scores.by_part} for name, own in scored.items()
        },
    }
    files = write_scores(
        found, out, "part_scores.json", kind="parts", unit=owner, metrics=PART_METRICS, content=content
    )
    picture = out / "part_examples.png"
    draw_part_examples(examples, picture, store.parts)
    console.done(
        [*files, picture],
        f"medssl report {quoted(*dict.fromkeys([*runs.values(), out]))}",
        on_new=predict_command(next(iter(runs.values()))),
        scores=as_json(found.scores),
        comparisons=as_json(found.comparisons),
    )
    return replace(found, files=[*files, picture])


def _table(name: str, found: _Parts, labels: int | None) -> ScoreTable:
    """Return the rows of one run: IoU, right and labelled points of each cloud."""
    columns = {"shape_iou": found.scores.shapes, "points_right": found.points[:, 0],
               "points_labelled": found.points[:, 1]}  # fmt: skip
    return ScoreTable.joined(
        ScoreTable.of_values(values, found.ids, found.patients, run=name, metric=metric, targets=found.classes,
                             labels=labels)
        for metric, values in columns.items()
    )  # fmt: skip


def _score(run: Path, store: CloudStore, parts_of: Mapping[str, Sequence[int]], split: str) -> _Parts:
    path = run / PARTS
    rows = {entry.id: row for row, entry in enumerate(store.entries)}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            listed = [row for row in rows_of_csv(file) if row["split"] == split and row["id"] in rows]
        listed = [row for row in listed if store.entries[rows[row["id"]]].label_file is not None]
        predicted = [np.load(run / row["file"], allow_pickle=False) for row in listed]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: the predicted parts cannot be read ({error}). Make them with: medssl finetune"
        ) from error
    if not listed:
        raise DataError(f"{path}: no cloud with labelled points is in the split '{split}'. Choose another: split=NAME.")
    truths = [np.asarray(store.labels(rows[row["id"]])) for row in listed]
    for row, truth, found in zip(listed, truths, predicted, strict=True):
        if truth.shape != found.shape:
            raise DataError(
                f"{run / row['file']}: holds parts of {len(found)} points; cloud {row['id']!r} of {store.folder} has "
                f"{len(truth)}. Score a run on the store that it was fitted on."
            )
    classes = tuple(row["class"] for row in listed)
    counts = [[int(((t == p) & (t >= 0)).sum()), int((t >= 0).sum())] for t, p in zip(truths, predicted, strict=True)]
    return _Parts(
        scores=part_scores(truths, predicted, classes, parts_of),
        ids=tuple(row["id"] for row in listed),
        patients=tuple(row["patient"] or row["id"] for row in listed),
        classes=classes,
        files={row["id"]: row["file"] for row in listed},
        points=np.array(counts),
    )


def _majority(found: _Parts, store: CloudStore, parts_of: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return what is scored by giving every point the part that most points of its class have, where not tested on."""
    tested = set(found.ids)
    counts: dict[str, Counter[int]] = {}
    truths: dict[str, npt.NDArray[np.int64]] = {}
    for row, entry in enumerate(store.entries):
        if entry.label_file is None:
            continue
        truth = np.asarray(store.labels(row), dtype=np.int64)
        if entry.id in tested:
            truths[entry.id] = truth
        else:
            name = "" if entry.label is None else store.classes.get(entry.label, str(entry.label))
            values, numbers = np.unique(truth[truth >= 0], return_counts=True)
            counts.setdefault(name, Counter()).update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    if any(name not in counts for name in found.classes):
        return {}
    most = {name: own.most_common(1)[0][0] for name, own in counts.items()}
    own = [truths[one] for one in found.ids]
    guessed = [np.full_like(truth, most[name]) for truth, name in zip(own, found.classes, strict=True)]
    scores = part_scores(own, guessed, found.classes, parts_of)
    return dict(zip(PART_METRICS, (scores.instance_miou, scores.class_miou, scores.accuracy), strict=True))


def _examples(scored: Mapping[str, _Parts], runs: Mapping[str, Path], store: CloudStore) -> list[PartExample]:
    """Return the first run's best, middle and worst cloud of those that all have, and what each run says of them."""
    first = next(iter(scored.values()))
    shared = [place for place, one in enumerate(first.ids) if all(one in found.files for found in scored.values())]
    order = sorted(shared, key=lambda place: -first.scores.shapes[place])
    chosen = dict.fromkeys(order[place] for place in (0, len(order) // 2, -1))
    rows = {entry.id: row for row, entry in enumerate(store.entries)}
    examples = []
    for place in chosen:
        one = first.ids[place]
        examples.append(
            PartExample(
                title=f"{first.classes[place] or 'cloud'}, IoU {first.scores.shapes[place]:.2f}",
                points=store.points(rows[one]),
                truth=np.asarray(store.labels(rows[one])),
                predicted={
                    name: np.load(runs[name] / found.files[one], allow_pickle=False) for name, found in scored.items()
                },
            )
        )
    return examples


def _parts_of(store: CloudStore) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for row, entry in enumerate(store.entries):
        if entry.label_file is not None:
            name = "" if entry.label is None else store.classes.get(entry.label, str(entry.label))
            found.setdefault(name, set()).update(int(v) for v in np.unique(store.labels(row)) if v >= 0)
    return {name: tuple(sorted(parts)) for name, parts in found.items()}
