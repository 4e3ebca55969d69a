"""One vector a scan: what an encoder makes of the whole body, for probes, retrieval and maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from medssl.encoders.contract import Encoder
from medssl.encoders.pooling import finer_levels
from medssl.errors import MedSSLError
from medssl.loading import channel_facts
from medssl.normalising import check_takes
from medssl.placement import covering_origins
from medssl.store.read import Store
from medssl.tasks.class_features import class_features
from medssl.tasks.class_samples import Samples
from medssl.tasks.class_settings import ClassificationSettings
from medssl.windows import as_input

__all__ = ["CLASS", "FeatureTable", "embed_scan", "embed_store"]

Triple = tuple[int, int, int]
Levels = Literal["coarsest", "all"]
CLASS = "class"  # what the single target of clouds is called


@dataclass(frozen=True)
class FeatureTable:
    """Vectors of scans, row by row.

    Attributes:
        ids: The scans' ids.
        patients: Pseudonymous keys.
        splits: "train", "val", "test" or "".
        modalities: DICOM modalities; those of several channels joined with "+".
        windows: Windows that each vector is the mean of.
        vectors: float32, (scans, dim).
        failed: Scans without a vector, id -> reason.
        targets: Classes of each by the target's name; of clouds the target is called "class".
    """

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    splits: tuple[str, ...]
    modalities: tuple[str, ...]
    windows: tuple[int, ...]
    vectors: npt.NDArray[np.float32]
    failed: dict[str, str] = field(default_factory=dict)
    targets: tuple[Mapping[str, str], ...] = ()

    def columns(self) -> dict[str, list[Any]]:
        """Return the columns beside the vectors by name; a class that is not known is None.

        The classes of a target are the column ``target_NAME``, of clouds ``class``.
        """
        said = self.targets or ({},) * len(self)
        names = sorted({name for own in said for name in own})
        return {
            "id": list(self.ids),
            "patient": list(self.patients),
            "split": list(self.splits),
            "modality": list(self.modalities),
            "windows": list(self.windows),
            **{(n if n == CLASS else f"target_{n}"): [own.get(n) for own in said] for n in names},
        }

    def __len__(self) -> int:
        """Return the number of scans that have a vector."""
        return len(self.ids)


@torch.no_grad()
def embed_scan(
    encoder: Encoder,
    store: Store,
    index: int,
    *,
    window: Triple | None,
    overlap: float = 0.25,
    batch_size: int = 4,
    levels: Levels = "coarsest",
) -> tuple[npt.NDArray[np.float32], int]:
    """Return the vector of a scan, float32 (dim,), and the number of windows it is the mean of.

    Args:
        encoder: In evaluation mode, on its device.
        store: The scans.
        index: Which.
        window: Size of the windows that cover the body; None takes the body in one pass, padded to the encoder's
            ``size_multiple``.
        overlap: Least share of a window that its neighbour covers too.
        batch_size: Windows that go through the encoder at once.
        levels: "coarsest" is the encoder's embedding; "all" joins the spatial means of all levels.
    """
    entry = store.entries[index]
    check_takes(encoder, entry.schemes)
    device = next(encoder.parameters()).device
    scale, present = channel_facts([entry])
    scale, present = scale.to(device), None if present is None else present.to(device)
    size = window or _one_pass(entry.body_box, encoder.size_multiple)
    origins = covering_origins(entry.body_box, size, overlap=overlap)
    total: Tensor | float = 0.0
    for start in range(0, len(origins), batch_size):
        values = np.stack([store.windows(index, origin, size) for origin in origins[start : start + batch_size]])
        images = as_input(torch.from_numpy(values)[None].to(device), scale, present)[0]
        pyramid, vectors = encoder(images.contiguous(memory_format=torch.channels_last_3d), pooled=True)
        if levels == "all":
            finer = finer_levels(encoder.pooling, pyramid)
            finer = [functional.adaptive_avg_pool3d(level.float(), 1).flatten(1) for level in finer]
            vectors = torch.cat([*finer, vectors], dim=1)
        total = total + vectors.double().sum(dim=0)
    assert isinstance(total, Tensor)
    return (total / len(origins)).float().cpu().numpy(), len(origins)


def embed_store(
    encoder: Encoder,
    store: Store,
    *,
    window: Triple | None,
    fitted: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    batch_size: int = 4,
    levels: Levels = "coarsest",
    overlap: float = 0.25,
) -> FeatureTable:
    """Return the vectors of all scans of a store; a scan that cannot be read is listed, not fatal.

    Args:
        encoder: In evaluation mode, on its device.
        store: The scans.
        window: Size of the windows; None takes the body in one pass.
        fitted: Take one look at each scan, its body fitted to the window, by the code of the probe and of classifiers;
            else as many windows as cover the body.
        progress: Told the id of every scan that is done.
        batch_size: Windows that go through the encoder at once.
        levels: "coarsest" is the encoder's embedding; "all" joins the spatial means of all levels.
        overlap: Least share of a window that its neighbour covers too, where they cover the body.
    """
    rows: list[tuple[int, npt.NDArray[np.float32], int]] = []
    failed: dict[str, str] = {}

    def looked(indices: Sequence[int]) -> list[tuple[npt.NDArray[np.float32], int]]:
        if fitted and window is not None:
            vectors = _fitted(encoder, store, indices, window, levels)
            return [(vector, 1) for vector in vectors]
        return [
            embed_scan(encoder, store, i, window=window, overlap=overlap, batch_size=batch_size, levels=levels)
            for i in indices
        ]

    def keep(indices: Sequence[int]) -> None:
        try:
            found = looked(indices)
        except (MedSSLError, OSError, RuntimeError, ValueError) as error:
            if len(indices) > 1:  # one of them is bad: each by itself
                for index in indices:
                    keep([index])
                return
            told = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
            failed[store.entries[indices[0]].id] = told
        else:
            for index, (vector, windows) in zip(indices, found, strict=True):
                if np.isfinite(vector).all():
                    rows.append((index, vector, windows))
                else:
                    failed[store.entries[index].id] = "the encoder gave values that are not finite"
        for index in indices:
            progress(store.entries[index].id)

    step = batch_size if fitted else 1
    for start in range(0, len(store), step):
        keep(range(start, min(start + step, len(store))))
    entries = [store.entries[index] for index, _, _ in rows]
    return FeatureTable(
        ids=tuple(e.id for e in entries),
        patients=tuple(e.patient for e in entries),
        splits=tuple(e.split for e in entries),
        modalities=tuple("+".join(e.modalities) for e in entries),
        windows=tuple(windows for _, _, windows in rows),
        vectors=np.stack([vector for _, vector, _ in rows]) if rows else np.zeros((0, 0), np.float32),
        failed=failed,
        targets=tuple(dict(e.targets) for e in entries),
    )


def _fitted(
    encoder: Encoder, store: Store, indices: Sequence[int], window: Triple, levels: Levels
) -> npt.NDArray[np.float32]:
    """Return the vectors of some scans, each seen as a classifier of whole scans sees it, float32 (N, dim)."""
    count = len(indices)
    unknown = np.full(count, -1, dtype=np.int64)
    samples = Samples(store, np.array(indices, dtype=np.int64), unknown, unknown, ())
    device = next(encoder.parameters()).device
    looks = ClassificationSettings(level="volume", window=window)
    found = class_features(encoder, samples, looks, levels=levels, batch_size=count, device=device)
    return np.asarray(found.vectors, dtype=np.float32)


def _one_pass(box: tuple[Triple, Triple], multiple: Triple) -> Triple:
    """Return the least size that holds ``box`` and that the encoder takes."""
    z, y, x = (max(2, -(-(last - first) // step)) * step for first, last, step in zip(*box, multiple, strict=True))
    return z, y, x
