"""What a frozen encoder makes of the samples of a classifier: one vector a scan, or a slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from medssl.encoders.contract import Encoder
from medssl.encoders.pooling import finer_levels
from medssl.errors import ConfigError
from medssl.normalising import check_takes
from medssl.tasks.class_loading import Reader
from medssl.tasks.class_samples import Samples

if TYPE_CHECKING:
    from medssl.tasks.class_settings import ClassificationSettings

__all__ = ["ClassFeatures", "class_features"]


@dataclass(frozen=True)
class ClassFeatures:
    """Vectors row by row; N of them.

    Attributes:
        keys: What names each row: the scan, with the slice where a row is one.
        patients: The patient of each.
        truth: Classes, -1 where not known, (N,).
        vectors: float64, (N, D).
    """

    keys: tuple[str, ...]
    patients: tuple[str, ...]
    truth: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float64]


@torch.no_grad()
def class_features(
    encoder: Encoder,
    samples: Samples,
    settings: ClassificationSettings,
    *,
    levels: Literal["coarsest", "all"] = "all",
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda _: None,
) -> ClassFeatures:
    """Return the vector of every scan or slice, seen as a classifier sees it without augmentation.

    Slices whose class is their scan's are joined: the scan's vector is the mean of theirs.

    Args:
        encoder: Is put in evaluation mode on the device, and left there.
        samples: What is looked at.
        settings: Level, window and fit.
        levels: "coarsest" is the encoder's embedding; "all" joins the spatial means of all levels to it.
        batch_size: Samples that go through the encoder at once.
        device: Where it runs.
        progress: Told how many samples are done after each batch.

    Raises:
        ConfigError: Sets of slices are asked for, which only a trained pooling makes one of.
    """
    if settings.level == "set":
        raise ConfigError("A probe looks at scans (level=volume) or slices (level=slice); sets need a trained pooling.")
    for entry in samples.store.entries[:1]:
        check_takes(encoder, entry.schemes)
    encoder = encoder.to(device).eval()
    reader = Reader(samples, settings)
    parts = []
    for first in range(0, len(samples), batch_size):
        rows = list(range(first, min(first + batch_size, len(samples))))
        images = reader.batch(rows, rows, instances=1).to(device).network_input().flatten(0, 1)
        pyramid, pooled = encoder(images.contiguous(memory_format=torch.channels_last_3d), pooled=True)
        vectors = [pooled.double()]
        if levels == "all":
            finer = finer_levels(encoder.pooling, pyramid)
            vectors = [*(functional.adaptive_avg_pool3d(level.double(), 1).flatten(1) for level in finer), *vectors]
        parts.append(torch.cat(vectors, dim=1).cpu().numpy())
        progress(len(rows))
    found = np.concatenate(parts) if parts else np.zeros((0, encoder.embedding_dim))
    if settings.level == "slice" and settings.shows is None:
        groups = [np.flatnonzero(samples.item == item) for item in np.unique(samples.item)]
    else:
        groups = [np.array([row]) for row in range(len(samples))]
    owners = samples.patients()
    names = [samples.store.entries[int(item)].id for item in samples.item]
    single = settings.level == "slice" and settings.shows is not None
    return ClassFeatures(
        keys=tuple(f"{names[g[0]]}:{samples.place[g[0]]}" if single else f"{names[g[0]]}:" for g in groups),
        patients=tuple(owners[g[0]] for g in groups),
        truth=samples.target[[int(g[0]) for g in groups]] if groups else np.zeros(0, np.int64),
        vectors=np.stack([found[g].mean(axis=0) for g in groups]) if groups else found,
    )
