"""Training on scans: their windows, encoders, methods and cards; and the tables that choose slices or name phases."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import nn

from medssl.batch import Batch
from medssl.command import Command
from medssl.domains.choosing import Chosen
from medssl.domains.data_settings import DataSettings
from medssl.domains.groups import grouping
from medssl.domains.training import Trained, Training
from medssl.encoders.contract import Encoder
from medssl.encoders.table import build_encoder
from medssl.engine.card import Card
from medssl.engine.launch import on_cpu
from medssl.engine.run import Run
from medssl.errors import ConfigError, DataError
from medssl.loading import WindowLoader, held_out_batches
from medssl.methods.contract import Method
from medssl.methods.table import METHODS, build_method
from medssl.settings import Resolved, Settings
from medssl.step_loader import Order, order_of
from medssl.store.entry import Entry
from medssl.store.normalised import normalised_as
from medssl.store.read import Store
from medssl.volumes.card import seen_of, volume_card
from medssl.volumes.channels import follow_channels
from medssl.volumes.inputs import as_input_of, input_words, record_input, show_by
from medssl.windows import WindowPlan

__all__ = ["TRAINING", "ScanTraining", "chosen_slices"]

S = TypeVar("S", bound=Settings)
_MUCH_PADDING = 0.25  # share of a window beyond the scan from which on it is said


class ScanTraining(Training):
    """Volumes, read by windows."""

    def fitted(self, resolved: Resolved[S], store: Store) -> Resolved[S]:
        """Let the encoder take as many channels as the store has."""
        return follow_channels(resolved, store)

    def as_input(
        self, store: Store, train: Sequence[str], settings: Any, *, start: str | Path | None, resumed: Path | None
    ) -> Store:
        """Normalise the scans: fitted on what is trained on, or as the run it starts from or goes on with."""
        return as_input_of(store, train, settings.data.normalise, start=start, resumed=resumed)

    def taken(self, store: Store, card: Card) -> Store:
        """Normalise the scans as the card says."""
        return normalised_as(store, card.inputs_known)

    def record(self, run: Run, entries: Sequence[Entry]) -> None:
        """Write how the input is normalised."""
        record_input(run, entries)

    def encoder(self, settings: Settings | Mapping[str, Any]) -> Encoder:
        """Return a fresh encoder of volumes."""
        return build_encoder(settings)

    def method(self, settings: Any, encoder: nn.Module) -> Method:
        """Return the method around an encoder of volumes."""
        assert isinstance(encoder, Encoder)
        method = build_method(settings.method, encoder)
        if settings.data.pair == "channels" and not method.pairs_channels:
            able = ", ".join(name for name in METHODS if METHODS.load(name).pairs_channels)
            raise ConfigError(
                f"data.pair=channels: '{settings.method.name}' has no two views of which each could show a "
                f"channel of its own. It is for methods that compare views: {able}."
            )
        return method

    def shown(self, method: Method, store: Store) -> None:
        """Let pictures span the values of the input."""
        show_by(method, store)

    def loader(self, train: Store, plan: Any, settings: Any, *, rank: int, world_size: int, pin: bool) -> WindowLoader:
        """Return this process's windows; in pretraining of chosen slices alone where the settings name them."""
        data, more = settings.data, dict[str, Any]()
        if isinstance(data, DataSettings):
            more = {
                "allowed": chosen_slices(data.slices, train) if data.slices else None,
                "phases": _phases(data.phases, train, plan) if data.phases else None,
                "apart": data.apart,
                "pairs": data.pair == "channels",
            }
        order: Order = {
            **order_of(settings.train, rank=rank, world_size=world_size, pin=pin),
            **grouping(data, train),
        }
        return WindowLoader(
            train,
            plan,
            **order,
            drop=data.drop_channels,
            **more,
        )

    def counted(self, train: Store, plan: Any, settings: Any) -> tuple[int, str] | None:
        """Return the chosen slices where a method takes one window of each."""
        if not settings.data.slices or plan.relation != "independent":
            return None
        return sum(map(len, chosen_slices(settings.data.slices, train).values())), "slices"

    def held_out(self, store: Store, plan: Any, settings: Any) -> Sequence[Batch]:
        """Return windows of the scans that are only looked at."""
        pairs = isinstance(settings.data, DataSettings) and settings.data.pair == "channels"
        return held_out_batches(store, plan, settings.train.batch_size, settings.train.seed, pairs=pairs)

    def probe(self, chosen: Chosen[Store], plan: Any, settings: Any) -> Callable[[Method], Mapping[str, float]] | None:
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
                held.append(CropProbe(chosen.train, other, size, seed=settings.train.seed))
            return held[0](encoder)

        return measure

    def data_words(self, train: Store) -> str:
        """Return the scans' modalities and mean voxel size."""
        kinds = "+".join(sorted({kind for e in train.entries for kind in e.modalities}))
        if len(train.channels) > 1:
            kinds = f"channels {', '.join(train.channels)} ({kinds}){_lacking(train)}"
        spacing = " x ".join(f"{v:.3g}" for v in np.mean([e.spacing_mm for e in train.entries], axis=0))
        return f"{kinds}, {spacing} mm{input_words(train.entries)}"

    def window_words(self, plan: Any, settings: Any) -> str:
        """Return the size of a window."""
        chosen = settings.data.slices if isinstance(settings.data, DataSettings) else ""
        return f"windows of {' x '.join(map(str, plan.size))}{f' on the slices of {chosen}' if chosen else ''}"

    def reading_doubts(self, train: Store, plan: Any) -> list[str]:
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

    def card(self, trained: Trained) -> Card:
        """Return the card of an encoder of volumes."""
        assert isinstance(trained.encoder, Encoder)
        return volume_card(
            trained.encoder,
            trained.entries,
            trained.settings.train,
            settings=trained.settings.encoder,
            window=trained.plan.size,
            method=trained.method,
            data=trained.data,
            citation=trained.citation,
        )

    def tuned_facts(self, entries: Sequence[Entry], settings: Any) -> dict[str, Any]:
        """Return voxel sizes and orientations, and how windows are put together."""
        inference = settings.inference.model_dump(mode="json")
        return {
            "seen": seen_of(entries),
            "predicts": {"inference": inference, "precision": settings.train.precision},
        }

    def input_words(self, entries: Sequence[Entry]) -> str:
        """Return the schemes."""
        return input_words(entries)

    def following(self, out: str, entries: Sequence[Entry], plan: Any, settings: Any) -> tuple[Command, str]:
        """Return the command that fine-tunes on the store's labels, or on those of another store."""

        def small(task: str) -> tuple[str, ...]:
            """Return the words that let fine-tuning take the settings for a CPU, where there is no GPU."""
            if not on_cpu(settings.train):
                return ()
            return ("--preset", f"{task}_small", f"{task}.window=[{','.join(map(str, plan.size))}]")

        masks = any(entry.label_file is not None for entry in entries)
        if not masks and not any(entry.targets for entry in entries):
            later = Command("finetune", out, "--data", "STORE", "--out", f"{out}-tuned", *small("segmentation"))
            return Command(), f"once a STORE of labelled scans is there (index and cache them as these): {later}"
        task = "segmentation" if masks else "classification"
        told = ("finetune", out, "--data", settings.data.store, "--task", task, "--out", f"{out}-{task}")
        return Command(*told, *small(task)), ""


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


TRAINING = ScanTraining()
