"""``medssl evaluate --protocol probe`` on scans: what frozen encoders know, against random ones of their shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medssl.encoders.contract import Encoder
from medssl.encoders.table import build_encoder
from medssl.engine.card import load_card, load_encoder
from medssl.errors import ConfigError
from medssl.evaluation.calibration import Decision
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_probes import CLASS_PROBES, class_probe
from medssl.evaluation.label_sets import LabelSets
from medssl.evaluation.metrics import CLASS_METRICS
from medssl.evaluation.score_table import ScoreTable
from medssl.quoting import quoted
from medssl.store.normalised import normalised_as
from medssl.store.read import Store
from medssl.tasks.class_features import ClassFeatures, class_features
from medssl.tasks.class_samples import class_names, class_of_scan, samples_of
from medssl.tasks.class_settings import ClassificationSettings
from pipelines import console
from pipelines.arm_tables import write_arms
from pipelines.arms import arms_of, check_same
from pipelines.evaluate_settings import EvaluateSettings, ScanProbeSettings
from pipelines.finetune_settings import fresh_weights
from pipelines.labelled import label_sets_of, train_and_test
from pipelines.score_files import Scored
from pipelines.store_channels import same_channels

__all__ = ["RANDOM", "probe_scans"]

RANDOM = "random"


def probe_scans(
    runs: Sequence[Path], *, data: Path, out: Path, settings: EvaluateSettings, dry_run: bool = False
) -> Scored:
    """Read classes off the frozen encoders of runs and of random encoders of the same shape.

    Every encoder meets the same labelled patients, nested in a draw, and the same test patients. What a probe chooses
    it chooses on the labelled training patients alone.

    Args:
        runs: Pretraining runs of one architecture; METHOD-seed0, METHOD-seed1, ... are taken together. "random" and
            "random-N" that are no folders are left out: random encoders are always there.
        data: A store with targets, or with label maps, and a split into train and test.
        out: Folder of the comparison: probe.json, probe.csv, probe.png.
        settings: Settings of the verb.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError: A setting is wrong, or the runs differ in architecture.
        CheckpointError: A run has no finished encoder.
        DataError: The store lacks classes, a test split or enough patients.
    """
    own, split = settings.probe.scans, settings.split or "test"
    runs = [run for run in runs if run.is_dir() or not re.fullmatch(rf"{RANDOM}(-\d+)?", run.name)]
    if not runs:
        raise ConfigError("A probe needs a pretraining run; random encoders are compared with it by themselves.")
    if load_card(runs[0]).kind == "cloud":
        raise ConfigError(f"{runs[0]} is an encoder of clouds: it takes a store of clouds, and {data} holds none.")
    check_same(runs, windows=own.window is None)
    arms = list(arms_of(runs, RANDOM))[1:]
    if any(name == RANDOM or name.startswith(f"{RANDOM}-seed") for name in arms):
        raise ConfigError(f"A run is called '{RANDOM}', as the random encoders are. Rename its folder.")
    store = Store.open(data)
    for folder in runs:
        same_channels(load_card(folder), store, run=folder)
    looked = _looked_at(own, runs[0])
    classes = class_names(store, looked, group="probe.scans")
    train, test = train_and_test(store, lambda e: class_of_scan(e, looked), split=split, protocol="probe")
    sets = label_sets_of(
        train.entries, lambda e: class_of_scan(e, looked), sizes=own.sizes, shares=() if own.sizes else own.shares,
        subsets=own.subsets, draws=own.draws, seed=own.draw_seed,
    )  # fmt: skip
    parts = [samples_of(part, looked, classes).known() for part in (train, test)]
    what = own.target or f"whether a {'slice' if own.level == 'slice' else 'scan'} shows structure {own.shows}"
    patients = [len(set(part.patients())) for part in parts]
    console.say(
        f"{what} ({', '.join(classes)}) off the frozen encoders of {', '.join(arms)} and {own.random} random ones; "
        f"n = {', '.join(map(str, sets.sizes))} of {patients[0]} labelled patients, {sets.draws} draws; "
        f"{len(parts[1])} test cases of {patients[1]} patients"
    )
    if dry_run:
        console.done(
            None, f"medssl evaluate {quoted(runs[0])} --data {quoted(data)} --protocol probe --out {quoted(out)}"
        )
        return Scored()

    cells: list[ScoreTable] = []
    chosen: list[dict[str, object]] = []
    sources: list[tuple[str, Path | None, int]] = [(name, run, 0) for name, run in zip(arms, runs, strict=True)]
    sources += [(f"{RANDOM}-seed{seed}", None, seed) for seed in range(own.random)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with console.progress(len(sources) * sum(map(len, parts)), "samples embedded") as bar:
        for name, run, seed in sources:
            encoder = load_encoder(run) if run is not None else _random_encoder(runs[0], seed)
            seen = load_card(run or runs[0]).inputs_known
            labelled, tested = (
                class_features(encoder, replace(part, store=normalised_as(part.store, seen)), looked,
                               levels=own.levels, batch_size=own.batch_size, device=device, progress=bar.advance)
                for part in parts
            )  # fmt: skip
            for how in own.how:
                found, values = _probed(name, how, labelled, tested, sets, classes)
                cells += found
                chosen += values
    return write_arms(
        ScoreTable.joined(cells), out, name="probe", kind="classification", baseline=RANDOM,
        against="random encoders of the same shape", metric=own.metric, metrics=CLASS_METRICS, level=settings.level,
        unit="patient", overlap=sets.overlap(distinct=True),
        content={"target": what, "classes": classes, "split": split, "probes": {h: CLASS_PROBES[h] for h in own.how},
                 "settings": own.model_dump(mode="json"), "chosen": chosen},
        then=f"medssl report {quoted(*runs, out)}",
    )  # fmt: skip


def _looked_at(own: ScanProbeSettings, run: Path) -> ClassificationSettings:
    """Return how a classifier would look at the scans."""
    window = own.window or load_card(run).window
    if window is None:
        raise ConfigError(f"{run}: its card names no window. Set one with probe.scans.window=[z,y,x].")
    return ClassificationSettings(
        target=own.target, shows=own.shows, classes=own.classes, level=own.level, window=window, fit=own.fit
    )


def _random_encoder(run: Path, seed: int) -> Encoder:
    """Return an encoder of a run's architecture with fresh weights."""
    with fresh_weights(seed):
        return build_encoder(load_card(run).encoder)


def _probed(
    arm: str, how: str, labelled: ClassFeatures, tested: ClassFeatures, sets: LabelSets, classes: Sequence[str]
) -> tuple[list[ScoreTable], list[dict[str, object]]]:
    """Fit one probe at every size and draw; a draw of the same patients as another is left out."""
    cells, chosen = [], []
    owners = np.array(labelled.patients)
    decision = Decision(threshold=0.5 if len(classes) == 2 else None)
    for n in sets.sizes:
        for draw in sets.different(n):
            rows = np.flatnonzero(np.isin(owners, sets.patients(n, draw)))
            fit = class_probe(
                labelled.vectors[rows], labelled.truth[rows], owners[rows].tolist(), tested.vectors, how=how,
                classes=len(classes),
            )  # fmt: skip
            cases = ClassPredictions(
                tested.keys, tested.patients, tested.truth, fit.probability, decision.predicted(fit.probability),
                tuple(classes),
            ).by_patient(decision)  # fmt: skip
            cells.append(ScoreTable.of_classes(cases, run=arm, how=how, labels=n, draw=draw))
            chosen.append({"arm": arm, "how": how, "n": n, "draw": draw, "value": fit.chosen, "folds": fit.folds})
    return cells, chosen
