"""What protocols that fit nothing share: places of items, with what every arm knows of each.

Blocks (position, hand-made features, each level of an encoder) are standardised on training items and divided by the
root of their channels, so that a distance weighs them alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.domains.dense import Dense, Look, Values
from medssl.evaluation.dense_probe import Scales
from medssl.randomness import numpy_generator
from medssl.workflows import events
from medssl.workflows.arms import same_command
from medssl.workflows.evaluate_settings import EvaluateSettings, PlaceSettings
from medssl.workflows.frozen import RANDOM, Frozen, frozen_of
from medssl.workflows.labelled import patient_of, train_and_test
from medssl.workflows.progress import Progress
from medssl.workflows.score_files import Scored

__all__ = [
    "HANDMADE",
    "PLACED",
    "POSITION",
    "Described",
    "PlaceReader",
    "arm_words",
    "looked_at",
    "opened",
    "questions",
]

POSITION = "position"
HANDMADE = "handmade"
PLACED = "placed"
_DRAWN = 14  # a counter that keeps these draws apart from all others
_FITTED = 8  # training items that the scales are of


@dataclass(frozen=True, kw_only=True)
class Described:
    """Places of one item; R of them, drawn evenly.

    Attributes:
        item: Its id.
        patient: Its patient.
        labels: (R,), structures by number.
        place_mm: (R, 3).
        arms: What each arm knows of each place, (R, D).
        whole_labels: Of all places of the item, (P,).
        whole_mm: (P, 3).
    """

    item: str
    patient: str
    labels: npt.NDArray[np.int64]
    place_mm: Values
    arms: Mapping[str, Values]
    whole_labels: npt.NDArray[np.int64]
    whole_mm: Values


def looked_at(frozen: Frozen, dense: Dense, store: Any, index: int) -> list[dict[str, Look]]:
    """Return the looks at an item, each as every encoder's input; encoders whose input is alike share them."""
    found: dict[str, list[Look]] = {}
    for place, source in enumerate(frozen.sources):
        before = frozen.sources[:place]
        same = next((o.arm for o in before if o.card.inputs_known == source.card.inputs_known), None)
        found[source.arm] = found[same] if same is not None else list(dense.looks(store, index, source.card))
    return [dict(zip(found, looks, strict=True)) for looks in zip(*found.values(), strict=True)]


class PlaceReader:
    """Reads places of items.

    Args:
        frozen: The encoders.
        dense: How items are looked at.
        own: How many places.
        train: Items that the scales are fitted on.
    """

    def __init__(self, frozen: Frozen, dense: Dense, own: PlaceSettings, train: Any) -> None:
        self._frozen, self._dense, self._own = frozen, dense, own
        self._encoders = {source.arm: frozen.encoder(source) for source in frozen.sources}
        some = [self._read(train, index)[1] for index in range(min(_FITTED, len(train.entries)))]
        self._scales = {
            name: [Scales.of([np.concatenate(parts)]) for parts in zip(*(blocks[name] for blocks in some), strict=True)]
            for name in some[0]
        }

    def described(self, store: Any, index: int) -> Described:
        """Return the places of an item."""
        looks, blocks = self._read(store, index)
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
        labels, places = (np.concatenate([part[i] for part in looks]) for i in (0, 1))
        whole = [np.concatenate([part[i] for part in looks]) for i in (2, 3)]
        return Described(
            item=entry.id,
            patient=patient_of(entry),
            labels=labels,
            place_mm=places,
            whole_labels=whole[0],
            arms={name: np.concatenate(own, axis=1) for name, own in arms.items()},
            whole_mm=whole[1],
        )

    def all(self, store: Any, bar: Progress) -> Iterator[Described]:
        """Return the places of every item."""
        for index, entry in enumerate(store.entries):
            yield self.described(store, index)
            bar.advance(note=entry.id)

    def _read(self, store: Any, index: int) -> tuple[list[tuple[Any, ...]], dict[str, list[Values]]]:
        """Return labels and places in mm of each look, drawn and whole, and every block of the drawn ones."""
        every = looked_at(self._frozen, self._dense, store, index)
        blocks: dict[str, list[list[Values]]] = {}
        looks = []
        for number, shown in enumerate(every):
            look = next(iter(shown.values()))
            known = np.flatnonzero(look.labels >= 0)
            if not len(known):
                continue
            some = max(20, self._own.places // len(every))
            draw = numpy_generator(self._own.seed, index, number, _DRAWN)
            rows = known if len(known) <= some else np.sort(draw.choice(known, some, replace=False))
            looks.append((look.labels[rows], look.place_mm[rows], look.labels[known], look.place_mm[known]))
            found = {POSITION: [look.position[rows]], HANDMADE: [self._dense.plain(look)[rows]]}
            for arm, encoder in self._encoders.items():
                found[arm] = list(self._dense.at(self._dense.pyramid(encoder, shown[arm]), shown[arm], rows))
            for name, own in found.items():
                blocks.setdefault(name, []).append(own)
        return looks, {n: [np.concatenate(level) for level in zip(*own, strict=True)] for n, own in blocks.items()}


def opened(
    runs: Sequence[Path],
    *,
    data: Path,
    out: Path,
    settings: EvaluateSettings,
    own: PlaceSettings,
    protocol: str,
    dry_run: bool,
) -> tuple[Frozen, Dense, Any, Any] | Scored:
    """Open what a protocol needs and say what it will do; of a dry run return its end.

    Raises:
        ConfigError: A setting is wrong, or the runs differ in architecture.
        CheckpointError: A run has no finished encoder.
        DataError: The store lacks labels or a test split.
    """
    windows = own.window is None and own.points is None
    taken = (POSITION, HANDMADE, "affine", "deformable")
    frozen = frozen_of(runs, data, random=own.random, windows=windows, protocol=protocol, taken=taken)
    noun, dense = frozen.domain.noun, frozen.domain.dense(frozen.store, own, frozen.card)
    train, test = train_and_test(
        frozen.store, dense.class_of, split=settings.split or "test", protocol=protocol, wanted=f"{noun}s with labels"
    )
    events.message(
        f"{protocol}: {', '.join(dense.names.values())}; {dense.seen}, {own.places} {dense.place}s of each; frozen "
        f"encoders of {', '.join(frozen.pretrained)} and {own.random} random ones; {len(train.entries)} training and "
        f"{len(test.entries)} test {noun}s"
    )
    if dry_run:
        return events.written(Scored(next=same_command(frozen.runs, data, out, settings, protocol)))
    return frozen, dense, train, test


def arm_words(frozen: Frozen) -> dict[str, str]:
    """Return what the arms of these protocols are, in words, for a summary and a report."""
    found = {
        POSITION: "the place alone",
        HANDMADE: "values (of clouds the surface) at several scales, no network",
        f"{HANDMADE}-{PLACED}": "the same with position",
        f"{RANDOM}-{PLACED}": "an encoder that was never trained, with position",
        "affine": "SimpleITK's affine registration",
        "deformable": "SimpleITK's affine and B-spline registration",
        "anyone": "all training patients alike",
    }
    methods = dict.fromkeys(arm.partition("-seed")[0] for arm in frozen.pretrained)
    return found | {f"{method}-{PLACED}": f"the encoder of {method} with position" for method in methods}


def questions(frozen: Frozen, *others: str) -> dict[tuple[str, str], str]:
    """Return the comparisons of a protocol and what changes in each: never pretraining over random weights alone."""
    pairs = {}
    for method in dict.fromkeys(arm.partition("-seed")[0] for arm in frozen.pretrained):
        pairs[method, RANDOM] = f"pretraining ({method})"
        for other in (f"{HANDMADE}-{PLACED}", *others):
            pairs[f"{method}-{PLACED}", other] = f"a pretrained encoder ({method}) with position"
    return pairs
