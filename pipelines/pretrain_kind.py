"""What pretraining asks of a kind of data, and the split into what is trained on and what is only probed."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from lightning_fabric import Fabric
from torch import nn

from medssl.batch import Batch
from medssl.engine.card import Card
from medssl.engine.loop import Loader
from medssl.engine.run import Run
from medssl.errors import CacheError, DataError
from medssl.methods.contract import Method
from medssl.quoting import quoted
from medssl.randomness import numpy_generator
from medssl.settings import Resolved
from pipelines.pretrain_settings import DataSettings, PretrainSettings

__all__ = ["Chosen", "Kind", "choose_items", "data_facts"]

_HELD_OUT = 7  # a counter that keeps these draws apart from all others


class Items(Protocol):
    """A store of scans or of clouds; an entry has an id, a file, a patient and a split."""

    folder: Path

    @property
    def entries(self) -> Sequence[Any]:
        """What it holds."""
        ...

    def subset(self, ids: Iterable[str]) -> Self:
        """Return the store of these alone."""
        ...


@dataclass(frozen=True)
class Chosen:
    """The scans or clouds of a run: those that are trained on, and those that are only probed."""

    train: Any
    held_out: Any | None


class Kind(ABC):
    """A kind of data, with the settings of a run.

    Attributes:
        noun: What an item is called: "scans".
        other: Of the other kind: what an item is called, the file that tells its store, and a method for it.
    """

    noun: ClassVar[str]
    other: ClassVar[tuple[str, str, str]]

    def __init__(self, settings: PretrainSettings) -> None:
        self.settings = settings

    def open(self) -> Items:
        """Open the store that the settings name.

        Raises:
            CacheError: There is none, it is damaged, or it is of the other kind.
        """
        folder = self.settings.data.store
        try:
            return self.store(folder)
        except CacheError as error:
            found, index, fitting = self.other
            if not (Path(folder) / index).is_file():
                raise
            raise CacheError(
                f"{folder} holds {found}, and the method '{self.settings.method.name}' is for {self.noun}. Take one "
                f"for {found}, such as {fitting}; see them with: medssl list methods"
            ) from error

    @abstractmethod
    def store(self, folder: str) -> Items:
        """Open a store of this kind."""

    def fitted(self, resolved: Resolved[PretrainSettings], store: Any) -> Resolved[PretrainSettings]:
        """Return the settings with what the store decides, and go on with them."""
        return resolved

    def as_input(self, chosen: Chosen, *, start: Path | None, resumed: Path | None) -> Chosen:
        """Return the items as the network's input, which the run it starts from or goes on with may decide."""
        return chosen

    def record(self, run: Run, chosen: Chosen) -> None:
        """Write into the run's folder what going on with it must know."""
        return

    @abstractmethod
    def encoder(self) -> nn.Module:
        """Return a fresh encoder."""

    @abstractmethod
    def method(self, encoder: nn.Module) -> Method:
        """Return the method around an encoder."""

    def shown(self, method: Method, train: Any) -> None:
        """Tell a method how its pictures show what is trained on."""
        return

    @abstractmethod
    def loader(self, train: Any, plan: Any, fabric: Fabric) -> Loader:
        """Return this process's batches of what is trained on."""

    @abstractmethod
    def held_out(self, store: Any, plan: Any) -> Sequence[Batch]:
        """Return what is only probed, in batches."""

    def probe(self, chosen: Chosen, plan: Any) -> Callable[[Method], Mapping[str, float]] | None:
        """Return what is measured beside the method's own probe; None where nothing is."""
        return None

    @abstractmethod
    def data_words(self, train: Any) -> str:
        """Return what the items are, for the line that names the store."""

    def doubts(self, train: Any, plan: Any) -> list[str]:
        """Return what is doubtful about reading these items by such windows, a line each."""
        return []

    @abstractmethod
    def window_words(self, plan: Any) -> str:
        """Return what a step takes, after its number: "windows of 64 x 64 x 64"."""

    def things(self, train: Any, plan: Any) -> tuple[int, str]:
        """Return how many things an epoch goes through, and what they are called."""
        return len(train.entries), self.noun

    @abstractmethod
    def card(self, chosen: Chosen, method: Method) -> Card:
        """Return the card of the trained encoder."""

    def pictures(self, method: Method, held_out: Sequence[Batch], out: Path) -> list[Path]:
        """Draw what the trained encoder shows, into the run's folder; return the files."""
        return []

    def next_command(self, out: str, entries: Sequence[Any]) -> tuple[str, str]:
        """Return the command that a user may want after pretraining; or what must be there first, and the command.

        Args:
            out: The run.
            entries: All that the store holds.
        """
        store = self.settings.data.store
        masks = any(entry.label_file is not None for entry in entries)
        if not masks and not any(entry.targets for entry in entries):
            later = f"medssl finetune {quoted(out)} --data STORE --out {quoted(f'{out}-tuned')}"
            return "", f"once a STORE of labelled scans is there (index and cache them as these): {later}"
        task = "segmentation" if masks else "classification"
        told = f"medssl finetune {quoted(out)} --data {quoted(store)} --task {quoted(task)} "
        return f"{told}--out {quoted(f'{out}-{task}')}", ""


def choose_items(store: Items, data: DataSettings, *, seed: int, noun: str = "scans") -> Chosen:
    """Return what is trained on and what is held out; no patient is in both.

    Raises:
        DataError: Nothing is in the splits that are trained on.
    """
    train = [e for e in store.entries if e.split in data.splits]
    held_out = [e for e in store.entries if e.split == data.held_out_split and e.split not in data.splits]
    if not held_out and data.held_out_share:
        patients = sorted({e.patient or e.id for e in train})
        if len(patients) >= 20:
            order = numpy_generator(seed, 0, 0, _HELD_OUT).permutation(len(patients))
            chosen = {patients[i] for i in order[: max(1, round(data.held_out_share * len(patients)))]}
            held_out = [e for e in train if (e.patient or e.id) in chosen]
            train = [e for e in train if (e.patient or e.id) not in chosen]
    if not train:
        counts = dict(Counter(e.split or "unassigned" for e in store.entries))
        raise DataError(
            f"{store.folder}: no {noun.removesuffix('s')} is in the splits {list(data.splits)} (data.splits); the "
            f"store has {counts}."
        )
    if data.held_out_scans < len(held_out):
        order = numpy_generator(seed, 1, 0, _HELD_OUT).permutation(len(held_out))
        held_out = [held_out[i] for i in sorted(order[: data.held_out_scans])]
    return Chosen(
        train=store.subset([e.id for e in train]),
        held_out=store.subset([e.id for e in held_out]) if held_out else None,
    )


def data_facts(chosen: Chosen, noun: str) -> dict[str, Any]:
    """Return what a card says of the data: counts, how the store was made, and its fingerprint."""
    entries = chosen.train.entries
    stored = "\n".join(sorted(f"{e.id} {' '.join(getattr(e, 'files', (e.file,)))}" for e in entries))
    return {
        noun: len(entries),
        "patients": len({e.patient or e.id for e in entries}),
        "held_out": 0 if chosen.held_out is None else len(chosen.held_out),
        "store_settings": chosen.train.settings,
        "fingerprint": hashlib.sha256(stored.encode()).hexdigest(),
    }
