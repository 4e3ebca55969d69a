"""The domain of scans: volumes of one channel or several, on a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medssl.domains.domain import Domain, Features
from medssl.domains.labels import StoreLabels
from medssl.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from medssl.domains.dense import Dense
    from medssl.domains.task import Task
    from medssl.engine.card import Card
    from medssl.store.entry import Entry
    from medssl.store.read import Store
    from medssl.tasks.class_samples import Samples
    from medssl.tasks.class_settings import ClassificationSettings

_BATCH = 8
__all__ = ["VOLUMES", "ScanProbe", "Volumes", "start_doubts"]


class Volumes(Domain):
    """Scans."""

    name = "volumes"
    noun = "scan"
    owner = "patient"
    kind = "volume"
    listing = "store.json"
    recipes: ClassVar[Mapping[str, str | None]] = {"segmentation": None, "classification": None}
    parts: ClassVar[Mapping[str, str]] = {
        "methods": "medssl.methods.table.METHODS",
        "encoders": "medssl.encoders.table.ENCODERS",
        "tasks": "medssl.tasks.table.TASKS",
        "training": "medssl.volumes.training.TRAINING",
        "new_items": "medssl.volumes.predicting.NEW_ITEMS",
        "vectors": "medssl.volumes.vectors.VECTORS",
        "exporting": "medssl.volumes.exports.EXPORTS",
        "deciding": "medssl.volumes.deciding.ScanDeciding",
    }
    repools = True

    @property
    def fallback(self) -> Task | None:
        """Segmentation: a folder of label maps says nothing more of itself."""
        return self.task("segmentation")

    def open(self, folder: str | Path) -> Store:
        """Open a store of scans."""
        from medssl.store.read import Store

        return Store.open(folder)

    def labels_of(self, store: Store) -> StoreLabels:
        """Return how many scans have label maps, and the targets."""
        found: dict[str, set[str]] = {}
        for entry in store.entries:
            for name, label in entry.targets:
                found.setdefault(name, set()).add(label)
        classes = {name: tuple(sorted(labels)) for name, labels in sorted(found.items())}
        drawn = sum(entry.label_file is not None for entry in store.entries)
        return StoreLabels(store.folder, self.noun, drawn, classes)

    def check_inputs(self, card: Card, store: Store, run: Path) -> None:
        """Refuse an encoder of other channels."""
        from medssl.volumes.channels import same_channels

        same_channels(card, store, run=run)

    def doubts(self, card: Card, entries: Sequence[Any]) -> list[str]:
        """Return how scans differ from what an encoder was pretrained on."""
        return start_doubts(card, entries)

    def start_words(self, card: Card, store: Store, run: Path) -> str:
        """Return whether the weights saw other channels."""
        from medssl.volumes.channels import start_channels

        return start_channels(card, store.channels, run=run)

    def encoder(self, run: Path) -> nn.Module:
        """Return a run's encoder."""
        from medssl.engine.card import load_encoder

        return load_encoder(run)

    def probed(self, store: Store, settings: Any, card: Card) -> ScanProbe:
        """Return the classes of a target, or whether a structure is shown."""
        from medssl.tasks.class_samples import class_names
        from medssl.tasks.class_settings import ClassificationSettings

        own = settings.scans
        window = own.window or card.window
        if window is None:
            raise ConfigError("The card of the run names no window. Set one with probe.scans.window=[z,y,x].")
        looked = ClassificationSettings(
            target=own.target, shows=own.shows, classes=own.classes, level=own.level, window=window, fit=own.fit
        )
        what = own.target or f"whether a {'slice' if own.level == 'slice' else 'scan'} shows structure {own.shows}"
        classes = class_names(store, looked, group="probe.scans")
        return ScanProbe(what, classes, looked, own.levels, settings.batch_size or _BATCH)

    def dense(self, store: Store, settings: Any, card: Card) -> Dense:
        """Return the voxels of windows."""
        from medssl.encoders.table import build_encoder
        from medssl.tasks.dense_samples import scan_places

        return scan_places(
            store,
            card,
            window=settings.window,
            windows=settings.windows,
            count=settings.count,
            seed=settings.seed,
            encoder=build_encoder(card.encoder),
        )


@dataclass(frozen=True)
class ScanProbe:
    """What encoders of scans are asked. See `medssl.domains.domain.Probed`.

    Attributes:
        asked: In words.
        classes: The classes.
        looked: How a classifier would look at the scans.
        levels: "coarsest", or "all" of the pyramid.
        batch_size: Windows that go through an encoder at once.
    """

    asked: str
    classes: tuple[str, ...]
    looked: ClassificationSettings
    levels: Any
    batch_size: int

    def class_of(self, entry: Entry) -> str | None:
        """Return the class of a scan."""
        from medssl.tasks.class_samples import class_of_scan

        return class_of_scan(entry, self.looked)

    def samples(self, store: Store) -> Samples:
        """Return the scans or slices of known class."""
        from medssl.tasks.class_samples import samples_of

        return samples_of(store, self.looked, self.classes).known()

    def features(self, encoder: nn.Module, card: Card, samples: Samples, progress: Callable[[int], None]) -> Features:
        """Return one vector a scan, or a slice."""
        import numpy as np
        import torch

        from medssl.encoders.contract import Encoder
        from medssl.store.normalised import normalised_as
        from medssl.tasks.class_features import class_features

        assert isinstance(encoder, Encoder)
        seen = replace(samples, store=normalised_as(samples.store, card.inputs_known))
        found = class_features(
            encoder,
            seen,
            self.looked,
            levels=self.levels,
            batch_size=self.batch_size,
            device="cuda" if torch.cuda.is_available() else "cpu",
            progress=progress,
        )
        return Features(found.keys, found.patients, found.truth, np.asarray(found.vectors))


def start_doubts(card: Card, entries: Sequence[Entry]) -> list[str]:
    """Return how scans, made input as they shall be, differ from what an encoder was pretrained on.

    Args:
        card: The encoder's.
        entries: The scans that are trained on.
    """
    import numpy as np

    from medssl.store.fitting import store_misfits
    from medssl.store.normalised import scale_doubts

    doubts = [] if card.origin is None else store_misfits(card, entries)
    here = np.mean([e.spacing_mm for e in entries], axis=0)
    if card.spacing_mm is not None and card.origin is None:
        ratio = np.maximum(here / np.array(card.spacing_mm), np.array(card.spacing_mm) / here).max()
        if ratio > 1.5:
            theirs, ours = (" x ".join(f"{v:.3g}" for v in s) for s in (card.spacing_mm, here))
            doubts.append(f"doubtful: the encoder was pretrained at {theirs} mm, and the store has {ours} mm")
    schemes = {scheme for e in entries[:1] for scheme in e.schemes}
    if schemes != set(card.schemes):
        wanted, given = ", ".join(card.schemes), ", ".join(sorted(schemes))
        doubts.append(f"doubtful: the encoder was pretrained on input of {wanted}, and data.normalise makes it {given}")
    else:
        doubts += [
            f"doubtful: in the input that the encoder was pretrained on, 0 and 1 are {said}; medssl cache ... "
            f"'ct_scale=[{card.scale[0]:g},{card.scale[1]:g}]' makes them the same"
            for said in scale_doubts(entries, card.inputs_known)
        ]
    modalities = {kind for e in entries for kind in e.modalities}
    if card.modality and not modalities & set(card.modality.split("+")):
        doubts.append(f"doubtful: the encoder was pretrained on {card.modality}, the store is {'+'.join(modalities)}")
    return doubts


VOLUMES = Volumes()
