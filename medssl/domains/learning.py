"""What fine-tuning does alike for every task on every kind of data, and what a task adds to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from lightning_fabric import Fabric
from torch import nn

from medssl.batch import Batch
from medssl.domains.choosing import Labelled, choose_labelled
from medssl.domains.training import Trained, Training
from medssl.engine.card import Card, load_card
from medssl.engine.carrying import carry_encoder
from medssl.engine.initialization import random_initialization
from medssl.engine.loop import Loader
from medssl.engine.run import Run
from medssl.engine.transfer import TransferReport
from medssl.methods.contract import Method

__all__ = ["Finished", "Learning", "Told"]


class _Bar(Protocol):
    def advance(self, *, note: str = "") -> None:
        """Count one more."""
        ...


class Told(Protocol):
    """Who hears what is done meanwhile."""

    def warning(self, text: str) -> None:
        """Hear that something was left out or is doubtful."""
        ...

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, key: str = "") -> None:
        """Hear a table."""
        ...

    def progress(self, total: int | None, what: str) -> AbstractContextManager[Any]:
        """Hear of long work, step by step."""
        ...


@dataclass(frozen=True)
class Finished:
    """What a fine-tuning run left behind.

    Attributes:
        predictions: The files that were written.
        shown: What the last line names, None where nothing was predicted.
        scores: Scores on the held-out items, None where there are none.
        named: What they are called in the JSON object of the verb.
    """

    predictions: tuple[Path, ...]
    shown: Path | None
    scores: dict[str, float] | None
    named: str = "scores"


class Learning(ABC):
    """One fine-tuning run.

    Args:
        task: What is learned, a `Task`.
        domain: Of which data, a `Domain`.
        settings: Of ``finetune``.
        store: All items, as the network's input.

    Raises:
        ConfigError: Settings do not fit the store.
        DataError: Nothing is left to train on.
        TransferError: Too little of the pretrained encoder fits.

    Attributes:
        lacking: What an item without labels lacks.
        every_held_out: Whether all held-out items are scored meanwhile.
        verb: What is done to items that are predicted.
        items: The items by use.
        entries: Those that are trained on.
        method: What is trained.
        reports: What became of the pretrained weights.
    """

    lacking: ClassVar[str] = "labels"
    left_word: ClassVar[str] = "labels"
    every_held_out: ClassVar[bool] = True
    verb: ClassVar[str] = "predict"

    def __init__(self, task: Any, domain: Any, settings: Any, store: Any) -> None:
        self.task, self.domain, self.settings, self.store = task, domain, settings, store
        self.training: Training = domain.training
        self.items: Labelled[Any] = choose_labelled(
            store,
            settings.data,
            class_of=task.labels(store, settings).class_of,
            noun=domain.noun,
            wanted=self.lacking,
            every_held_out=self.every_held_out,
        )
        self.entries: Sequence[Any] = self.items.train.entries
        self.prepare()
        with random_initialization(settings.train.seed):
            encoder = self.training.encoder(settings.encoder)
            self.method = self.network(encoder)
        self.reports: list[TransferReport] = [
            *carry_encoder(settings.transfer, encoder, getattr(store, "channels", None)),  # clouds have no channels
            *self.carried(),
        ]
        self.training.shown(self.method, store)

    def prepare(self) -> None:
        """Look at the items before the network is built."""
        return

    @abstractmethod
    def network(self, encoder: Any) -> Method:
        """Return what is trained, around a fresh encoder."""

    def carried(self) -> list[TransferReport]:
        """Carry over what a pretraining run has beside the encoder."""
        return []

    def loader(self, *, rank: int, world_size: int, pin: bool) -> Loader:
        """Return this rank's batches."""
        return self.training.loader(
            self.items.train, self.method.plan, self.settings, rank=rank, world_size=world_size, pin=pin
        )

    def held_out(self) -> Sequence[Batch]:
        """Return batches that are only looked at."""
        if self.items.held_out is None:
            return []
        return self.training.held_out(self.items.held_out, self.method.plan, self.settings)

    @property
    def seen(self) -> str:
        """What the network sees at once, after a number: "windows of 64 x 96 x 96"."""
        return self.training.window_words(self.method.plan, self.settings)

    @property
    @abstractmethod
    def words(self) -> str:
        """What the network is: "classifier of 3 classes"."""

    @property
    def built(self) -> str:
        """What stands behind its encoder."""
        return ""

    @property
    def learned(self) -> str:
        """What stands at the end: what it learns."""
        return ""

    def counted(self, patients: int) -> str:
        """Return how many items of how many patients are trained on."""
        return f"{len(self.entries)} {self.domain.noun}s of {patients} patients"

    def lines(self) -> tuple[str, str]:
        """Return what is said of the data and of the network before the run."""
        items, settings, data = self.items, self.settings, self.settings.data
        patients = len({e.patient or e.id for e in self.entries})
        few = f" (draw {data.draw} of {data.labels} labelled {self.domain.owner}s)" if data.labels else ""
        watched = f"{len(items.held_out)} held out" if items.held_out else "none held out"
        predicted = f"{len(items.predict)} to {self.verb}" if items.predict else f"none to {self.verb}"
        left = f"; {items.left_out} without {self.left_word} left out" if items.left_out else ""
        start = f"{', '.join(r.part for r in self.reports)} of {settings.transfer.run}" if self.reports else "scratch"
        count = sum(p.numel() for p in self.method.parameters())
        return (
            f"store: {data.store}: {self.counted(patients)}{few}; {watched}, {predicted}{left}"
            f"{self.training.input_words(self.entries)}",
            f"{self.words}: {settings.encoder.name} encoder{self.built}, {count:,} parameters, from {start}"
            f"{self.learned}",
        )

    def doubts(self) -> list[str]:
        """Return how the data differ from what the encoder was pretrained on, where that is worth a thought."""
        chosen = self.settings.transfer
        if not chosen.run or chosen.from_scratch:
            return []
        found: list[str] = self.domain.doubts(load_card(Path(chosen.run)), self.entries)
        return found

    @abstractmethod
    def described(self, start: str) -> dict[str, Any]:
        """Return what a card's ``method`` holds of a network that started from the weights of run ``start``."""

    def card(self, start: str) -> Card:
        """Return the card of a network that started from the weights of run ``start``."""
        domain, settings = self.domain, self.settings
        facts = {
            f"{domain.noun}s": [e.id for e in self.entries],
            "patients": len({e.patient or e.id for e in self.entries}),
            "store_settings": self.store.settings,
            **self.training.tuned_facts(self.entries, settings),
        }
        trained = Trained(
            encoder=self.method.encoder,
            entries=self.entries,
            settings=settings,
            plan=self.method.plan,
            method=self.described(start),
            data=facts,
            citation=[domain.encoders[settings.encoder.name].paper],
        )
        return self.training.card(trained)

    def exported_modules(self) -> Mapping[str, nn.Module]:
        """Return what is kept beside the encoder."""
        return self.method.exported_modules()

    @abstractmethod
    def finish(self, out: Path, run: Run, fabric: Fabric, told: Told) -> Finished:
        """Predict and score; every rank does its part."""
