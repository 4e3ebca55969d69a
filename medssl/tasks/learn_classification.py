"""Fine-tuning for classification: scans, slices or sets of slices with classes, and a table of probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medssl.domains.class_results import finish_classes
from medssl.domains.learning import Finished, Learning, Told
from medssl.encoders.contract import Encoder
from medssl.engine.run import Run
from medssl.errors import DataError
from medssl.evaluation.class_logits import ClassLogits
from medssl.step_loader import order_of
from medssl.store.read import Store
from medssl.tasks.class_inference import predict_classes
from medssl.tasks.class_loading import ClassLoader, class_batches
from medssl.tasks.class_samples import Samples, class_names, class_weights, samples_of
from medssl.tasks.classification import ClassificationTask
from medssl.windows import WindowBatch

__all__ = ["ClassificationLearning"]

_WATCHED = 64  # held-out samples that are looked at while training


class ClassificationLearning(Learning):
    """One classification run.

    Raises:
        ConfigError: Target, structure, classes or window do not fit the store or the encoder.
        DataError: A class has no patient to train on.
    """

    lacking = "targets"
    left_word = "a class"
    method: ClassificationTask

    def prepare(self) -> None:
        """Find the samples, and see that every class has some."""
        self.classes = class_names(self.store, self.settings.classification)
        self.train = self._samples(self.items.train).known()
        bare = [name for name, count in self.train.counts().items() if not count]
        if bare:
            raise DataError(
                f"{self.store.folder}: no patient to train on has the class {', '.join(bare)}. Choose other splits, or "
                "leave the class out with classification.classes."
            )

    def network(self, encoder: Encoder) -> ClassificationTask:
        """Return the classifier."""
        chosen = self.settings.classification
        weights = class_weights(self.train) if chosen.balance == "weights" else None
        return ClassificationTask(chosen, encoder, self.classes, weights=weights)

    def loader(self, *, rank: int, world_size: int, pin: bool) -> ClassLoader:
        """Return this rank's samples."""
        order = order_of(self.settings.train, rank=rank, world_size=world_size, pin=pin)
        return ClassLoader(
            self.train,
            self.settings.classification,
            **order,
            drop=self.settings.data.drop_channels,
        )

    def held_out(self) -> list[WindowBatch]:
        """Return some held-out samples."""
        samples = self._samples(self.items.held_out).known() if self.items.held_out else None
        if not samples or not len(samples):
            return []
        return list(class_batches(samples, self.settings.classification, self.settings.train.batch_size, _WATCHED))

    def counted(self, patients: int) -> str:
        """Return how many scans of how many patients whose class is known are trained on."""
        return super().counted(len(set(self.train.patients())))

    @property
    def words(self) -> str:
        """What is distinguished, and how many there are of each class."""
        chosen = self.settings.classification
        what = chosen.target or f"structure {chosen.shows} in a {'slice' if chosen.level == 'slice' else 'scan'}"
        counts = ", ".join(f"{name} {count}" for name, count in self.train.counts().items())
        unit = {"volume": "scans", "slice": "slices", "set": "scans as sets of slices"}[chosen.level]
        return f"classifier of {what}, by {unit} ({counts})"

    @property
    def built(self) -> str:
        """Whether the encoder stays as it is."""
        return ", frozen" if self.settings.classification.frozen else ""

    def described(self, start: str) -> dict[str, Any]:
        """Return classes and settings."""
        return self.method.described(start=start)

    def finish(self, out: Path, run: Run, fabric: Fabric, told: Told) -> Finished:
        """Choose temperature and threshold on the held-out scans and write the predictions, on the first rank."""

        def logits(store: Any, what: str) -> ClassLogits:
            return self._logits(store, fabric, what, told)

        chosen = self.settings.classification.calibrate
        return finish_classes(self, run, told, logits, calibrate=chosen, classes=self.method.class_names)

    def _samples(self, store: Store) -> Samples:
        return samples_of(store, self.settings.classification, self.classes)

    def _logits(self, store: Store, fabric: Fabric, what: str, told: Told) -> ClassLogits:
        samples = self._samples(store)
        with told.progress(len(samples), f"{what} samples classified") as bar, fabric.autocast():
            return predict_classes(
                self.method,
                samples,
                batch_size=self.settings.train.batch_size,
                device=fabric.device,
                progress=bar.advance,
            )
