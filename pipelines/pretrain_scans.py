"""The part of ``medssl pretrain`` that is of scans: their store, windows, methods and card."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch import nn

from medssl.batch import Batch
from medssl.encoders.contract import Encoder
from medssl.encoders.table import ENCODERS, build_encoder
from medssl.engine.card import Card
from medssl.engine.run import Run
from medssl.errors import ConfigError, DataError
from medssl.loading import WindowLoader, held_out_batches
from medssl.methods.contract import Method
from medssl.methods.table import METHODS, build_method
from medssl.settings import Resolved
from medssl.store.normalised import normalised
from medssl.store.read import Store
from medssl.windows import WindowPlan
from pipelines.normalising import input_of, input_words, record_input, recorded_input, show_by
from pipelines.pretrain_kind import Chosen, Kind, data_facts
from pipelines.pretrain_settings import PretrainSettings
from pipelines.store_channels import follow_channels
from pipelines.volume_card import volume_card
from pointcloud.store import INDEX as CLOUDS

__all__ = ["Scans", "chosen_slices"]

_MUCH_PADDING = 0.25  # share of a window beyond the scan from which on it is said


class Scans(Kind):
    """Volumes, read by windows."""

    noun = "scans"
    other = ("clouds", CLOUDS, "point_mae")

    def store(self, folder: str) -> Store:
        """Open a store of scans."""
        return Store.open(folder)

    def fitted(self, resolved: Resolved[PretrainSettings], store: Any) -> Resolved[PretrainSettings]:
        """Let the encoder take as many channels as the store has."""
        resolved = follow_channels(resolved, store)
        self.settings = resolved.settings
        return resolved

    def as_input(self, chosen: Chosen, *, start: Path | None, resumed: Path | None) -> Chosen:
        """Normalise the scans: fitted on what is trained on, or as the run it starts from or goes on with."""
        ids, asked = [entry.id for entry in chosen.train.entries], self.settings.data.normalise
        more = [] if chosen.held_out is None else [entry.id for entry in chosen.held_out.entries]
        both = chosen.train.with_entries([*chosen.train.entries, *(chosen.held_out.entries if chosen.held_out else ())])
        count = len(both.channels)
        found = (recorded_input(resumed, count) if resumed else None) or input_of(both, ids, asked, start)
        made = normalised(both, found)
        return Chosen(train=made.subset(ids), held_out=made.subset(more) if more else None)

    def record(self, run: Run, chosen: Chosen) -> None:
        """Write how the input is normalised."""
        record_input(run, chosen.train.entries)

    def encoder(self) -> Encoder:
        """Return a fresh encoder of volumes."""
        return build_encoder(self.settings.encoder)

    def method(self, encoder: nn.Module) -> Method:
        """Return the method around an encoder of volumes."""
        assert isinstance(encoder, Encoder)
        method = build_method(self.settings.method, encoder)
        if self.settings.data.pair == "channels" and not method.pairs_channels:
            able = ", ".join(name for name in METHODS if METHODS.load(name).pairs_channels)
            raise ConfigError(
                f"data.pair=channels: '{self.settings.method.name}' has no two views of which each could show a "
                f"channel of its own. It is for methods that compare views: {able}."
            )
        return method

    def shown(self, method: Method, train: Store) -> None:
        """Let pictures span the values of the input."""
        show_by(method, train)

    def loader(self, train: Store, plan: Any, fabric: Fabric) -> WindowLoader:
        """Return this process's windows; of chosen slices alone where the settings name them."""
        settings = self.settings
        return WindowLoader(
            train,
            plan,
            batch_size=settings.train.batch_size,
            seed=settings.train.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            threads=settings.train.threads,
            pin=fabric.device.type == "cuda",
            allowed=chosen_slices(settings.data.slices, train) if settings.data.slices else None,
            phases=_phases(settings.data.phases, train, plan) if settings.data.phases else None,
            apart=settings.data.apart,
            drop=settings.data.drop_channels,
            pairs=settings.data.pair == "channels",
        )

    def things(self, train: Store, plan: Any) -> tuple[int, str]:
        """Return the chosen slices where a method takes one window of each; else the scans."""
        if not self.settings.data.slices or plan.relation != "independent":
            return super().things(train, plan)
        return sum(map(len, chosen_slices(self.settings.data.slices, train).values())), "slices"

    def held_out(self, store: Store, plan: Any) -> Sequence[Batch]:
        """Return windows of the scans that are only probed."""
        train, pairs = self.settings.train, self.settings.data.pair == "channels"
        return held_out_batches(store, plan, train.batch_size, train.seed, pairs=pairs)

    def probe(self, chosen: Chosen, plan: Any) -> Callable[[Method], Mapping[str, float]] | None:
        """Return how well features of small crops tell their place and content; None where nothing is held out."""
        other = chosen.held_out
        if other is None:
            return None
        from medssl.tasks.crops import CropProbe, crop_size

        held: list[CropProbe] = []

        def measure(method: Method) -> Mapping[str, float]:
            encoder = method.encoder
            assert isinstance(encoder, Encoder)
            if not held:
                size = crop_size(plan.size, encoder.size_multiple)
                held.append(CropProbe(chosen.train, other, size, seed=self.settings.train.seed))
            return held[0](encoder)

        return measure

    def data_words(self, train: Store) -> str:
        """Return the scans' modalities and mean voxel size."""
        kinds = "+".join(sorted({kind for e in train.entries for kind in e.modalities}))
        if len(train.channels) > 1:
            kinds = f"channels {', '.join(train.channels)} ({kinds}){_lacking(train)}"
        spacing = " x ".join(f"{v:.3g}" for v in np.mean([e.spacing_mm for e in train.entries], axis=0))
        return f"{kinds}, {spacing} mm{input_words(train.entries)}"

    def window_words(self, plan: Any) -> str:
        """Return the size of a window."""
        slices = f" on the slices of {self.settings.data.slices}" if self.settings.data.slices else ""
        return f"windows of {' x '.join(map(str, plan.size))}{slices}"

    def doubts(self, train: Store, plan: Any) -> list[str]:
        """Say how much of the windows lies outside the scans, where that is much."""
        shapes = np.array([entry.shape for entry in train.entries])
        padding = float(np.mean(1.0 - np.prod(np.minimum(shapes, plan.size) / np.array(plan.size), axis=1)))
        if padding < _MUCH_PADDING:
            return []
        usual = " x ".join(f"{size:.0f}" for size in np.median(shapes, axis=0))
        return [
            f"doubtful: {padding:.0%} of a window is padding beyond the scans, whose median size is {usual} voxels. "
            "Set a smaller window or crop (medssl show METHOD names the keys), or let `medssl auto` fit them."
        ]

    def card(self, chosen: Chosen, method: Method) -> Card:
        """Return the card of an encoder of volumes."""
        settings, encoder = self.settings, method.encoder
        assert isinstance(encoder, Encoder)
        return volume_card(
            encoder,
            chosen.train.entries,
            settings.train,
            settings=settings.encoder,
            window=method.plan.size,
            method=settings.method.model_dump(mode="json"),
            data=data_facts(chosen, "scans"),
            citation=[METHODS[settings.method.name].paper, ENCODERS[settings.encoder.name].paper],
        )


def _lacking(store: Store) -> str:
    """Return how many cases lack each channel, for a line about the store; "" where none lacks any."""
    counts = [sum(not entry.present[number] for entry in store.entries) for number in range(len(store.channels))]
    found = [f"{name} in {count}" for name, count in zip(store.channels, counts, strict=True) if count]
    return f"; lacking: {', '.join(found)}" if found else ""


def chosen_slices(path: str, store: Store) -> dict[str, list[int]]:
    """Return the chosen slices of each scan along z, counted in the store, whose voxels may have another size.

    Raises:
        DataError: The table says nothing about some of the scans.
    """
    from medssl.reduction.parts import kept_slices

    table = kept_slices(path)
    lacking = [entry.id for entry in store.entries if entry.id not in table]
    if lacking:
        raise DataError(
            f"{path}: says nothing about {len(lacking)} of the {len(store)} scans to train on, such as {lacking[0]}. "
            "Choose slices of this store's own manifest with: medssl reduce MANIFEST --unit slice"
        )
    chosen = {}
    for entry in store.entries:
        kept, depth = table[entry.id]
        chosen[entry.id] = sorted({int((place + 0.5) * entry.shape[0] / depth) for place in kept.tolist()})
    return chosen


def _phases(path: str, store: Store, plan: WindowPlan) -> dict[str, float]:
    """Return the phase of each scan that the table names, in cycles.

    Raises:
        ConfigError: The method takes no other frames.
        DataError: The table cannot be read, lacks a column, holds no number, or names no scan of the store.
    """
    if plan.relation != "frame":
        raise ConfigError("data.phases is for methods that compare frames: method=cvrl with method.apart=frame.")
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the table of phases cannot be read ({error}).") from error
    try:
        phases = {row["scan"]: float(row["phase"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: a table of phases has the columns scan and phase, and a number of cycles in each row, such as "
            f"0.35. Wrong: {error}."
        ) from error
    if not any(entry.id in phases for entry in store.entries):
        raise DataError(f"{path}: names none of the {len(store)} scans, which are called {store.entries[0].id!r}, ...")
    return phases
