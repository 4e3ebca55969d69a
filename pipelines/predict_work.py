"""Predicting one item: made into a store of its own as the training store was made, predicted, written."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medssl.engine.card import Card
from medssl.manifest.freshness import file_hash
from medssl.prediction import Target, Wanted, Written
from medssl.store.alone import Recipe, job_alone, recipe_of, store_alone
from medssl.store.normalised import normalised_as
from medssl.store.prepare import Job
from medssl.tasks.classification_prediction import ClassificationPredictor
from medssl.tasks.segmentation_prediction import SegmentationPredictor
from pipelines.predict_differences import cloud_differences, scan_differences
from pipelines.predict_inputs import Item
from pipelines.predict_runs import Predicting
from pointcloud.store import CloudStore
from pointcloud.storing import CloudStoreSettings, cloud_alone
from pointcloud.tasks.prediction import CloudClassPredictor, PartPredictor

__all__ = ["Clouds", "Prepared", "Scans", "Worker", "cleared", "target_of", "worker_of"]


@dataclass(frozen=True)
class Prepared:
    """An item as the network sees it.

    Attributes:
        entry: What its store says of it.
        predicted: Predicts it; called once.
        differs: How it differs from what was trained on.
        write: Writes what was predicted.
    """

    entry: Any
    predicted: Callable[[], Any]
    write: Callable[[Any, Target], Written]
    differs: tuple[str, ...]


class Worker(Protocol):
    """How items of a kind are predicted."""

    def key(self, item: Item) -> str:
        """Return a hash of an item's bytes and of how it is prepared."""
        ...

    def prepare(self, item: Item, folder: Path) -> Prepared:
        """Read an item and store it in ``folder``.

        Raises:
            MedSSLError: It cannot be read, or is not fit to be predicted.
        """
        ...


class Scans:
    """Scans and cases.

    Args:
        predictor: What predicts.
        card: The first run's card.
        recipe: How the training store was made.
        seen: What the files that it was trained on were like.
    """

    def __init__(
        self,
        predictor: SegmentationPredictor | ClassificationPredictor,
        card: Card,
        recipe: Recipe,
        seen: Mapping[str, Any],
    ) -> None:
        self._predictor, self._card, self._recipe, self._seen = predictor, card, recipe, seen

    def key(self, item: Item) -> str:
        """Return the hash of its bytes and settings that a store names its version by."""
        return self._job(item).key

    def prepare(self, item: Item, folder: Path) -> Prepared:
        """Read, turn, resample and scale it as the training store did."""
        store, record = store_alone(folder, self._job(item))
        store = normalised_as(store, self._card.inputs_known)
        differs = scan_differences(store.entries[0], self._card, self._recipe, self._seen, record.flags)
        if _names_nobody(item) and isinstance(self._predictor, SegmentationPredictor):
            differs = (*differs, "written as NIfTI: a DICOM SEG names the patient, and the manifest has pseudonyms")
        return Prepared(
            entry=store.entries[0],
            predicted=lambda: self._predictor.predict(store, 0),
            write=lambda found, target: self._predictor.write(found, store, 0, target),
            differs=(*item.said, *differs),
        )

    def _job(self, item: Item) -> Job:
        return job_alone(item.manifest, self._recipe, channels=item.channels)


class Clouds:
    """Clouds.

    Args:
        predictor: What predicts.
        card: The first run's card.
        settings: How the training store was made.
    """

    def __init__(
        self, predictor: CloudClassPredictor | PartPredictor, card: Card, settings: CloudStoreSettings
    ) -> None:
        self._predictor, self._card, self._settings = predictor, card, settings

    def key(self, item: Item) -> str:
        """Return a hash of its bytes, of its place in its file, and of what is said of it."""
        row = item.row
        content = [row["file_hash"] or file_hash([Path(p) for p in row["paths"]], ordered=True), row["item"]]
        content += [row["length_unit"], row["targets"], self._settings.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def prepare(self, item: Item, folder: Path) -> Prepared:
        """Read it; of parts whole, of classes as the training store kept it."""
        predictor, whole = self._predictor, self._predictor.whole
        store: CloudStore = cloud_alone(folder, item.row, self._settings, whole=whole, classes=predictor.classes)
        told = isinstance(predictor, PartPredictor) and predictor.told
        differs = cloud_differences(store.entries[0], self._card, told=told, kept=self._settings.points)
        return Prepared(
            entry=store.entries[0],
            predicted=lambda: predictor.predict(store, 0),  # type: ignore[return-value]
            write=lambda found, target: predictor.write(found, store, 0, target),
            differs=(*item.said, *differs),
        )


def worker_of(runs: Predicting) -> Worker:
    """Return how the items of some runs are predicted."""
    predictor = runs.predictor
    if isinstance(predictor, SegmentationPredictor | ClassificationPredictor):
        return Scans(predictor, runs.card, recipe_of(runs.store_settings), runs.seen)
    known = {name: value for name, value in runs.store_settings.items() if name in CloudStoreSettings.model_fields}
    return Clouds(predictor, runs.card, CloudStoreSettings.model_validate(known))


def target_of(item: Item, folder: Path, stem: str, wanted: Wanted) -> Target:
    """Return where the files of an item go."""
    row = item.row
    return Target(
        folder=folder,
        stem=stem,
        source=Path(row["path"]),
        sources=tuple(Path(path) for path in row["paths"]),
        format="nifti" if _names_nobody(item) else str(row["format"]),
        item=int(row["item"] or 0),
        wanted=wanted,
    )


def _names_nobody(item: Item) -> bool:
    """Tell a series whose patient must not be named, as a DICOM SEG of it would."""
    return item.pseudonymous and str(item.row["format"]) == "dicom"


def cleared(folder: Path) -> Path:
    """Return an empty folder for the store of one item."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
