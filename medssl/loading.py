"""Windows of a store as batches, in an order and at places that are a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, get_args

import numpy as np
import torch
from torch import Tensor

from medssl.errors import ConfigError, DataError
from medssl.normalising import input_row
from medssl.placement import Place, Placer
from medssl.randomness import numpy_generator
from medssl.step_loader import Order, StepLoader, patient_numbers
from medssl.store.entry import Entry
from medssl.store.read import Store
from medssl.windows import Apart, Relation, WindowBatch, WindowPlan

__all__ = ["WindowLoader", "channel_facts", "drop_channels", "held_out_batches"]

Triple = tuple[int, int, int]
# A fourth counter, never 0, keeps these draws apart from those of the views, which use (seed, step, slot).
_ORIGINS, _HELD_OUT = 1, 3  # 2 is the order's
_PAIRS, _DROPPED = 9, 10
_PLACEMENTS = ("body", "anywhere", "foreground")


class WindowLoader(StepLoader[WindowBatch]):
    """Batches of windows for a training run.

    Args:
        store: The scans.
        plan: Which windows to take.
        allowed: Scan id -> indices along ``plan.axis`` on which windows may be centred, such as the slices that a
            reduction kept. An epoch then goes through these places (one window a scan) or through the scans that
            have any ("partitions"). None allows every place of every scan.
        phases: Scan id -> phase in cycles, such as 0 and 0.4 for end diastole and end systole; for "frame".
        apart: "patients", or "slices" to give each place of ``allowed`` an item and a patient's number of its own, so
            that a contrast pushes the slices of a scan apart as training on loose slices does.
        drop: Probability with which a channel of a window is left out, as if the case lacked it; one always stays.
        pairs: Whether the two views of a contrast show a channel each.
        order: See `Order`; a row of the batch is a window, so that ``batch_size`` is a multiple of ``plan.count``.

    Raises:
        DataError: The store is empty, or the plan asks for labels that a scan does not have, or no place is allowed.
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        store: Store,
        plan: WindowPlan,
        *,
        allowed: Mapping[str, Sequence[int]] | None = None,
        phases: Mapping[str, float] | None = None,
        apart: Apart = "patients",
        drop: float = 0.0,
        pairs: bool = False,
        **order: Unpack[Order],
    ) -> None:
        _check(store, plan)
        if apart == "slices" and (allowed is None or plan.relation != "independent"):
            raise ConfigError(
                "Slices can be distinguished where a list of allowed slices is given and the method takes one window "
                "of a scan. Give the list, or leave patients apart."
            )
        indices = None if allowed is None else _allowed_places(store, plan, allowed)
        self._samples = _samples(plan, indices, len(store))
        if "groups" in order:  # of scans: each of their places is in its scan's
            order = {**order, "groups": [order["groups"][item] for item, _ in self._samples]}
        super().__init__(len(self._samples), rows_per_item=plan.count, **order)
        self.store, self.plan, self._apart = store, plan, apart
        self._drop, self._pairs = drop, pairs
        self._patients = patient_numbers(store)
        self._placer = Placer(store, plan, self._patients, phases=phases, allowed=indices)

    @property
    def numbers(self) -> int:
        """How many numbers ``item`` of a batch takes: scans, or places where each is an item of its own."""
        return self.count if self._apart == "slices" else len(self.store)

    def items(self, step: int) -> tuple[int, ...]:
        """Return the scans of this rank's part of a step's batch, one for each ``plan.count`` windows."""
        return tuple(self._samples[sample][0] for sample in super().items(step))

    def batch(self, step: int) -> WindowBatch:
        """Return this rank's part of the batch of a step."""
        count = self.plan.count
        places: list[Place] = []
        samples = super().items(step)
        for row, sample in enumerate(samples):
            item, index = self._samples[sample]
            slots = self.slots[row * count : (row + 1) * count]
            generators = [numpy_generator(self.seed, step, slot, _ORIGINS) for slot in slots]
            places += self._placer.places(item, generators, index=index)
        batch = _gather(self.store, self.plan, places, self.slots, self._patients)
        if self._drop:
            batch = drop_channels(batch, self._drop, seed=self.seed, step=step)
        if self._pairs:
            batch = _paired(batch, self.plan.count, (self.seed, step))
        if self._apart == "slices":
            own = _whole_numbers(samples)
            batch = replace(batch, item=own, patient=own)
        return batch


def held_out_batches(
    store: Store, plan: WindowPlan, batch_size: int, seed: int, *, pairs: bool = False
) -> list[WindowBatch]:
    """Return the plan's windows of every scan, the same at every call, in batches of nearly equal size.

    Args:
        store: The held-out scans.
        plan: Which windows to take.
        batch_size: Largest number of windows in a batch; all windows of a scan are in one.
        seed: Decides where the windows lie.
        pairs: Whether the two views of a contrast show a channel each.

    Raises:
        DataError: The store is empty, or the plan asks for labels that a scan does not have.
    """
    _check(store, plan)
    if batch_size < 1:
        raise ConfigError(f"batch_size must be 1 or more. Got {batch_size}.")
    patients = patient_numbers(store)
    placer, count = Placer(store, plan, patients), plan.count
    parts = np.array_split(np.arange(len(store)), -(-len(store) // max(batch_size // count, 1)))
    batches = []
    for part in parts:
        places: list[Place] = []
        for item in (int(item) for item in part):
            places += placer.places(item, [numpy_generator(seed, item, k, _HELD_OUT) for k in range(count)])
        slots = [int(item) * count + k for item in part for k in range(count)]
        batch = _gather(store, plan, places, slots, patients)
        batches.append(_paired(batch, count, (seed, 0)) if pairs else batch)
    return batches


def drop_channels(batch: Any, probability: float, *, seed: int, step: int) -> Any:
    """Return a batch of windows without some of its channels; a network so learns to bear that a case lacks one.

    Each channel that is there is left out with ``probability``, by itself; where none would stay, one drawn of them
    does. Draws depend on (seed, step, slot).

    Args:
        batch: A ``WindowBatch``.
        probability: In [0, 1).
        seed: The run's seed.
        step: The optimiser step.
    """
    there = torch.ones(len(batch), batch.channels, dtype=torch.bool) if batch.present is None else batch.present.clone()
    for row, slot in enumerate(batch.slot.tolist()):
        generator = numpy_generator(seed, step, slot, _DROPPED)
        candidates = there[row].nonzero().flatten().numpy()
        stay = generator.random(len(candidates)) >= probability
        last = int(generator.integers(len(candidates)))
        if not stay.any():
            stay[last] = True
        there[row, torch.from_numpy(candidates[~stay])] = False
    return replace(batch, present=there)


def channel_facts(entries: Sequence[Entry]) -> tuple[Tensor, Tensor | None]:
    """Return what a batch says of the channels of its cases: ``scale``, and ``present`` (B, C) or None."""
    there = [entry.present for entry in entries]
    rows = [[channel.scale for channel in e.channels] for e in entries]
    if any(channel.numbers is not None for e in entries for channel in e.channels):
        rows = [[input_row(channel.scale, channel.numbers) for channel in e.channels] for e in entries]  # type: ignore[misc]
    scale = torch.tensor(rows, dtype=torch.float32)
    return scale, None if all(map(all, there)) else torch.tensor(there)


def _paired(batch: WindowBatch, count: int, counters: tuple[int, int]) -> WindowBatch:
    """Return the batch with two channels drawn for the views of each row; the same for the windows of a scan.

    Two different ones of those that are there; a case that has one alone shows it twice.
    """
    pairs = []
    for row, slot in enumerate(batch.slot.tolist()):
        first = row - slot % count
        there = range(batch.channels) if batch.present is None else batch.present[first].nonzero().flatten().tolist()
        order = numpy_generator(*counters, slot - slot % count, _PAIRS).permutation(len(there))
        pairs.append([there[order[0]], there[order[-1]]])
    return replace(batch, pair=torch.tensor(pairs))


def _gather(
    store: Store,
    plan: WindowPlan,
    places: Sequence[Place],
    slots: Sequence[int],
    patients: Sequence[int],
) -> WindowBatch:
    items, origins = [place.item for place in places], [place.origin for place in places]
    values = np.empty((len(items), len(store.channels), *plan.size), dtype=np.int16)
    labels = np.empty((len(items), *plan.size), dtype=np.int16) if plan.labels else None
    for row, (item, origin) in enumerate(zip(items, origins, strict=True)):
        store.windows(item, origin, plan.size, out=values[row])
        if labels is not None:
            labels[row] = store.label_window(item, origin, plan.size)
    entries = [store.entries[item] for item in items]
    scale, present = channel_facts(entries)
    return WindowBatch(
        values=torch.from_numpy(values),
        origin=_whole_numbers(origins),
        extent=_whole_numbers([e.shape for e in entries]),
        body_box=torch.tensor([e.body_box for e in entries], dtype=torch.float32),
        spacing_mm=torch.tensor([e.spacing_mm for e in entries], dtype=torch.float32),
        scale=scale,
        present=present,
        item=_whole_numbers(items),
        patient=_whole_numbers([patients[item] for item in items]),
        part=_whole_numbers([slot % plan.count for slot in slots]),
        slot=_whole_numbers(slots),
        labels=None if labels is None else torch.from_numpy(labels),
    )


def _whole_numbers(values: Sequence[int] | Sequence[Triple]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def _allowed_places(store: Store, plan: WindowPlan, allowed: Mapping[str, Sequence[int]]) -> list[list[int]]:
    """Return the allowed indices of each scan of the store, in order."""
    if plan.relation not in {"independent", "partitions"} or (plan.relation == "independent" and plan.count > 1):
        raise ConfigError(
            "A list of allowed slices serves methods that take one window a scan or one in each part. This one takes "
            f"{plan.count} windows, '{plan.relation}'. Leave the list out, or take another method."
        )
    indices = []
    for entry in store.entries:
        extent = entry.shape[plan.axis]
        wanted = sorted(set(allowed.get(entry.id, ())))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < extent:
            raise DataError(
                f"{store.folder}: the scan {entry.id!r} has {extent} slices along {'zyx'[plan.axis]}, and the list "
                f"of allowed slices names {wanted[-1] if wanted[0] >= 0 else wanted[0]}. The list must count slices of "
                "the store: make it from this store, or store the scans at the spacing of the list."
            )
        indices.append(wanted)
    if not any(indices):
        raise DataError(f"{store.folder}: the list of allowed slices names none of its {len(store)} scans.")
    return indices


def _samples(plan: WindowPlan, allowed: Sequence[Sequence[int]] | None, scans: int) -> Sequence[tuple[int, int | None]]:
    """Return what an epoch goes through: (scan, index along the axis or None)."""
    if allowed is None:
        return [(item, None) for item in range(scans)]
    if plan.relation == "partitions":
        return [(item, None) for item, indices in enumerate(allowed) if indices]
    return [(item, index) for item, indices in enumerate(allowed) for index in indices]


def _check(store: Store, plan: WindowPlan) -> None:
    if plan.placement not in _PLACEMENTS:
        raise ConfigError(f"placement must be one of {', '.join(_PLACEMENTS)}. Got {plan.placement!r}.")
    if min(plan.size) < 1:
        raise ConfigError(f"The window must have at least one voxel on each axis. Got {plan.size}.")
    _check_relation(plan)
    if len(store) == 0:
        raise DataError(f"{store.folder}: there is no scan to take windows from. Check the manifest and its splits.")
    if plan.labels or plan.placement == "foreground":
        bare = [entry.id for entry in store.entries if entry.label_file is None]
        if bare:
            shown = ", ".join(bare[:5]) + (", ..." if len(bare) > 5 else "")
            raise DataError(
                f"{store.folder}: labels were asked for, but {len(bare)} of {len(store)} scans have none ({shown}). "
                "Leave these out, or name their labels in the manifest and run `medssl cache` again."
            )


def _check_relation(plan: WindowPlan) -> None:
    if plan.count < 1:
        raise ConfigError(f"A plan takes at least one window of each scan. Got {plan.count}.")
    if plan.relation not in get_args(Relation):
        raise ConfigError(f"relation must be one of {', '.join(get_args(Relation))}. Got {plan.relation!r}.")
    if plan.relation in {"gap", "frame"} and plan.count != 2:
        raise ConfigError(f"The relation '{plan.relation}' is one of two windows. Got {plan.count}.")
    if plan.relation != "independent" and plan.placement == "foreground":
        raise ConfigError(f"The relation '{plan.relation}' goes with the placements 'body' and 'anywhere' alone.")
    if plan.axis not in (0, 1, 2):
        raise ConfigError(f"axis must be 0, 1 or 2 (z, y, x). Got {plan.axis}.")
    if (plan.gap_mm is not None and plan.gap_mm <= 0) or plan.gap_power <= 0:
        raise ConfigError(f"gap_mm and gap_power must be above 0. Got {plan.gap_mm} and {plan.gap_power}.")
