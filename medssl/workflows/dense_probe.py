"""The dense-probe protocol of ``medssl evaluate``: what frozen encoders know of structures, place by place.

Every arm is the same linear probe of other features: position alone, hand-made features with position, the levels of a
random encoder, of a pretrained one, and either joined with the hand-made ones. Two questions are asked of each method,
the first never alone: does pretraining beat random weights, and does it add to what needs no network?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.domains.dense import Dense, Sample, Values
from medssl.errors import DataError
from medssl.evaluation.dense_probe import (
    DenseFit,
    Overlaps,
    dense_probe,
    dice_rows,
    drawn_places,
    in_order,
    legendre,
    overlaps,
)
from medssl.evaluation.label_sets import LabelSets
from medssl.evaluation.metrics import EMPTY_MASKS
from medssl.evaluation.score_table import ScoreTable
from medssl.randomness import counter_of, numpy_generator
from medssl.workflows import events
from medssl.workflows.evaluate_settings import DenseProbeSettings
from medssl.workflows.frozen import RANDOM, Frozen
from medssl.workflows.labelled import label_sets_of, patient_of
from medssl.workflows.place_features import HANDMADE, POSITION, methods_of, samples_of
from medssl.workflows.place_study import Found, PlaceProtocol, Study
from medssl.workflows.places_shown import few_of
from medssl.workflows.progress import Progress

__all__ = ["DENSE_PROBE", "JOINED", "TRIVIAL"]

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


def _planned(study: Study) -> tuple[str, LabelSets]:
    """Return what will be done, and the draws of labelled patients.

    Raises:
        DataError: There are too few patients, or no draw of a size shows a structure.
    """
    sets = label_sets_of(study.train.entries, study.dense.class_of, study.own)
    owners = len({patient_of(entry) for entry in study.train.entries})
    said = f"n = {', '.join(map(str, sets.sizes))} of {owners} labelled {study.owner}s, {sets.draws} draws"
    return said, _showing(study, sets)


def _showing(study: Study, sets: LabelSets) -> LabelSets:
    """Return the draws in which a structure is shown, and say which are left out and what others lack."""
    items: dict[str, list[str]] = {}
    for entry in study.train.entries:
        items.setdefault(patient_of(entry), []).append(entry.id)
    kept: dict[int, tuple[tuple[str, ...], ...]] = {}
    for n, draws in sets.sets.items():
        lacking = [study.shown.lacking(item for owner in draw for item in items[owner]) for draw in draws]
        bare = [place for place, names in enumerate(lacking) if len(names) == len(study.dense.names)]
        kept[n] = tuple(draw for place, draw in enumerate(draws) if place not in bare)
        if not kept[n]:
            raise DataError(
                f"dense_probe.sizes: in none of the {len(draws)} draws of {n} labelled {study.owner}s does one show a "
                "structure, so there is nothing to fit. Ask for more, or name them with dense_probe.subsets."
            )
        if bare:
            events.warning(
                f"n = {n}: left out {len(bare)} of {len(draws)} draws, because no patient in them shows a structure"
            )
        some = dict.fromkeys(name for place, names in enumerate(lacking) if place not in bare for name in names)
        if some:
            events.warning(f"n = {n}: some draws lack {few_of(list(some))}, so probes fitted on them never predict it")
    return LabelSets(kept)


def _found(study: Study, sets: LabelSets) -> Found:
    frozen, dense, own, test = study.frozen, study.dense, study.own, study.test
    drawn = {patient for n in sets.sizes for draw in sets.different(n) for patient in sets.patients(n, draw)}
    labelled = study.train.subset([entry.id for entry in study.train.entries if patient_of(entry) in drawn])
    encoders = {source.arm: frozen.encoder(source) for source in frozen.sources}
    with events.progress(len(labelled.entries) + len(test.entries), f"{study.noun}s read") as bar:
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
    owners, names = [(entry.id, patient_of(entry)) for entry in test.entries], list(dense.names.values())
    rows: list[tuple[object, ...]] = []
    for name, arm in arms.items():
        for n, draw in arm.fits:
            rows += dice_rows(counted[name, (n, draw)], owners, names, arm=name, labels=n, draw=draw)
    for (n, draw), name in chosen.items():
        rows += dice_rows(counted[name, (n, draw)], owners, names, arm=TRIVIAL, labels=n, draw=draw)
    pairs = {}
    for method in methods_of(frozen):
        pairs[method, RANDOM] = f"pretraining ({method})"
        pairs[f"{method}-{JOINED}", TRIVIAL] = f"a pretrained encoder ({method}) beside hand-made features"
    arms_said = _ARMS | {
        arm: f"the levels of {arm.removesuffix(f'-{JOINED}')} beside handmade" for arm in _joined(frozen)
    }
    for name, said in arms_said.items():
        events.message(f"{name}: {said}")
    fits = [(name, n, draw, fit) for name, arm in arms.items() for (n, draw), fit in arm.fits.items()]
    return Found(
        table=ScoreTable.of_rows(rows),
        metric="dice",
        overlap=sets.overlap(distinct=True),
        pairs=pairs,
        arms=arms_said,
        content={
            "structures": names,
            "definitions": {"empty masks": EMPTY_MASKS},
            "chosen": [{"arm": name, "n": n, "draw": draw, **fit.chosen} for name, n, draw, fit in fits],
            "trivial": [{"n": n, "draw": draw, "arm": name} for (n, draw), name in chosen.items()],
        },
    )


def _joined(frozen: Frozen) -> list[str]:
    """Return the arms that join an encoder's levels with hand-made features."""
    return list(dict.fromkeys(source.joined(JOINED).partition("-seed")[0] for source in frozen.sources))


def _blocks(
    dense: Dense, samples: Mapping[str, Sample], pyramids: Mapping[str, Any], plain: Values, rows: npt.NDArray[np.int64]
) -> dict[str, list[Values]]:
    """Return all blocks of some places: position, hand-made features, and the levels of every encoder."""
    first = next(iter(samples.values()))
    found = {POSITION: [legendre(first.position[rows])], HANDMADE: [plain[rows]]}
    return found | {arm: list(dense.at(pyramid, samples[arm], rows)) for arm, pyramid in pyramids.items()}


def _places(
    frozen: Frozen,
    dense: Dense,
    encoders: Mapping[str, Any],
    store: Any,
    own: DenseProbeSettings,
    bar: Progress,
) -> _Places:
    """Draw places of labelled items, and return what every arm sees there."""
    blocks: dict[str, list[list[Values]]] = {}
    truth, weight, item, patient = [], [], [], []
    for index, entry in enumerate(store.entries):
        every = samples_of(frozen, dense, store, index)
        for number, samples in enumerate(every):
            sample = next(iter(samples.values()))
            draw = numpy_generator(own.seed, counter_of(entry.id), number, _PLACES)
            rows, stands = drawn_places(sample.labels, max(20, own.places // len(every)), draw)
            if not len(rows):
                continue
            pyramids = {arm: dense.pyramid(encoder, samples[arm]) for arm, encoder in encoders.items()}
            for name, found in _blocks(dense, samples, pyramids, dense.plain(sample), rows).items():
                blocks.setdefault(name, []).append(found)
            truth.append(in_order(sample.labels[rows], dense.names))
            weight.append(stands)
            item.append(np.full(len(rows), entry.id))
            patient.append(np.full(len(rows), patient_of(entry)))
        bar.advance(note=entry.id)
    joined = {name: [np.concatenate(level) for level in zip(*parts, strict=True)] for name, parts in blocks.items()}
    return _Places(joined, *(np.concatenate(part) for part in (truth, weight, item, patient)))


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
    structures = len(dense.names)
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
        for samples in samples_of(frozen, dense, test, index):
            sample = next(iter(samples.values()))
            pyramids = {arm: dense.pyramid(encoder, samples[arm]) for arm, encoder in encoders.items()}
            plain, known = dense.plain(sample), np.flatnonzero(sample.labels >= 0)
            for start in range(0, len(known), step):
                rows = known[start : start + step]
                blocks = _blocks(dense, samples, pyramids, plain, rows)
                truth, whole = in_order(sample.labels[rows], dense.names), np.zeros(len(rows), np.int64)
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


DENSE_PROBE = PlaceProtocol(
    name="dense-probe",
    kind="segmentation",
    metrics=("dice",),
    against="random encoders; and, joined, against the best of what needs no network",
    joined=(JOINED,),
    taken=(POSITION, HANDMADE, TRIVIAL),
    plan=_planned,
    work=_found,
)
