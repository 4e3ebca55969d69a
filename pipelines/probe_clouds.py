"""Embeddings of the labelled clouds of a store, for ``medssl evaluate --protocol probe``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from medssl.engine.card import load_card
from medssl.errors import ConfigError, DataError
from medssl.randomness import numpy_generator
from pipelines import console
from pipelines.embedded import Embedded
from pipelines.evaluate_settings import EvaluateSettings
from pointcloud.batch import CloudPlan
from pointcloud.embedding import drawing_words, embed_drawn, load_cloud_encoder
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.store import CloudEntry, CloudStore

__all__ = ["CloudProbe", "is_random", "random_encoder"]

_FRESH = 9  # a counter that keeps these draws apart from all others


def is_random(name: str) -> bool:
    """Return whether a run's name stands for random initialization: "random", or "random-N" of seed N."""
    return re.fullmatch(r"random(?:-\d+)?", name) is not None


class CloudProbe:
    """The clouds of a store that a probe is fitted on and scored on.

    Args:
        data: The store.
        settings: ``split`` is scored, "test" where None; ``probe.fit_splits`` are fitted on.

    Raises:
        DataError: No cloud with a class is in one of the parts.
    """

    def __init__(self, data: Path, settings: EvaluateSettings) -> None:
        self.settings, self.store = settings, CloudStore.open(data)
        split = settings.split or "test"
        known = [e for e in self.store.entries if e.label is not None]
        self._score = [e for e in known if e.split == split]
        scored = {e.patient or e.id for e in self._score}
        self._fit = [e for e in known if e.split in settings.probe.fit_splits and (e.patient or e.id) not in scored]
        if not self._fit or not self._score:
            counts = {name: sum(e.split == name for e in known) for name in sorted({e.split for e in known})}
            raise DataError(
                f"{data}: a probe needs clouds with a class in the splits {list(settings.probe.fit_splits)} "
                f"(probe.fit_splits) and in '{split}' (split). Clouds with a class by split: {counts or 'none'}."
            )

    @property
    def words(self) -> str:
        """What will be embedded, in words."""
        classes = len({e.label for e in self._fit})
        return f"{len(self._fit)} clouds of {classes} classes to fit on, {len(self._score)} to score"

    def embedded(self, run: Path, *, like: Path) -> Embedded:
        """Return the embeddings of a run's encoder; of "random" those of fresh weights of the encoder of ``like``.

        Raises:
            CheckpointError: The run has no finished encoder of clouds.
        """
        name = re.fullmatch(r"random(?:-(\d+))?", str(run))
        if name and not run.exists():
            encoder, card = random_encoder(like, seed=int(name[1] or 0)), load_card(like)
        else:
            encoder, card = load_cloud_encoder(run), load_card(run)
        chosen = self.settings.probe
        plan = CloudPlan(points=chosen.points or card.points)
        both = embed_drawn(
            encoder, self._subset([*self._fit, *self._score]), plan,
            batch_size=chosen.batch_size, seed=chosen.seed, draws=chosen.point_draws,
        )  # fmt: skip
        fit, score = np.split(both.vectors, [len(self._fit)])
        if told := drawing_words(both):
            console.say(f"{run.name}: {told}")
        return Embedded(
            fit=fit,
            score=score,
            fit_classes=self._classes(self._fit),
            score_classes=self._classes(self._score),
            fit_patients=tuple(e.patient or e.id for e in self._fit),
            score_patients=tuple(e.patient or e.id for e in self._score),
        )

    def _subset(self, entries: list[CloudEntry]) -> CloudStore:
        return self.store.subset([e.id for e in entries])

    def _classes(self, entries: list[CloudEntry]) -> tuple[str, ...]:
        return tuple(self.store.classes.get(int(e.label or 0), str(e.label)) for e in entries)


def random_encoder(run: Path, *, seed: int) -> CloudEncoder:
    """Return an encoder of a run's architecture with fresh weights, in evaluation mode: what no training gives.

    Raises:
        ConfigError: The run's encoder is not one of clouds.
    """
    card = load_card(run)
    if card.kind != "cloud":
        raise ConfigError(f"{run}: its encoder is one of {card.kind}s, and the store holds clouds.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(seed, 0, 0, _FRESH).integers(1 << 62)))
        encoder: CloudEncoder = CLOUD_ENCODERS.build(card.encoder)
    return encoder.eval()
