"""The domain of points: clouds of the surfaces of shapes, organs and scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medssl.domains.domain import Domain, Features
from medssl.domains.labels import StoreLabels
from medssl.errors import DataError

if TYPE_CHECKING:
    from torch import nn

    from medssl.domains.dense import Dense
    from medssl.engine.card import Card
    from pointcloud.batch import CloudPlan
    from pointcloud.store import CloudEntry, CloudStore

_BATCH = 32
__all__ = ["POINTS", "CloudProbe", "Points"]


class Points(Domain):
    """Clouds."""

    name = "points"
    noun = "cloud"
    owner = "object"
    kind = "cloud"
    listing = "clouds.json"
    recipes: ClassVar[Mapping[str, str | None]] = {
        "classification": "point_classification_small",
        "segmentation": "point_parts_small",
    }

    lacks: ClassVar[Mapping[str, str]] = {
        "slices": "slices",
        "apart": "slices",
        "phases": "frames",
        "drop_channels": "channels",
        "pair": "channels",
        "normalise": "values",
    }
    parts: ClassVar[Mapping[str, str]] = {
        "methods": "pointcloud.methods.table.CLOUD_METHODS",
        "encoders": "pointcloud.encoders.table.CLOUD_ENCODERS",
        "tasks": "pointcloud.tasks.table.CLOUD_TASKS",
        "training": "pointcloud.training.TRAINING",
        "new_items": "pointcloud.predicting.NEW_ITEMS",
        "vectors": "pointcloud.vectors.VECTORS",
        "exporting": "pointcloud.exports.EXPORTS",
        "deciding": "pointcloud.deciding.CloudDeciding",
    }

    def open(self, folder: str | Path) -> CloudStore:
        """Open a store of clouds."""
        from pointcloud.store import CloudStore

        return CloudStore.open(folder)

    def labels_of(self, store: CloudStore) -> StoreLabels:
        """Return how many clouds have labels of their points, and the classes of clouds."""
        numbers = sorted({entry.label for entry in store.entries if entry.label is not None})
        names = tuple(store.classes.get(number, str(number)) for number in numbers)
        drawn = sum(entry.label_file is not None for entry in store.entries)
        return StoreLabels(store.folder, self.noun, drawn, {"": names} if names else {})

    def doubts(self, card: Card, entries: Sequence[CloudEntry]) -> list[str]:
        """Return whether the clouds are in another unit of length."""
        theirs, ours = card.unit, {entry.unit for entry in entries}
        if not theirs or "unknown" in theirs or "unknown" in ours or ours & set(theirs.split("+")):
            return []
        return [
            f"doubtful: the encoder was pretrained on clouds in {theirs}, the store's are in {'+'.join(sorted(ours))}"
        ]

    def encoder(self, run: Path) -> nn.Module:
        """Return a run's encoder."""
        from pointcloud.embedding import load_cloud_encoder

        return load_cloud_encoder(run)

    def probed(self, store: CloudStore, settings: Any, card: Card) -> CloudProbe:
        """Return the classes of clouds."""
        from pointcloud.batch import CloudPlan

        numbers = sorted({int(entry.label) for entry in store.entries if entry.label is not None})
        if len(numbers) < 2:
            raise DataError(f"{store.folder}: a probe needs clouds of two classes or more, and it has {len(numbers)}.")
        plan = CloudPlan(points=settings.points or card.points)
        names = {number: store.classes.get(number, str(number)) for number in numbers}
        size = settings.batch_size or _BATCH
        return CloudProbe(
            "class", tuple(names.values()), names, plan, settings.point_draws, settings.draws, size, settings.seed
        )

    def dense(self, store: CloudStore, settings: Any, card: Card) -> Dense:
        """Return the points of clouds whose points have labels."""
        from pointcloud.tasks.dense_samples import cloud_places

        return cloud_places(store, settings.points or card.points, settings.seed)


@dataclass(frozen=True)
class _CloudSamples:
    store: CloudStore

    def __len__(self) -> int:
        return len(self.store)

    def patients(self) -> list[str]:
        return [entry.patient or entry.id for entry in self.store.entries]


@dataclass(frozen=True)
class CloudProbe:
    """What encoders of clouds are asked. See `medssl.domains.domain.Probed`.

    Attributes:
        asked: In words.
        classes: The classes.
        names: The same by their numbers in the store.
        plan: Points taken of each cloud.
        draws: Of its points, where it has more, that a vector is the mean of.
        again: Such means, each of other points, one for each draw of labelled objects.
        batch_size: Clouds that go through an encoder at once.
        seed: Of the points.
    """

    asked: str
    classes: tuple[str, ...]
    names: Mapping[int, str]
    plan: CloudPlan
    draws: int
    again: int
    batch_size: int
    seed: int

    def class_of(self, entry: CloudEntry) -> str | None:
        """Return the class of a cloud."""
        return None if entry.label is None else self.names.get(entry.label)

    def samples(self, store: CloudStore) -> _CloudSamples:
        """Return the clouds."""
        return _CloudSamples(store)

    def features(
        self, encoder: nn.Module, card: Card, samples: _CloudSamples, progress: Callable[[int], None]
    ) -> Features:
        """Return one vector a cloud, the mean over draws of its points; and the same of other points."""
        import numpy as np

        from pointcloud.embedding import drawing_words, embed_drawn
        from pointcloud.encoders.contract import CloudEncoder

        assert isinstance(encoder, CloudEncoder)
        entries, places = samples.store.entries, list(self.names)
        drawn, *again = embed_drawn(
            encoder.eval(),
            samples.store,
            self.plan,
            batch_size=self.batch_size,
            seed=self.seed,
            draws=self.draws,
            times=self.again,
            progress=progress,
        )
        return Features(
            keys=tuple(f"{entry.id}:" for entry in entries),
            patients=tuple(samples.patients()),
            truth=np.array([places.index(int(entry.label or 0)) for entry in entries], dtype=np.int64),
            vectors=drawn.vectors,
            note=drawing_words(drawn),
            again=tuple(each.vectors for each in again),
        )


POINTS = Points()
