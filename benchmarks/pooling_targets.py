"""What benchmarks/pooling.py reads off scans: windows of three data sets, whose they are, and what they show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import medssl
from medssl.store.read import Store

SOURCE = {"hippocampus": "hippocampus", "acdc": "acdc", "lgg": "lgg_flair"}
SPACING = {"hippocampus": "[1,1,1]", "acdc": "[8,4,4]", "lgg": "[2,4,4]"}
WHOLE = {"hippocampus": (32, 48, 32), "acdc": (16, 48, 48), "lgg": (8, 48, 48)}
VIEW = {"hippocampus": (16, 24, 16), "acdc": (8, 24, 24), "lgg": (8, 24, 24)}  # of pretraining
CROP = (16, 32, 16)
SLABS = 6  # of a head


@dataclass(frozen=True)
class Cases:
    """Windows of one target: what they show, whose they are, and what is to be read off them."""

    images: torch.Tensor
    patients: np.ndarray
    truths: dict[str, np.ndarray]


def prepared(data: str, out: Path) -> Store:
    """Index and store a data set."""
    store = out / data / "store"
    if not (store / "store.json").is_file():
        source = Path(os.environ["MEDSSL_DATA"]) / SOURCE[data]
        medssl.index(source, out=out / data / "scans.parquet", modality="MR", overrides=["val=0", "test=0.2"])
        medssl.cache(out / data / "scans.parquet", out=store, overrides=[f"spacing_mm={SPACING[data]}", "workers=1"])
    return Store.open(store)


def cut(store: Store, item: int, low: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """Return a window of a scan as networks see it, (1, z, y, x) in [0, 1]."""
    entry = store.entries[item]
    values = torch.from_numpy(store.window(item, tuple(low), tuple(size))).float()
    return ((values - entry.scale[0]) / (entry.scale[1] - entry.scale[0])).clamp(0, 1)[None]


def central(store: Store, item: int, size: Sequence[int]) -> torch.Tensor:
    """Return the window about the middle of a scan."""
    return cut(store, item, [(n - s) // 2 for n, s in zip(store.entries[item].shape, size, strict=True)], size)


def cases_of(data: str, store: Store, limit: int) -> dict[str, Cases]:
    """Return the windows of each group of targets."""
    draw = np.random.default_rng(0)
    owners = np.array([entry.patient or entry.id for entry in store.entries])
    patients = draw.permutation(np.unique(owners))
    items = [item for name in patients for item in np.flatnonzero(owners == name).tolist()][:limit]
    owner = owners[items].tolist()
    size = WHOLE[data]
    if data == "hippocampus":
        volume = np.array([(store.labels(item) > 0).sum() for item in items], float) / 1000
        whole = Cases(torch.stack([central(store, i, size) for i in items]), np.array(owner), {"volume, R2": volume})
        images, places = [], []
        for item in items:
            free = np.maximum(np.array(store.entries[item].shape) - CROP, 1)
            for _ in range(3):
                low = draw.integers(0, free + 1)
                images.append(cut(store, item, low, CROP))
                places.append(low / free)
        place = np.array(places)
        side = np.where(place[:, 2] > 0.5, "right", "left")
        return {
            "whole": whole,
            "crops": Cases(torch.stack(images), np.repeat(owner, 3), {"place, R2": place, "side, AUROC": side}),
        }
    if data == "acdc":
        group = [dict(store.entries[item].targets)["diagnosis"] for item in items]
        images = torch.stack([central(store, item, size) for item in items])
        return {
            "whole": Cases(
                images, np.array(owner), {"diagnosis, AUROC": np.array(group), "same patient, share": np.array(owner)}
            )
        }
    images, whose, marks, level = [], [], [], []
    for item, name in zip(items, owner, strict=True):
        labels, depth = store.labels(item), store.entries[item].shape[0]
        rest = [(n - s) // 2 for n, s in zip(store.entries[item].shape[1:], size[1:], strict=True)]
        for part in range(SLABS):
            low = round((depth - size[0]) * part / (SLABS - 1))
            images.append(cut(store, item, [low, *rest], size))
            whose.append(name)
            marks.append("tumour" if (labels[max(low, 0) : low + size[0]] > 0).any() else "none")
            level.append([part / (SLABS - 1)])
    return {
        "slabs": Cases(
            torch.stack(images),
            np.array(whose),
            {"tumour in slab, AUROC": np.array(marks), "slab level, R2": np.array(level)},
        )
    }
