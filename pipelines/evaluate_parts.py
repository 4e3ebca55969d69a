"""``medssl evaluate`` for part segmentation: mean IoU of the parts of clouds, with intervals and paired tests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.intervals import Interval
from medssl.evaluation.paired import PairedComparison, average_by_patient, holm, paired_comparison
from medssl.evaluation.part_summary import PART_METRICS, summarise_parts
from medssl.evaluation.parts import PART_DEFINITIONS, PartScores, part_scores
from medssl.evaluation.summary import as_json
from medssl.evaluation.wording import interval_text, p_text
from medssl.quoting import quoted
from medssl.reporting.words import counted_of, owner_of
from medssl.spreadsheet import rows_of_csv
from medssl.writing import written_aside
from pipelines import console
from pipelines.finetune_parts import PARTS
from pipelines.predict_command import predict_command
from pointcloud.part_examples import PartExample, draw_part_examples
from pointcloud.store import CloudStore

__all__ = ["PartComparison", "PartEvaluation", "evaluate_parts", "is_part_segmentation"]


@dataclass(frozen=True, kw_only=True)
class PartComparison:
    """The first run against another: mean IoU of the same clouds, by patient."""

    arm: str
    baseline: str
    result: PairedComparison
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class PartEvaluation:
    """What was found.

    Attributes:
        summaries: Metric -> score with its interval, for each run.
        by_class: Mean IoU of each class, for each run.
        comparisons: The first run against each of the others.
        summary: part_scores.json; None for a dry run.
    """

    summaries: Mapping[str, Mapping[str, Interval]]
    by_class: Mapping[str, Mapping[str, float]]
    comparisons: Sequence[PartComparison]
    summary: Path | None = None


@dataclass(frozen=True)
class _Scored:
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
) -> PartEvaluation:
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
        return PartEvaluation(summaries={}, by_class={}, comparisons=())
    summaries = {
        name: summarise_parts(found.scores, found.classes, found.patients, found.points, level=level)
        for name, found in scored.items()
    }
    comparisons = _compared(scored, level)
    counts = len(scored[first].ids), "cloud", len(set(scored[first].patients))
    owner = owner_of(*counts)
    console.table(
        f"{counted_of(*counts)} [{100 * level:g} % bootstrap interval over {owner}s]",
        ["run", *PART_METRICS],
        [[name, *(interval_text(found[metric]) for metric in PART_METRICS)] for name, found in summaries.items()],
        key="scores",
    )
    if comparisons:
        console.table(
            f"Mean IoU of shapes, paired by {owner} (Wilcoxon signed-rank, Holm over the table)",
            ["run", "against", "difference", "p", "p Holm"],
            [
                [c.arm, c.baseline, interval_text(c.result.mean, signed=True), p_text(c.result.p), p_text(c.p_holm)]
                for c in comparisons
            ],
            key="comparison_table",
        )
    for name, text in PART_DEFINITIONS.items():
        console.say(f"{name}: {text}")
    by_class = {name: found.scores.by_class for name, found in scored.items()}
    content: dict[str, Any] = {
        "kind": "parts",
        "split": split,
        "unit": owner,
        "definitions": PART_DEFINITIONS,
        "clouds": dict(sorted(Counter(scored[first].classes).items())),
        "parts": {str(part): store.parts.get(part, str(part)) for part in sorted({*chain(*parts_of.values())})},
        "runs": {
            name: {"scores": summaries[name], "by_class": by_class[name], "by_part": found.scores.by_part}
            for name, found in scored.items()
        },
        "comparisons": comparisons,
    }
    path = out / "part_scores.json"
    with written_aside(path) as aside:
        aside.write_text(json.dumps(as_json(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    picture = out / "part_examples.png"
    draw_part_examples(_examples(scored, runs, store), picture)
    console.done(
        [path, picture],
        f"medssl report {quoted(*dict.fromkeys([*runs.values(), out]))}",
        on_new=predict_command(next(iter(runs.values()))),
        scores=as_json(summaries),
        comparisons=as_json(comparisons),
    )
    return PartEvaluation(summaries=summaries, by_class=by_class, comparisons=comparisons, summary=path)


def _score(run: Path, store: CloudStore, parts_of: Mapping[str, Sequence[int]], split: str) -> _Scored:
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
    return _Scored(
        scores=part_scores(truths, predicted, classes, parts_of),
        ids=tuple(row["id"] for row in listed),
        patients=tuple(row["patient"] or row["id"] for row in listed),
        classes=classes,
        files={row["id"]: row["file"] for row in listed},
        points=np.array(counts),
    )


def _examples(scored: Mapping[str, _Scored], runs: Mapping[str, Path], store: CloudStore) -> list[PartExample]:
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


def _compared(scored: Mapping[str, _Scored], level: float) -> list[PartComparison]:
    first, *others = scored
    found = []
    for name in others:
        own, other = (
            dict(zip(scored[run].ids, scored[run].scores.shapes.tolist(), strict=True)) for run in (first, name)
        )
        shared = [(id_, p) for id_, p in zip(scored[name].ids, scored[name].patients, strict=True) if id_ in own]
        if not shared:
            raise DataError(f"Runs '{first}' and '{name}' share no cloud, so they cannot be compared.")
        differences = average_by_patient([p for _, p in shared], [own[i] - other[i] for i, _ in shared])
        found.append((name, paired_comparison(list(differences.values()), level=level)))
    corrected = holm({name: result.p for name, result in found})
    return [PartComparison(arm=first, baseline=name, result=result, p_holm=corrected[name]) for name, result in found]
