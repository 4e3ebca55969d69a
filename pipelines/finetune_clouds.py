"""Fine-tuning on clouds: what both tasks do alike, and a class for each cloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightning_fabric import Fabric
from torch import nn

from medssl.batch import Batch
from medssl.engine.card import Card, load_card
from medssl.engine.run import Run
from medssl.errors import DataError
from medssl.evaluation.class_logits import ClassLogits
from medssl.reporting.prose import counted_of
from medssl.tasks.transfer import TransferReport
from pipelines import console
from pipelines.finetune_classes import Classified, write_classes
from pipelines.finetune_scans import LabelledScans, choose_scans
from pipelines.finetune_settings import FinetuneSettings, carry_encoder, few_words, fresh_weights
from pointcloud.domain import POINTS
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.loading import CloudLoader, held_out_clouds
from pointcloud.store import CloudEntry, CloudStore
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.inference import predict_cloud_classes
from pointcloud.tasks.scores import classes_asked
from pointcloud.tasks.segmentation import PartSegmentationTask

__all__ = ["CloudClassificationJob", "CloudJob"]

_FEW_CLOUDS = 8


class CloudJob:
    """What both tasks on clouds do alike.

    Args:
        settings: Of the run.
        store: All clouds.
        class_of: The class of a cloud, None where it cannot be trained on.
        wanted: What a cloud lacks then.
    """

    method: CloudClassificationTask | PartSegmentationTask

    def __init__(
        self, settings: FinetuneSettings, store: CloudStore, class_of: Callable[[CloudEntry], str | None], wanted: str
    ) -> None:
        self.settings, self._store = settings, store
        self.clouds: LabelledScans[CloudStore] = choose_scans(
            store, settings.data, class_of=class_of, wanted=wanted, every_held_out=True
        )
        self.entries = self.clouds.train.entries

    def _start(self, make: Callable[[CloudEncoder], CloudClassificationTask | PartSegmentationTask]) -> None:
        """Draw fresh weights, then carry the pretrained ones over."""
        with fresh_weights(self.settings.train.seed):
            encoder: CloudEncoder = CLOUD_ENCODERS.build(self.settings.encoder)
            self.method = make(encoder)
        self.reports: Sequence[TransferReport] = carry_encoder(self.settings.transfer, encoder)

    @property
    def seen(self) -> str:
        """What the network sees at once, in words."""
        return f"clouds of {self.settings.cloud.points} points"

    def loader(self, *, rank: int, world_size: int, pin: bool) -> CloudLoader:
        """Return this rank's batches."""
        train = self.settings.train
        return CloudLoader(
            self.clouds.train, self.method.plan, batch_size=train.batch_size, seed=train.seed, rank=rank,
            world_size=world_size, threads=train.threads, pin=pin,
        )  # fmt: skip

    def held_out(self) -> Sequence[Batch]:
        """Return the held-out clouds."""
        if self.clouds.held_out is None:
            return []
        train = self.settings.train
        return held_out_clouds(self.clouds.held_out, self.method.plan, train.batch_size, train.seed)

    def record(self, run: Run) -> None:
        """Write nothing: clouds are normalised in one way."""
        return

    def doubts(self) -> list[str]:
        """Return whether batches are as small as those of scans, and the unit another than the pretraining run's."""
        chosen, size = self.settings.transfer, self.settings.train.batch_size
        doubts = []
        if size < _FEW_CLOUDS:
            doubts.append(
                f"doubtful: {size} clouds a step are few for the batch norms of the head; recipes of clouds are "
                "--preset point_classification and point_parts, and with _small behind for a CPU"
            )
        if not chosen.run or chosen.from_scratch:
            return doubts
        return [*doubts, *POINTS.doubts(load_card(Path(chosen.run)), self.entries)]

    def card(self, start: str) -> Card:
        """Return the card of the network."""
        settings, encoder = self.settings, self.method.encoder
        return Card(
            kind="cloud",
            encoder=settings.encoder.model_dump(mode="json"),
            in_channels=3,
            channels=encoder.channels,
            points=settings.cloud.points,
            unit="+".join(sorted({e.unit for e in self.entries})),
            method=self.method.described(start=start),
            steps=settings.train.steps,
            batch_size=settings.train.batch_size,
            data={
                "clouds": [e.id for e in self.entries],
                "patients": len({e.patient or e.id for e in self.entries}),
                "store_settings": self._store.settings,
                "predicts": {"precision": settings.train.precision},
            },
            citation=[CLOUD_ENCODERS[settings.encoder.name].paper],
        )

    def exported_modules(self) -> Mapping[str, nn.Module]:
        """Return what is kept beside the encoder."""
        return self.method.exported_modules()

    def _lines(self, what: str) -> tuple[str, str]:
        clouds, settings = self.clouds, self.settings
        patients = len({e.patient or e.id for e in self.entries})
        watched = f"{len(clouds.held_out)} held out" if clouds.held_out else "none held out"
        predicted = f"{len(clouds.predict)} to predict" if clouds.predict else "none to predict"
        left = f"; {clouds.left_out} without labels left out" if clouds.left_out else ""
        start = f"{', '.join(r.part for r in self.reports)} of {settings.transfer.run}" if self.reports else "scratch"
        count = sum(p.numel() for p in self.method.parameters())
        frozen = ", frozen" if settings.cloud.frozen else ""
        return (
            f"store: {settings.data.store}: {counted_of(len(self.entries), 'cloud', patients)} with labels"
            f"{few_words(settings)}; {watched}, {predicted}{left}",
            f"{what}: {settings.encoder.name} encoder{frozen}, {count:,} parameters, from {start}",
        )


class CloudClassificationJob(CloudJob):
    """One classification run on clouds.

    Raises:
        ConfigError: A class is asked for that the store does not have.
        DataError: There are fewer than two classes, or one has no cloud to train on.
    """

    method: CloudClassificationTask

    def __init__(self, settings: FinetuneSettings, store: CloudStore) -> None:
        classes = classes_asked(store, settings.classification.classes)
        super().__init__(
            settings, store, lambda e: None if e.label not in classes else classes[int(e.label)], "classes"
        )
        counts = {name: sum(e.label == number for e in self.entries) for number, name in classes.items()}
        bare = [name for name, count in counts.items() if not count]
        if bare or len(classes) < 2:
            lack = (
                f"no cloud to train on has the class {', '.join(bare)}" if bare else "there are fewer than two classes"
            )
            raise DataError(
                f"{store.folder}: {lack}. Choose other splits, or name the classes: classification.classes."
            )
        self._counts = counts
        self._start(lambda encoder: CloudClassificationTask(settings.cloud, encoder, classes))

    def lines(self) -> tuple[str, str]:
        """Return what is said of the data and of the network before the run."""
        shown = ", ".join(f"{name} {count}" for name, count in list(self._counts.items())[:20])
        return self._lines(f"classifier of {len(self._counts)} classes ({shown})")

    def finish(self, out: Path, run: Run, fabric: Fabric) -> Classified:
        """Choose temperature and threshold on the held-out clouds and write the predictions, on the first rank."""
        if not run.writes:
            return Classified((), None, None)
        held_out, asked = (
            self._logits(store, fabric, what)
            for store, what in ((self.clouds.held_out, "held-out"), (self.clouds.predict, "test"))
        )
        split, calibrate = self.settings.data.held_out_split, self.settings.cloud.calibrate
        return write_classes(
            run, self.method.class_names, held_out, asked, calibrate=calibrate, split=split, noun="clouds"
        )

    def _logits(self, store: CloudStore | None, fabric: Fabric, what: str) -> ClassLogits | None:
        if store is None:
            return None
        with console.progress(len(store), f"{what} clouds classified") as bar, fabric.autocast():
            return predict_cloud_classes(self.method, store, device=fabric.device, progress=bar.advance)
