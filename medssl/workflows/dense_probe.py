"""The dense-probe protocol of ``medssl evaluate``: what frozen encoders know of structures, place by place.

Every arm is the same linear probe of other features: position alone, hand-made features with position, the levels of a
random encoder, of a pretrained one, and either joined with the hand-made ones. Two questions are asked of each method,
the first never alone: does pretraining beat random weights, and does it add to what needs no network?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.command import Command
from medssl.domains.dense import Dense, Look, Values
from medssl.evaluation.dense_probe import DenseFit, Overlaps, dense_probe, drawn_places, legendre, overlaps
from medssl.evaluation.label_sets import LabelSets
from medssl.evaluation.metrics import EMPTY_MASKS
from medssl.evaluation.score_table import ScoreTable
from medssl.randomness import numpy_generator
from medssl.workflows import events
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.arms import same_command
from medssl.workflows.evaluate_settings import DenseProbeSettings, EvaluateSettings
from medssl.workflows.frozen import RANDOM, Frozen, frozen_of
from medssl.workflows.labelled import label_sets_of, patient_of, train_and_test
from medssl.workflows.place_features import HANDMADE, POSITION, looked_at
from medssl.workflows.progress import Progress
from medssl.workflows.score_files import Scored

__all__ = ["JOINED", "TRIVIAL", "dense_probe_protocol"]

TRIVIAL = "trivial"
JOINED = "joined"
_PLACES = 12  # a counter that keeps these draws apart from all others
_CHUNK = 1 << 22  # logits that are held at once
_ARMS = {
    POSITION: "polynomials of the place, to degree 4",
    HANDMADE: "values (of clouds the surface) at several scales, and position",
    TRIVIAL: "of position and handmade the one with the higher Dice on the labelled patients, draw by draw",
}
Cell = tuple[int, int]  # labelled patients, draw


@dataclass(frozen=True)
class _Places:
    """Drawn places of labelled items: what is fitted.

    Attributes:
        blocks: Of "position" and "handmade" one block, of an encoder's arm one for each level.
        truth: 0 for background, else the structure's place in the order of names.
        weight: How many places each stands for.
        item, patient: Of each place.
    """

    blocks: dict[str, list[Values]]
    truth: npt.NDArray[np.int64]
    weight: Values
    item: npt.NDArray[np.str_]
    patient: npt.NDArray[np.str_]


@dataclass
class _Arm:
    """One arm: which blocks it sees, and its fits."""

    sees: tuple[str, ...]
    fits: dict[Cell, DenseFit] = field(default_factory=dict)


def dense_probe_protocol(
    runs: Sequence[Path], *, data: Path, out: Path, settings: EvaluateSettings, dry_run: bool = False
) -> Scored:
    """Read structures off the frozen encoders of runs, of random encoders, and off what needs no network.

    Args:
        runs: Pretraining runs of one architecture; METHOD-seed0, METHOD-seed1, ... are taken together.
        data: A store with label maps, or of clouds with labels of their points, split into train and test.
        out: Folder of the comparison: dense_probe.json, dense_probe.csv, dense_probe.png.
        settings: Settings of the verb.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError: A setting is wrong, or the runs differ in architecture.
        CheckpointError: A run has no finished encoder.
        DataError: The store lacks labels, a test split or enough patients.
    """
    own, split = settings.dense_probe, settings.split or "test"
    frozen = frozen_of(
        runs,
        data,
        random=own.random,
        windows=own.window is None and own.points is None,
        protocol="dense probe",
        taken=(POSITION, HANDMADE, TRIVIAL),
    )
    domain, dense = frozen.domain, frozen.domain.dense(frozen.store, own, frozen.card)
    train, test = train_and_test(
        frozen.store, dense.class_of, split=split, protocol="dense-probe", wanted=f"{domain.noun}s with labels"
    )
    sets = label_sets_of(train.entries, dense.class_of, own)
    patients = [len({patient_of(entry) for entry in part.entries}) for part in (train, test)]
    events.message(
        f"{', '.join(dense.names.values())}; {dense.seen}; frozen encoders of {', '.join(frozen.pretrained)} and "
        f"{own.random} random ones; n = {', '.join(map(str, sets.sizes))} of {patients[0]} labelled {domain.owner}s, "
        f"{sets.draws} draws; {len(test.entries)} test {domain.noun}s of {patients[1]} {domain.owner}s"
    )
    if dry_run:
        return events.written(Scored(next=same_command(frozen.runs, data, out, settings, "dense-probe")))
    drawn = {patient for n in sets.sizes for draw in sets.different(n) for patient in sets.patients(n, draw)}
    labelled = train.subset([entry.id for entry in train.entries if patient_of(entry) in drawn])
    encoders = {source.arm: frozen.encoder(source) for source in frozen.sources}
    with events.progress(len(labelled.entries) + len(test.entries), f"{domain.noun}s read") as bar:
        places = _places(frozen, dense, encoders, labelled, own, bar)
        arms = {POSITION: _Arm((POSITION,)), HANDMADE: _Arm((POSITION, HANDMADE))}
        for source in frozen.sources:
            arms[source.arm] = _Arm((source.arm,))
            arms[source.joined(JOINED)] = _Arm((POSITION, HANDMADE, source.arm))
        for arm in arms.values():
            _fit(arm, places, sets, structures=len(dense.names), seed=own.seed)
        counted = _counted(frozen, dense, encoders, test, arms, bar)
    chosen = {
        cell: max((POSITION, HANDMADE), key=lambda arm: arms[arm].fits[cell].dice) for cell in arms[POSITION].fits
    }
    rows = [
        _rows(name, cell, counted[name, cell], test.entries, dense) for name, arm in arms.items() for cell in arm.fits
    ]
    rows += [_rows(TRIVIAL, cell, counted[name, cell], test.entries, dense) for cell, name in chosen.items()]
    pairs = {}
    for method in dict.fromkeys(arm.partition("-seed")[0] for arm in frozen.pretrained):
        pairs[method, RANDOM] = f"pretraining ({method})"
        pairs[f"{method}-{JOINED}", TRIVIAL] = f"a pretrained encoder ({method}) beside hand-made features"
    arms_said = _ARMS | {
        arm: f"the levels of {arm.removesuffix(f'-{JOINED}')} beside handmade" for arm in _joined(frozen)
    }
    for name, said in arms_said.items():
        events.message(f"{name}: {said}")
    return write_arms(
        ScoreTable.joined(rows),
        out,
        name="dense_probe",
        kind="segmentation",
        baseline=RANDOM,
        against="random encoders; and, joined, against the best of what needs no network",
        metric="dice",
        metrics=["dice"],
        level=settings.level,
        unit=domain.owner,
        overlap=sets.overlap(distinct=True),
        pairs=pairs,
        content={
            "split": split,
            "seen": dense.seen,
            "arms": arms_said,
            "structures": list(dense.names.values()),
            "definitions": {"empty masks": EMPTY_MASKS},
            "settings": own.model_dump(mode="json"),
            "chosen": [
                {
                    "arm": name,
                    "n": n,
                    "draw": draw,
                    "penalty": fit.penalty,
                    "bias": fit.bias,
                    "dice": fit.dice,
                    "folds": fit.folds,
                }
                for name, arm in arms.items()
                for (n, draw), fit in arm.fits.items()
            ],
            "trivial": [{"n": n, "draw": draw, "arm": name} for (n, draw), name in chosen.items()],
        },
        then=Command("report", *frozen.runs, out),
    )


def _joined(frozen: Frozen) -> list[str]:
    """Return the arms that join an encoder's levels with hand-made features."""
    return list(dict.fromkeys(source.joined(JOINED).partition("-seed")[0] for source in frozen.sources))


def _blocks(
    dense: Dense, looks: Mapping[str, Look], pyramids: Mapping[str, Any], plain: Values, rows: npt.NDArray[np.int64]
) -> dict[str, list[Values]]:
    """Return all blocks of some places: position, hand-made features, and the levels of every encoder."""
    first = next(iter(looks.values()))
    found = {POSITION: [legendre(first.position[rows])], HANDMADE: [plain[rows]]}
    return found | {arm: list(dense.at(pyramid, looks[arm], rows)) for arm, pyramid in pyramids.items()}


def _places(
    frozen: Frozen,
    dense: Dense,
    encoders: Mapping[str, Any],
    store: Any,
    own: DenseProbeSettings,
    bar: Progress,
) -> _Places:
    """Draw places of labelled items, and return what every arm sees there."""
    order = _order(dense)
    blocks: dict[str, list[list[Values]]] = {}
    truth, weight, item, patient = [], [], [], []
    for index, entry in enumerate(store.entries):
        every = looked_at(frozen, dense, store, index)
        for number, looks in enumerate(every):
            look = next(iter(looks.values()))
            draw = numpy_generator(own.seed, index, number, _PLACES)
            rows, stands = drawn_places(look.labels, max(20, own.places // len(every)), draw)
            if not len(rows):
                continue
            pyramids = {arm: dense.pyramid(encoder, looks[arm]) for arm, encoder in encoders.items()}
            for name, found in _blocks(dense, looks, pyramids, dense.plain(look), rows).items():
                blocks.setdefault(name, []).append(found)
            truth.append(order[look.labels[rows]])
            weight.append(stands)
            item.append(np.full(len(rows), entry.id))
            patient.append(np.full(len(rows), patient_of(entry)))
        bar.advance(note=entry.id)
    joined = {name: [np.concatenate(level) for level in zip(*parts, strict=True)] for name, parts in blocks.items()}
    return _Places(joined, *(np.concatenate(part) for part in (truth, weight, item, patient)))


def _order(dense: Dense) -> npt.NDArray[np.int64]:
    """Return the table from structure numbers to 0 (background), 1, 2, ... in the order of names."""
    table = np.zeros(max(dense.names) + 1, np.int64)
    table[list(dense.names)] = np.arange(1, len(dense.names) + 1)
    return table


def _fit(arm: _Arm, places: _Places, sets: LabelSets, *, structures: int, seed: int) -> None:
    blocks = [block for name in arm.sees for block in places.blocks[name]]
    for n in sets.sizes:
        for draw in sets.different(n):
            rows = np.flatnonzero(np.isin(places.patient, sets.patients(n, draw)))
            arm.fits[n, draw] = dense_probe(
                [block[rows] for block in blocks],
                places.truth[rows],
                places.weight[rows],
                places.item[rows],
                places.patient[rows],
                structures=structures,
                seed=seed,
            )


def _counted(
    frozen: Frozen,
    dense: Dense,
    encoders: Mapping[str, Any],
    test: Any,
    arms: Mapping[str, _Arm],
    bar: Progress,
) -> dict[tuple[str, Cell], Overlaps]:
    """Predict every place of the test items with every fit, and count the overlaps."""
    structures, order = len(dense.names), _order(dense)
    cells = list(next(iter(arms.values())).fits)
    fitted = {
        name: (
            np.concatenate([arm.fits[cell].weight for cell in cells], axis=1),
            np.concatenate([arm.fits[cell].offset for cell in cells]),
        )
        for name, arm in arms.items()
    }
    sums = {(name, cell): np.zeros((3, len(test.entries), structures)) for name in arms for cell in cells}
    step = max(1, _CHUNK // (len(cells) * (structures + 1)))
    for index, entry in enumerate(test.entries):
        for looks in looked_at(frozen, dense, test, index):
            look = next(iter(looks.values()))
            pyramids = {arm: dense.pyramid(encoder, looks[arm]) for arm, encoder in encoders.items()}
            plain, known = dense.plain(look), np.flatnonzero(look.labels >= 0)
            for start in range(0, len(known), step):
                rows = known[start : start + step]
                blocks = _blocks(dense, looks, pyramids, plain, rows)
                truth, whole = order[look.labels[rows]], np.zeros(len(rows), np.int64)
                for name, arm in arms.items():
                    features = np.concatenate([block for sees in arm.sees for block in blocks[sees]], axis=1)
                    weight, offset = fitted[name]
                    named = (features @ weight + offset).reshape(len(rows), len(cells), -1).argmax(axis=2)
                    for place, cell in enumerate(cells):
                        found = overlaps(
                            named[:, place], truth, np.ones(len(rows)), whole, structures=structures, cases=1
                        )
                        sums[name, cell][:, index] += [found.both[0], found.truth[0], found.predicted[0]]
        bar.advance(note=entry.id)
    return {key: Overlaps(*found) for key, found in sums.items()}


def _rows(arm: str, cell: Cell, found: Overlaps, entries: Sequence[Any], dense: Dense) -> ScoreTable:
    """Return the Dice of every test item and structure."""
    dice, (n, draw) = found.dice(), cell

    def note(row: int, column: int) -> str:
        lacking = [
            name for name, of in (("truth", found.truth), ("prediction", found.predicted)) if not of[row, column]
        ]
        return {0: "", 1: lacking[0] if lacking else "", 2: "both"}[len(lacking)]

    return ScoreTable.of_rows(
        (arm, "", 0, draw, n, entry.id, patient_of(entry), name, "dice", float(dice[row, column]), note(row, column))
        for row, entry in enumerate(entries)
        for column, name in enumerate(dense.names.values())
    )
