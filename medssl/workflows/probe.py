"""The probe protocol of ``medssl evaluate``: what frozen encoders know of classes, against random ones of their shape.

Scans and clouds take the same way: every encoder meets the same labelled patients, nested in a draw, and the same test
patients. What a probe chooses it chooses on the labelled training patients alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.domains.domain import Features, Probed
from medssl.evaluation.calibration import Decision
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.few_label import MAJORITY
from medssl.evaluation.few_shot import FewShot, few_shot, tasks_of
from medssl.evaluation.label_sets import LabelSets
from medssl.evaluation.metrics import CLASS_METRICS
from medssl.evaluation.probes import PROBES, class_probe
from medssl.evaluation.score_table import ScoreTable
from medssl.workflows import events
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.arms import report_command, same_command
from medssl.workflows.evaluate_settings import EvaluateSettings, ProbeSettings
from medssl.workflows.frozen import RANDOM, Frozen, Source, frozen_of
from medssl.workflows.labelled import label_sets_of, train_and_test
from medssl.workflows.progress import Progress
from medssl.workflows.score_files import Scored

__all__ = ["probe"]


def probe(runs: Sequence[Path], *, data: Path, out: Path, settings: EvaluateSettings, dry_run: bool = False) -> Scored:
    """Read classes off the frozen encoders of runs and of random encoders of the same shape.

    Args:
        runs: Pretraining runs of one architecture; METHOD-seed0, METHOD-seed1, ... are taken together. "random" and
            "random-N" that are no folders are left out: random encoders are always there.
        data: A store with classes and a split into train and test.
        out: Folder of the comparison: probe.json, probe.csv, probe.png.
        settings: Settings of the verb.
        dry_run: Only say what would be done.

    Raises:
        ConfigError: A setting is wrong, or the runs differ in architecture.
        CheckpointError: A run has no finished encoder.
        DataError: The store lacks classes, a test split or enough patients.
    """
    own, split = settings.probe, settings.split or "test"
    frozen = frozen_of(
        runs,
        data,
        random=own.random,
        windows=own.scans.window is None and own.points is None,
        protocol="probe",
        taken=(MAJORITY,),
    )
    runs, domain, store, card = frozen.runs, frozen.domain, frozen.store, frozen.card
    asked = domain.probed(store, own, card)
    train, test = train_and_test(
        store,
        asked.class_of,
        split=split,
        protocol="probe",
        wanted=f"{domain.noun}s of known class",
        splits=own.fit_splits,
    )
    sets = label_sets_of(train.entries, asked.class_of, own, shares=False)
    parts = [asked.samples(part) for part in (train, test)]
    patients = [len(set(part.patients())) for part in parts]
    owner = domain.owner if len(parts[1]) == patients[1] else "patient"
    events.message(
        f"{asked.asked} ({', '.join(asked.classes)}) off the frozen encoders of {', '.join(frozen.pretrained)} "
        f"and {own.random} random ones; n = {', '.join(map(str, sets.sizes))} of {patients[0]} labelled {owner}s, "
        f"{sets.draws} draws; {len(parts[1])} test cases of {patients[1]} {owner}s"
    )
    if dry_run:
        return events.written(Scored(next=same_command(runs, data, out, settings, "probe")))

    cells: list[ScoreTable] = []
    chosen: list[dict[str, object]] = []
    few_shots: dict[str, list[FewShot]] = {}
    lacking: set[int] = set()
    with events.progress(len(frozen.sources) * sum(map(len, parts)), "samples embedded") as bar:
        for source in frozen.sources:
            name = source.arm
            labelled, tested = _embedded(frozen, asked, parts, source, bar)
            for how in own.how:
                for n, draw, rows in _drawn(labelled, sets):
                    truth = labelled.truth[rows]
                    fit = class_probe(
                        labelled.of_draw(draw)[rows],
                        truth,
                        [labelled.patients[row] for row in rows],
                        tested.of_draw(draw),
                        how=how,
                        classes=len(asked.classes),
                        seed=own.seed,
                    )
                    lacking |= {n} if len(np.unique(truth)) < len(asked.classes) else set()
                    said = _cases(tested, fit.probability, fit.predicted, asked.classes)
                    cells.append(ScoreTable.of_classes(said, run=name).as_run(name, how=how, labels=n, draw=draw))
                    chosen.append(
                        {"arm": name, "how": how, "n": n, "draw": draw, "value": fit.chosen, "folds": fit.folds}
                    )
            few_shots[name], left = _few_shot(labelled, tested, own)
    for line in left:
        events.warning(line)
    _say_points(labelled, sets, owner)
    if lacking:
        sizes = ", ".join(map(str, sorted(lacking)))
        events.warning(f"with {sizes} labelled {owner}s some draws lack classes, so these are never predicted")
    cells += _always_the_most_frequent(labelled, tested, sets, own, asked.classes)
    _show_few_shot(few_shots)
    return write_arms(
        ScoreTable.joined(cells),
        out,
        name="probe",
        kind="classification",
        baseline=RANDOM,
        against="random encoders of the same shape",
        metric=own.metric,
        metrics=CLASS_METRICS,
        level=settings.level,
        unit=owner,
        overlap=sets.overlap(distinct=True),
        content={
            "target": asked.asked,
            "classes": asked.classes,
            "split": split,
            "probes": {how: PROBES[how] for how in own.how},
            "few_shot": few_shots,
            "settings": own.model_dump(mode="json"),
            "chosen": chosen,
        },
        then=report_command(runs, out),
    )


def _embedded(
    frozen: Frozen, asked: Probed, parts: Sequence[Any], source: Source, bar: Progress
) -> tuple[Features, Features]:
    """Return what one encoder makes of the labelled and test samples."""
    encoder = frozen.encoder(source)
    labelled, tested = (asked.features(encoder, source.card, part, bar.advance) for part in parts)
    if labelled.note:
        events.message(f"{source.arm}: {labelled.note}")
    return labelled, tested


def _drawn(labelled: Features, sets: LabelSets) -> list[tuple[int, int, np.ndarray]]:
    """Return number, draw and labelled rows.

    A draw of the same patients as another is left out. Where all draws are of the same patients and points are drawn,
    the draws that are left are of points alone.
    """
    owners = np.array(labelled.patients)
    return [
        (n, draw, np.flatnonzero(np.isin(owners, sets.patients(n, draw))))
        for n in sets.sizes
        for draw in (range(sets.draws) if _points_alone(labelled, sets, n) else sets.different(n))
    ]


def _say_points(labelled: Features, sets: LabelSets, owner: str) -> None:
    if not labelled.again:
        return
    alone = ", ".join(str(n) for n in sets.sizes if _points_alone(labelled, sets, n))
    only = f"; with {alone} labelled, where all draws are of the same {owner}s, they are of points alone"
    events.message(f"each draw of labelled {owner}s takes other points of every cloud{only if alone else ''}")


def _points_alone(labelled: Features, sets: LabelSets, n: int) -> bool:
    return bool(labelled.again) and len(sets.different(n)) == 1


def _cases(
    tested: Features, probability: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> ClassPredictions:
    decision = Decision(threshold=0.5 if len(classes) == 2 else None)
    return ClassPredictions(
        tested.keys, tested.patients, tested.truth, probability, predicted, tuple(classes)
    ).by_patient(decision)


def _always_the_most_frequent(
    labelled: Features, tested: Features, sets: LabelSets, own: ProbeSettings, classes: Sequence[str]
) -> list[ScoreTable]:
    """Return the scores of naming the most frequent class of the labelled items, whatever is asked."""
    found = []
    for n, draw, rows in _drawn(labelled, sets):
        shares = np.bincount(labelled.truth[rows], minlength=len(classes)) / len(rows)
        probability = np.tile(shares, (len(tested.truth), 1))
        said = _cases(tested, probability, np.full(len(tested.truth), int(shares.argmax())), classes)
        table = ScoreTable.of_classes(said, run=MAJORITY)
        found += [table.as_run(MAJORITY, how=how, labels=n, draw=draw) for how in own.how]
    return found


def _few_shot(labelled: Features, tested: Features, own: ProbeSettings) -> tuple[list[FewShot], list[str]]:
    """Return the tasks that the classes allow, the same of every encoder; and what is said of the others."""
    allowed, left = tasks_of(own.few_shot, labelled.truth.tolist(), tested.truth.tolist())
    return [
        few_shot(
            labelled.vectors,
            labelled.truth.tolist(),
            tested.vectors,
            tested.truth.tolist(),
            ways=ways,
            shots=shots,
            draws=own.tasks,
            seed=own.seed,
        )
        for ways, shots in allowed
    ], left


def _show_few_shot(found: Mapping[str, Sequence[FewShot]]) -> None:
    tasks = next(iter(found.values()))
    if tasks:
        events.table(
            f"Few-shot accuracy, mean and SD over {tasks[0].draws} tasks",
            ["encoder", *(f"{t.ways}-way {t.shots}-shot" for t in tasks)],
            [[name, *(f"{t.mean:.3f} ({t.spread:.3f})" for t in own)] for name, own in found.items()],
            key="few_shot",
        )
