"""One vector a cloud: the mean over draws of its points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from medssl.domains.vectors import Ready, Vectors
from medssl.engine.card import Card
from medssl.exporting.features import CLASS, FeatureTable
from pointcloud.batch import CloudPlan
from pointcloud.embedding import drawing_words, embed_drawn, load_cloud_encoder
from pointcloud.store import CloudStore

__all__ = ["VECTORS", "CloudVectors"]


class CloudVectors(Vectors):
    """Clouds."""

    own = ("points", "point_draws")

    def ready(self, run: Path, card: Card, store: CloudStore, settings: Any, device: torch.device) -> Ready:
        """Return what embeds clouds."""
        encoder = load_cloud_encoder(run).to(device)
        points = settings.points or card.points

        def embed(done: Callable[[int], None]) -> tuple[FeatureTable, str]:
            (drawn,) = embed_drawn(
                encoder,
                store,
                CloudPlan(points=points),
                batch_size=settings.batch_size,
                draws=settings.point_draws,
                progress=done,
            )
            entries = store.entries
            classes = [{} if e.label is None else {CLASS: store.classes.get(e.label, str(e.label))} for e in entries]
            table = FeatureTable(
                ids=tuple(e.id for e in entries),
                patients=tuple(e.patient for e in entries),
                splits=tuple(e.split for e in entries),
                modalities=("",) * len(entries),
                windows=(1,) * len(entries),
                vectors=drawn.vectors,
                targets=tuple(classes),
            )
            return table, drawing_words(drawn)

        return Ready(f"{len(store)} clouds, {points or 'all'} points of each; vectors of the encoder of {run}", embed)


VECTORS = CloudVectors()
