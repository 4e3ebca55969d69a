"""The fine-tuning tasks by name, and what each adds to the flow that all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning_fabric import Fabric
from torch import nn

from medssl.batch import Batch
from medssl.engine.card import Card
from medssl.engine.loop import Loader
from medssl.engine.run import Run
from medssl.methods.contract import Method
from medssl.table import Row, Table
from medssl.tasks.transfer import TransferReport

__all__ = ["CLOUD_JOBS", "JOBS", "Finished", "Job"]

JOBS = Table(
    "task",
    (
        Row(
            name="segmentation",
            target="pipelines.finetune_segmentation.SegmentationJob",
            settings="medssl.tasks.segmentation.SegmentationSettings",
            take_when="each voxel has a class",
            needs="a store of scans with label maps",
        ),
        Row(
            name="classification",
            target="pipelines.finetune_classification.ClassificationJob",
            settings="medssl.tasks.class_settings.ClassificationSettings",
            take_when="each scan or patient has a class",
            needs="a store of scans with targets (index --targets)",
        ),
    ),
)
CLOUD_JOBS = Table(
    "task of clouds",
    (
        Row(
            name="segmentation",
            target="pipelines.finetune_parts.PartSegmentationJob",
            settings="pointcloud.tasks.settings.CloudTaskSettings",
            take_when="each point has a class",
            needs="a store of clouds whose points have labels",
        ),
        Row(
            name="classification",
            target="pipelines.finetune_clouds.CloudClassificationJob",
            settings="pointcloud.tasks.settings.CloudTaskSettings",
            take_when="each cloud has a class",
            needs="a store of clouds with classes",
        ),
    ),
)


class Job(Protocol):
    """What a task adds to the flow that all share."""

    @property
    def method(self) -> Method:
        """What is trained."""
        ...

    @property
    def reports(self) -> Sequence[TransferReport]:
        """What became of the pretrained weights."""
        ...

    @property
    def entries(self) -> Sequence[Any]:
        """The scans or clouds that are trained on."""
        ...

    @property
    def seen(self) -> str:
        """What the network sees at once, after a number: "windows of 64 x 96 x 96"."""
        ...

    def loader(self, *, rank: int, world_size: int, pin: bool) -> Loader:
        """Return this rank's batches."""
        ...

    def held_out(self) -> Sequence[Batch]:
        """Return batches that are only looked at."""
        ...

    def lines(self) -> tuple[str, str]:
        """Return what is said of the data and of the network before the run."""
        ...

    def doubts(self) -> list[str]:
        """Return how the data differ from what the encoder was pretrained on, where that is worth a thought."""
        ...

    def record(self, run: Run) -> None:
        """Write into the run's folder what going on with it must know."""
        ...

    def card(self, start: str) -> Card:
        """Return the card of a network that started from the weights of run ``start``."""
        ...

    def exported_modules(self) -> Mapping[str, nn.Module]:
        """Return what is kept beside the encoder."""
        ...

    def finish(self, out: Path, run: Run, fabric: Fabric) -> Finished:
        """Predict and score; every rank does its part."""
        ...


class Finished(Protocol):
    """What a job left behind."""

    @property
    def predictions(self) -> tuple[Path, ...]:
        """The files."""
        ...

    @property
    def shown(self) -> Path | None:
        """What the last line names, None where nothing was predicted."""
        ...

    @property
    def named(self) -> str:
        """What the scores are called in the JSON object of the verb."""
        ...

    @property
    def scores(self) -> dict[str, float] | None:
        """Scores on the held-out scans."""
        ...
