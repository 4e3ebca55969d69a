"""Fine-tuning on clouds: what both tasks do alike, and a class for each cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medssl.domains.class_results import finish_classes
from medssl.domains.learning import Finished, Learning, Told
from medssl.engine.run import Run
from medssl.errors import DataError
from medssl.evaluation.class_logits import ClassLogits
from medssl.reporting.prose import counted_of
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.store import CloudStore
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.inference import predict_cloud_classes
from pointcloud.tasks.scores import classes_asked
from pointcloud.tasks.segmentation import PartSegmentationTask

__all__ = ["CloudClassLearning", "CloudLearning"]

_FEW_CLOUDS = 8


class CloudLearning(Learning):
    """What both tasks on clouds do alike."""

    method: CloudClassificationTask | PartSegmentationTask

    def counted(self, patients: int) -> str:
        """Return how many clouds are trained on."""
        return f"{counted_of(len(self.entries), 'cloud', patients)} with labels"

    @property
    def built(self) -> str:
        """Whether the encoder stays as it is."""
        return ", frozen" if self.settings.cloud.frozen else ""

    def doubts(self) -> list[str]:
        """Return whether batches are as small as those of scans, and the unit another than the pretraining run's."""
        size = self.settings.train.batch_size
        few = [
            f"doubtful: {size} clouds a step are few for the batch norms of the head; recipes of clouds are "
            "--preset point_classification and point_parts, and with _small behind for a CPU"
        ]
        return [*(few if size < _FEW_CLOUDS else ()), *super().doubts()]

    def described(self, start: str) -> dict[str, Any]:
        """Return classes, parts and settings."""
        return self.method.described(start=start)


class CloudClassLearning(CloudLearning):
    """One classification run on clouds.

    Raises:
        ConfigError: A class is asked for that the store does not have.
        DataError: There are fewer than two classes, or one has no cloud to train on.
    """

    lacking = "classes"
    method: CloudClassificationTask

    def prepare(self) -> None:
        """Count the classes."""
        self._classes = classes_asked(self.store, self.settings.classification.classes)
        self._counts = {name: sum(e.label == number for e in self.entries) for number, name in self._classes.items()}
        bare = [name for name, count in self._counts.items() if not count]
        if bare or len(self._classes) < 2:
            lack = (
                f"no cloud to train on has the class {', '.join(bare)}" if bare else "there are fewer than two classes"
            )
            raise DataError(
                f"{self.store.folder}: {lack}. Choose other splits, or name the classes: classification.classes."
            )

    def network(self, encoder: CloudEncoder) -> CloudClassificationTask:
        """Return the classifier."""
        return CloudClassificationTask(self.settings.cloud, encoder, self._classes)

    @property
    def words(self) -> str:
        """How many classes there are, and how many clouds of each."""
        shown = ", ".join(f"{name} {count}" for name, count in list(self._counts.items())[:20])
        return f"classifier of {len(self._counts)} classes ({shown})"

    def finish(self, out: Path, run: Run, fabric: Fabric, told: Told) -> Finished:
        """Choose temperature and threshold on the held-out clouds and write the predictions, on the first rank."""

        def logits(store: Any, what: str) -> ClassLogits:
            return self._logits(store, fabric, what, told)

        chosen = self.settings.cloud.calibrate
        return finish_classes(self, run, told, logits, calibrate=chosen, classes=self.method.class_names)

    def _logits(self, store: CloudStore, fabric: Fabric, what: str, told: Told) -> ClassLogits:
        with told.progress(len(store), f"{what} clouds classified") as bar, fabric.autocast():
            return predict_cloud_classes(self.method, store, device=fabric.device, progress=bar.advance)
