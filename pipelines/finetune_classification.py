"""Fine-tuning for classification: scans, slices or sets of slices with classes, and a table of probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning_fabric import Fabric
from torch import nn

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card
from medssl.engine.run import Run
from medssl.errors import DataError
from medssl.evaluation.class_logits import ClassLogits
from medssl.store.read import Store
from medssl.tasks.class_inference import predict_classes
from medssl.tasks.class_loading import ClassLoader, class_batches
from medssl.tasks.class_samples import Samples, class_names, class_of_scan, class_weights, samples_of
from medssl.tasks.classification import ClassificationTask
from medssl.windows import WindowBatch
from pipelines import console
from pipelines.finetune_classes import Classified, write_classes
from pipelines.finetune_scan_card import scan_card, scan_doubts
from pipelines.finetune_scans import choose_scans
from pipelines.finetune_settings import FinetuneSettings, carry_encoder, few_words, fresh_weights
from pipelines.normalising import input_words, record_input, show_by

__all__ = ["ClassificationJob"]

Triple = tuple[int, int, int]
_WATCHED = 64  # held-out samples that are looked at while training


class ClassificationJob:
    """One classification run.

    Args:
        settings: Of the run.
        store: All scans.

    Raises:
        ConfigError: Target, structure, classes or window do not fit the store or the encoder.
        DataError: A class has no patient to train on.
    """

    def __init__(self, settings: FinetuneSettings, store: Store) -> None:
        self.settings, self._store, chosen = settings, store, settings.classification
        self.classes = class_names(store, chosen)
        self.scans = choose_scans(
            store,
            settings.data,
            class_of=lambda entry: class_of_scan(entry, chosen),
            wanted="targets",
            every_held_out=True,
        )
        self.train = samples_of(self.scans.train, chosen, self.classes).known()
        bare = [name for name, count in self.train.counts().items() if not count]
        if bare:
            raise DataError(
                f"{store.folder}: no patient to train on has the class {', '.join(bare)}. Choose other splits, or "
                "leave the class out with classification.classes."
            )
        weights = class_weights(self.train) if chosen.balance == "weights" else None
        with fresh_weights(settings.train.seed):
            encoder = build_encoder(settings.encoder)
            self.method = ClassificationTask(chosen, encoder, self.classes, weights=weights)
        self.reports = carry_encoder(settings.transfer, encoder, store.channels)
        self.entries = self.scans.train.entries
        show_by(self.method, store)

    @property
    def window(self) -> Triple:
        """What the network sees at once."""
        return self.settings.classification.window

    @property
    def seen(self) -> str:
        """The same in words."""
        return f"windows of {' x '.join(map(str, self.window))}"

    def loader(self, *, rank: int, world_size: int, pin: bool) -> ClassLoader:
        """Return this rank's batches."""
        train = self.settings.train
        return ClassLoader(
            self.train, self.settings.classification, batch_size=train.batch_size, seed=train.seed, rank=rank,
            world_size=world_size, threads=train.threads, pin=pin, drop=self.settings.data.drop_channels,
        )  # fmt: skip

    def held_out(self) -> list[WindowBatch]:
        """Return some held-out samples."""
        samples = self._samples(self.scans.held_out).known() if self.scans.held_out else None
        if not samples or not len(samples):
            return []
        return list(class_batches(samples, self.settings.classification, self.settings.train.batch_size, _WATCHED))

    def lines(self) -> tuple[str, str]:
        """Return what is said of the data and of the network before the run."""
        scans, settings, chosen = self.scans, self.settings, self.settings.classification
        patients = len(set(self.train.patients()))
        what = chosen.target or f"structure {chosen.shows} in a {'slice' if chosen.level == 'slice' else 'scan'}"
        counts = ", ".join(f"{name} {count}" for name, count in self.train.counts().items())
        unit = {"volume": "scans", "slice": "slices", "set": "scans as sets of slices"}[chosen.level]
        watched = f"{len(scans.held_out)} held out" if scans.held_out else "none held out"
        predicted = f"{len(scans.predict)} to predict" if scans.predict else "none to predict"
        left = f"; {scans.left_out} without a class left out" if scans.left_out else ""
        start = f"{', '.join(r.part for r in self.reports)} of {settings.transfer.run}" if self.reports else "scratch"
        count = sum(p.numel() for p in self.method.parameters())
        frozen = ", frozen" if chosen.frozen else ""
        return (
            f"store: {settings.data.store}: {len(self.entries)} scans of {patients} patients{few_words(settings)}; "
            f"{watched}, {predicted}{left}{input_words(self.entries)}",
            f"classifier of {what}, by {unit} ({counts}): {settings.encoder.name} encoder{frozen}, {count:,} "
            f"parameters, from {start}",
        )

    def exported_modules(self) -> Mapping[str, nn.Module]:
        """Return what is kept beside the encoder."""
        return {"network": self.method.network}

    def finish(self, out: Path, run: Run, fabric: Fabric) -> Classified:
        """Choose temperature and threshold on the held-out scans and write the predictions, on the first rank."""
        if not run.writes:
            return Classified((), None, None)
        held_out, asked = (self._logits(s, fabric, what) for s, what in
                           ((self.scans.held_out, "held-out"), (self.scans.predict, "test")))  # fmt: skip
        chosen, split = self.settings.classification, self.settings.data.held_out_split
        return write_classes(run, self.classes, held_out, asked, calibrate=chosen.calibrate, split=split, noun="scans")

    def doubts(self) -> list[str]:
        """Return how the scans differ from those of the pretraining run."""
        return scan_doubts(self.settings, self.entries)

    def record(self, run: Run) -> None:
        """Write how the input is normalised."""
        record_input(run, self.entries)

    def card(self, start: str) -> Card:
        """Return the card of the network."""
        return scan_card(
            self.settings, self._store, self.entries, self.method.encoder, window=self.window,
            method=self.method.described(start=start),
        )  # fmt: skip

    def _samples(self, store: Store) -> Samples:
        return samples_of(store, self.settings.classification, self.classes)

    def _logits(self, store: Store | None, fabric: Fabric, what: str) -> ClassLogits | None:
        if store is None:
            return None
        samples = self._samples(store)
        with console.progress(len(samples), f"{what} samples classified") as bar, fabric.autocast():
            return predict_classes(
                self.method, samples, batch_size=self.settings.train.batch_size, device=fabric.device,
                progress=bar.advance,
            )  # fmt: skip
