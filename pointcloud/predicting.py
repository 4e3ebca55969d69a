"""New clouds as a run predicts them: their class and differences, and a store of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.domains.predicting import Asked, Inputs, Item, NewItems, Prepared, Row, Takes, alone, shown_of
from medssl.engine.card import Card
from medssl.errors import ConfigError
from medssl.manifest.freshness import file_hash
from pointcloud.store import CloudEntry, CloudStore
from pointcloud.storing import CloudStoreSettings, cloud_alone
from pointcloud.tasks.prediction import CloudClassPredictor, PartPredictor

__all__ = ["NEW_ITEMS", "CloudWorker", "NewClouds"]


class NewClouds(NewItems):
    """Clouds."""

    def wanted(self, takes: Takes, settings: Any) -> tuple[str, ...]:
        """Return no channels: clouds have none."""
        if settings.channels != "auto":
            raise ConfigError(f"channels={settings.channels}: {takes.run} takes clouds. Leave it out.")
        return ()

    def sorted(self, rows: Sequence[Row], asked: Asked, found: Inputs) -> None:
        """Make an item of each cloud, of the class that is named where one is."""
        manifest, named = asked.manifest, asked.settings.cloud_class
        told = {"targets": json.dumps({"class": named})} if named else {}
        for one in rows:
            row = {**one, **told}
            found.items.append(Item(row["id"], shown_of(row, manifest), alone([{**row, "case": ""}], (), manifest)))

    def worker(self, predictor: Any, card: Card) -> CloudWorker:
        """Return how clouds are predicted."""
        return CloudWorker(predictor, card)

    def of_array(
        self, values: Any, work: Path, takes: Takes, *, affine: Any, spacing_mm: Sequence[float] | None, modality: str
    ) -> Path:
        """Write a cloud (N, 3)."""
        if values.ndim != 2 or values.shape[1] != 3:
            raise ConfigError(f"A cloud is an array (N, 3). Got one of shape {values.shape}.")
        np.save(work / "cloud.npy", values, allow_pickle=False)
        return work / "cloud.npy"


class CloudWorker:
    """Clouds.

    Args:
        predictor: What predicts.
        card: The first run's card.
    """

    def __init__(self, predictor: CloudClassPredictor | PartPredictor, card: Card) -> None:
        said = dict(card.data.get("store_settings", {}))
        known = {name: value for name, value in said.items() if name in CloudStoreSettings.model_fields}
        self._predictor, self._card = predictor, card
        self._settings = CloudStoreSettings.model_validate(known)

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


def cloud_differences(entry: CloudEntry, card: Card, *, told: bool, kept: int) -> tuple[str, ...]:
    """Return how a stored cloud differs from those of a run.

    Args:
        entry: The cloud, as stored.
        card: The run's card.
        told: Whether the network is told the cloud's class.
        kept: Most points that the training store kept of a cloud.
    """
    said = []
    units = card.unit.split("+") if card.unit else []
    if units and "unknown" not in units and entry.unit != "unknown" and entry.unit not in units:
        said.append(f"unit {entry.unit}; trained on {card.unit} (shapes are scaled to one size)")
    if told and entry.label is None:
        said.append("nothing says its class, which the network is told in training; cloud_class=NAME does")
    if card.points and entry.points < card.points / 2:
        said.append(f"{entry.points} points; trained on {card.points} at a time")
    if entry.points > kept:
        said.append(f"{entry.points} points, more than the {kept} that training kept; all get a part")
    return tuple(said)


NEW_ITEMS = NewClouds()
