"""Training on point clouds: their batches, encoders, methods and cards, and the neighbours of held-out clouds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from medssl.batch import Batch
from medssl.command import Command
from medssl.domains.choosing import Chosen
from medssl.domains.groups import grouping
from medssl.domains.training import Trained, Training
from medssl.engine.card import Card
from medssl.evaluation.probes import class_probe
from medssl.methods.contract import Method
from medssl.randomness import numpy_generator
from medssl.settings import Settings
from medssl.step_loader import Order, order_of
from pointcloud.attention import draw_attention
from pointcloud.batch import CloudBatch, CloudPlan
from pointcloud.embedding import embed_clouds
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.encoders.vit import PointViT
from pointcloud.loading import CloudLoader, held_out_clouds
from pointcloud.methods.table import CLOUD_METHODS
from pointcloud.store import CloudEntry, CloudStore

__all__ = ["TRAINING", "CloudTraining"]

_BANK = 8  # a counter that keeps these draws apart from all others


class CloudTraining(Training):
    """Point clouds, so many points of each a step."""

    def encoder(self, settings: Settings | Mapping[str, Any]) -> CloudEncoder:
        """Return a fresh encoder of clouds."""
        found: CloudEncoder = CLOUD_ENCODERS.build(settings)
        return found

    def method(self, settings: Any, encoder: nn.Module) -> Method:
        """Return the method around an encoder of clouds."""
        found: Method = CLOUD_METHODS.build(settings.method, encoder)
        return found

    def loader(
        self, train: CloudStore, plan: CloudPlan, settings: Any, *, rank: int, world_size: int, pin: bool
    ) -> CloudLoader:
        """Return this process's clouds."""
        order: Order = {
            **order_of(settings.train, rank=rank, world_size=world_size, pin=pin),
            **grouping(settings.data, train),
        }
        return CloudLoader(
            train,
            plan,
            **order,
        )

    def held_out(self, store: CloudStore, plan: CloudPlan, settings: Any) -> Sequence[Batch]:
        """Return the clouds that are only looked at, the same points of each every time."""
        return held_out_clouds(store, plan, settings.train.batch_size, settings.train.seed)

    def probe(
        self, chosen: Chosen[CloudStore], plan: CloudPlan, settings: Any
    ) -> Callable[[Method], Mapping[str, float]] | None:
        """Return how often a held-out cloud's class is that of its neighbours; None where too few have a class."""
        seed, size = settings.train.seed, settings.train.batch_size
        known = [e for e in chosen.train.entries if e.label is not None]
        order = numpy_generator(seed, 0, 0, _BANK).permutation(len(known))[: settings.data.neighbours_from]
        bank = [known[i] for i in sorted(order.tolist())]
        if chosen.held_out is None or len({e.label for e in bank}) < 2:
            return None
        asked = [e for e in chosen.held_out.entries if e.label is not None]
        if not asked:
            return None
        parts = [
            held_out_clouds(store.subset([e.id for e in entries]), CloudPlan(points=plan.points), size, seed)
            for store, entries in ((chosen.train, bank), (chosen.held_out, asked))
        ]

        classes = np.unique([e.label for e in (*bank, *asked)], return_inverse=True)[1].astype(np.int64)

        def measure(method: Method) -> Mapping[str, float]:
            assert isinstance(method.encoder, CloudEncoder)
            fitted, wanted = (embed_clouds(method.encoder, part) for part in parts)
            if not (np.isfinite(fitted).all() and np.isfinite(wanted).all()):
                return {}  # the guards of the loop will say what is wrong
            found = class_probe(
                fitted, classes[: len(bank)], [e.id for e in bank], wanted, how="knn-20", classes=int(classes.max()) + 1
            )
            truth = classes[len(bank) :]
            return {
                "knn_accuracy": float((found.predicted == truth).mean()),
                "chance/knn_accuracy": float(np.bincount(truth).max() / len(truth)),
            }

        return measure

    def data_words(self, train: CloudStore) -> str:
        """Return how many points the clouds have, in which unit, and how many classes."""
        counts = [e.points for e in train.entries]
        units = "+".join(sorted({e.unit for e in train.entries}))
        points = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
        classes = len({e.label for e in train.entries if e.label is not None})
        return f"{points} points, unit {units}, {classes or 'no'} classes"

    def window_words(self, plan: CloudPlan, settings: Any) -> str:
        """Return how many points of a cloud a step sees."""
        return f"clouds of {plan.points or 'all their'} points"

    def card(self, trained: Trained) -> Card:
        """Return the card of an encoder of clouds."""
        encoder, settings = trained.encoder, trained.settings
        assert isinstance(encoder, CloudEncoder)
        return Card(
            kind="cloud",
            encoder=settings.encoder.model_dump(mode="json"),
            in_channels=3,
            channels=encoder.channels,
            points=trained.plan.points,
            unit="+".join(sorted({e.unit for e in trained.entries})),
            method=dict(trained.method),
            steps=settings.train.steps,
            batch_size=settings.train.batch_size,
            data=dict(trained.data),
            citation=list(trained.citation),
        )

    def pictures(self, method: Method, held_out: Sequence[Batch], out: Path) -> list[Path]:
        """Draw where a transformer looks on the first held-out clouds; nothing for other encoders."""
        if not held_out or not isinstance(method.encoder, PointViT):
            return []
        batch = held_out[0]
        assert isinstance(batch, CloudBatch)
        batch = batch.rows(0, min(8, len(batch.count))).to(next(method.encoder.parameters()).device)
        path = out / "attention.png"
        draw_attention(method.encoder, batch.network_input(), batch.count, path)
        return [path]

    def following(self, out: str, entries: Sequence[CloudEntry], plan: Any, settings: Any) -> tuple[Command, str]:
        """Return the command that makes vectors of clouds."""
        return Command("embed", out, "--data", settings.data.store, "--out", f"{out}.parquet"), ""


TRAINING = CloudTraining()
