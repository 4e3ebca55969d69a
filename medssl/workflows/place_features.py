"""What protocols that fit nothing share: places of items, with what every arm knows of each.

Blocks (position, hand-made features, each level of an encoder) are standardised on training items and divided by the
root of their channels, so that a distance weighs them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.domains.dense import Dense, Sample, Values
from medssl.evaluation.dense_probe import Scales
from medssl.randomness import counter_of, numpy_generator
from medssl.reporting.prose import counted
from medssl.workflows import events
from medssl.workflows.evaluate_settings import DrawSettings
from medssl.workflows.frozen import RANDOM, Frozen
from medssl.workflows.labelled import label_sets_of, patient_of
from medssl.workflows.place_study import Found, PlaceProtocol, Study
from medssl.workflows.places_shown import few_of
from medssl.workflows.progress import Progress

__all__ = [
    "HANDMADE",
    "PLACED",
    "POSITION",
    "TAKEN",
    "AskedFrom",
    "Described",
    "PlaceReader",
    "arm_words",
    "asking",
    "methods_of",
    "questions",
    "samples_of",
]

POSITION = "position"
HANDMADE = "handmade"
PLACED = "placed"
TAKEN = (POSITION, HANDMADE, f"{HANDMADE}-{PLACED}")  # arms that no run may be called as
_DRAWN = 14  # a counter that keeps these draws apart from all others
_FITTED = 8  # training items that the scales are of


@dataclass(frozen=True, kw_only=True)
class Described:
    """Places of one item; R of them, drawn evenly.

    Attributes:
        row: Where it is in its store.
        item: Its id.
        patient: Its patient.
        labels: (R,), structures by number.
        place_mm: (R, 3).
        arms: What each arm knows of each place, (R, D).
        whole_labels: Of all places of the item, (P,).
        whole_mm: (P, 3).
    """

    row: int
    item: str
    patient: str
    labels: npt.NDArray[np.int64]
    place_mm: Values
    arms: Mapping[str, Values]
    whole_labels: npt.NDArray[np.int64]
    whole_mm: Values


def samples_of(frozen: Frozen, dense: Dense, store: Any, index: int) -> list[dict[str, Sample]]:
    """Return the samples of an item, each as every encoder's input; encoders whose input is alike share them."""
    found: dict[str, list[Sample]] = {}
    for place, source in enumerate(frozen.sources):
        before = frozen.sources[:place]
        same = next((o.arm for o in before if o.card.inputs_known == source.card.inputs_known), None)
        found[source.arm] = found[same] if same is not None else list(dense.samples(store, index, source.card))
    return [dict(zip(found, samples, strict=True)) for samples in zip(*found.values(), strict=True)]


class PlaceReader:
    """Reads places of items; scales are fitted on training items.

    Args:
        study: The encoders, the items, and how they are looked at.
    """

    def __init__(self, study: Study) -> None:
        self._frozen, self._dense, self._own = study.frozen, study.dense, study.own
        self._encoders = {source.arm: self._frozen.encoder(source) for source in self._frozen.sources}
        some: list[dict[str, list[Values]]] = []
        entries = study.train.entries
        for index in sorted(range(len(entries)), key=lambda row: entries[row].id):  # whatever the order of the store
            some += [blocks] if (blocks := self._read(study.train, index)[1]) else []
            if len(some) == _FITTED:
                break
        self._scales = {
            name: [Scales.of([np.concatenate(parts)]) for parts in zip(*(blocks[name] for blocks in some), strict=True)]
            for name in some[0]
        }

    def described(self, store: Any, index: int) -> Described | None:
        """Return the places of an item; None where none of those that are looked at has a known label."""
        samples, blocks = self._read(store, index)
        if not samples:
            return None
        scaled = {
            name: [scale.applied([block]) for scale, block in zip(self._scales[name], own, strict=True)]
            for name, own in blocks.items()
        }
        position, plain = scaled.pop(POSITION), scaled.pop(HANDMADE)
        arms = {POSITION: position, HANDMADE: plain, f"{HANDMADE}-{PLACED}": [*plain, *position]}
        for source in self._frozen.sources:
            arms[source.arm] = scaled[source.arm]
            arms[source.joined(PLACED)] = [*scaled[source.arm], *position]
        entry = store.entries[index]
        labels, places = (np.concatenate([part[i] for part in samples]) for i in (0, 1))
        whole = [np.concatenate([part[i] for part in samples]) for i in (2, 3)]
        return Described(
            row=index,
            item=entry.id,
            patient=patient_of(entry),
            labels=labels,
            place_mm=places,
            whole_labels=whole[0],
            arms={name: np.concatenate(own, axis=1) for name, own in arms.items()},
            whole_mm=whole[1],
        )

    def all(self, store: Any, bar: Progress) -> Iterator[Described]:
        """Return the places of every item; one without a known label among them is said to be left out."""
        for index, entry in enumerate(store.entries):
            found = self.described(store, index)
            bar.advance(note=entry.id)
            if found is None:
                events.warning(f"{entry.id} left out: none of its sampled {self._dense.place}s has a known label")
                continue
            yield found

    def _read(self, store: Any, index: int) -> tuple[list[tuple[Any, ...]], dict[str, list[Values]]]:
        """Return labels and places in mm of each sample, drawn and whole, and every block of the drawn ones."""
        every = samples_of(self._frozen, self._dense, store, index)
        blocks: dict[str, list[list[Values]]] = {}
        samples = []
        for number, shown in enumerate(every):
            sample = next(iter(shown.values()))
            known = np.flatnonzero(sample.labels >= 0)
            if not len(known):
                continue
            some = max(20, self._own.places // len(every))
            draw = numpy_generator(self._own.seed, counter_of(store.entries[index].id), number, _DRAWN)
            rows = known if len(known) <= some else np.sort(draw.choice(known, some, replace=False))
            samples.append((sample.labels[rows], sample.place_mm[rows], sample.labels[known], sample.place_mm[known]))
            found = {POSITION: [sample.position[rows]], HANDMADE: [self._dense.plain(sample)[rows]]}
            for arm, encoder in self._encoders.items():
                found[arm] = list(self._dense.at(self._dense.pyramid(encoder, shown[arm]), shown[arm], rows))
            for name, own in found.items():
                blocks.setdefault(name, []).append(own)
        return samples, {n: [np.concatenate(level) for level in zip(*own, strict=True)] for n, own in blocks.items()}


@dataclass(frozen=True)
class AskedFrom:
    """The training items that are asked from, one a draw.

    Attributes:
        items: Ids.
        overlap: What two draws have in common.
    """

    items: tuple[str, ...]
    overlap: dict[int, float]


def asked_from(study: Study) -> tuple[str, AskedFrom]:
    """Draw the training items that are asked from, of those that show a structure; and say so in words."""
    own = study.own
    drawn = DrawSettings(sizes=(1,), draws=own.draws, draw_seed=own.draw_seed)
    able = [entry for entry in study.train.entries if study.shown.of(entry.id)]
    sets = label_sets_of(able, study.dense.class_of, drawn)
    first = {patient_of(entry): entry.id for entry in sorted(able, key=lambda entry: entry.id, reverse=True)}
    items = tuple(first[sets.patients(1, draw)[0]] for draw in sets.different(1))
    words = f"{own.places} {study.dense.place}s of each; asked from {len(items)} of {len(first)} {study.owner}s"
    bare = len(study.train.entries) - len(able)
    words += f" ({counted(bare, study.noun)} without a structure left out)" if bare else ""
    lacking = {name: sum(name in study.shown.lacking([item]) for item in items) for name in study.dense.names.values()}
    some = [f"{name} ({times})" for name, times in lacking.items() if times]
    if some:
        words += f"; of these {len(items)} some lack {few_of(some)}"
    return words, AskedFrom(items, sets.overlap(distinct=True))


def asking(
    name: str,
    work: Callable[[Study, AskedFrom], Found],
    *,
    kind: str,
    metrics: tuple[str, ...],
    beside: str = "",
    taken: tuple[str, ...] = (),
    whole: bool = False,
) -> PlaceProtocol:
    """Return a protocol that asks one training patient a draw; see `PlaceProtocol`.

    Args:
        name: Its name.
        work: What it does.
        kind: What is looked for.
        metrics: Those that are measured.
        beside: What stands beside hand-made features, in words.
        taken: Arms of its own that no run may be called as.
        whole: Whether whole structures are measured.
    """
    return PlaceProtocol(
        name=name,
        kind=kind,
        metrics=metrics,
        against=f"random encoders; and, with position, against hand-made features{beside}",
        joined=(PLACED,),
        taken=(*TAKEN, *taken),
        plan=asked_from,
        work=work,
        whole=whole,
    )


def methods_of(frozen: Frozen) -> list[str]:
    """Return the arms of the runs, those of METHOD-seed0, METHOD-seed1, ... as one."""
    return list(dict.fromkeys(arm.partition("-seed")[0] for arm in frozen.pretrained))


def arm_words(frozen: Frozen) -> dict[str, str]:
    """Return what the arms of these protocols are, in words, for a summary and a report."""
    found = {
        POSITION: "the place alone",
        HANDMADE: "values (of clouds the surface) at several scales, no network",
        f"{HANDMADE}-{PLACED}": "the same with position",
        f"{RANDOM}-{PLACED}": "an encoder that was never trained, with position",
        "affine": "SimpleITK's affine registration, of the first channel",
        "deformable": "SimpleITK's affine and B-spline registration, of the first channel",
        "anyone": "all training patients alike",
    }
    return found | {f"{method}-{PLACED}": f"the encoder of {method} with position" for method in methods_of(frozen)}


def questions(frozen: Frozen, *others: str) -> dict[tuple[str, str], str]:
    """Return the comparisons of a protocol and what changes in each: never pretraining over random weights alone."""
    pairs = {}
    for method in methods_of(frozen):
        pairs[method, RANDOM] = f"pretraining ({method})"
        for other in (f"{HANDMADE}-{PLACED}", *others):
            pairs[f"{method}-{PLACED}", other] = f"a pretrained encoder ({method}) with position"
    return pairs
