"""Every method and task at a size that trains in seconds, with the batches that each process would be dealt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medssl.batch import Batch
from medssl.encoders.table import build_encoder
from medssl.loading import WindowLoader
from medssl.methods.contract import Method
from medssl.methods.table import METHODS, build_method
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.tasks.class_loading import ClassBatch
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import ClassificationTask
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask
from medssl.windows import WindowBatch
from pointcloud.batch import CloudBatch
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.loading import CloudLoader
from pointcloud.methods.table import CLOUD_METHODS
from pointcloud.shapes import CLASSES, shape
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.segmentation import PartSegmentationTask
from pointcloud.tasks.settings import CloudTaskSettings

WINDOW = (8, 16, 16)
SMALL = {"hidden": 16, "projected": 8}
CROPS = {"window": WINDOW, "crop": (4, 8, 8), **SMALL}
DISTILLED = {
    "window": WINDOW, "crop": (4, 8, 8), "local_crop": (4, 4, 4), "local_views": 1, "hidden": 16, "bottleneck": 8,
    "prototypes": 12, "freeze_prototypes": 0.3,
}  # fmt: skip
PARTITIONS = {"window": (4, 16, 16), "partitions": 2, "projected": 8}
VOCO = {"name": "voco", "crop": (4, 8, 8), "grid": (2, 2, 2), "random_crops": 3, **SMALL}
# Spatial changes leave none of a window inside its scan at random: then the masked voxels that count differ widely.
MASKED = {"name": "masked", "window": WINDOW, "patch": (4, 4, 4)}
SCANS: dict[str, dict[str, Any]] = {
    "voco": VOCO,
    "voco, paper": {
        **VOCO, "teacher": "none", "student_bases": True, "positive": "all", "regulariser": "bases", "inter": "none",
        "regulariser_power": 1,
    },
    "voco, heads": {**VOCO, "teacher": "heads", "both_directions": True, "regulariser": "bases", "negative": "square"},
    "voco, position": {**VOCO, "inter": "position", "positive": "equal"},
    "masked": MASKED,
    "spark": {"name": "spark", "window": WINDOW},
    "spark, S3D": {"name": "spark", "window": WINDOW, "decoder": "unet", "normalise": False},
    "mae": {"name": "mae", "window": WINDOW, "decoder_width": 24, "decoder_depth": 1, "decoder_heads": 2},
    "simmim": {"name": "simmim", "window": WINDOW},
    "joined": {
        "name": "joined",
        "parts": {
            "pairs": {"method": {"name": "cvrl", **CROPS, "crop": (8, 8, 8), "gap_mm": 4.0}},
            "queue": {"weight": 0.5, "method": {"name": "moco", "queue": 9, **CROPS}},
            "drawn": {"weight": 10.0, "method": {"name": "spark", "window": WINDOW}},
        },
    },
    "voco_masked": {"name": "voco_masked", "voco": VOCO, "masked": MASKED},
    "global_contrast": {"name": "global_contrast", "hidden": 16, **PARTITIONS},
    "local_contrast": {"name": "local_contrast", "loss": "aligned", "blocks": 1, "region": 1, **PARTITIONS},
    "simclr": {"name": "simclr", **CROPS},
    "simclr, dclw": {"name": "simclr", "decoupled": "dclw", **CROPS},
    "simclr, isogclr": {"name": "simclr", "parts": {"sogclr": {"individual": True}}, **CROPS},
    "byol, direct": {"name": "byol", "projected": 16, "hidden": 32, "parts": {"directpred": {}}, **CROPS},
    "simclr, ordered": {"name": "simclr", "parts": {"groco": {"nearest": 2}, "reweight": {}}, **CROPS},
    "moco, mixed": {
        "name": "moco", "queue": 7, "head_norm": "batch_plain", "parts": {"feature_mix": {}, "mochi": {"start": 0}},
        **CROPS,
    },
    "cvrl": {"name": "cvrl", **CROPS, "crop": (8, 8, 8), "gap_mm": 4.0},
    "moco": {"name": "moco", "queue": 7, "head_norm": "batch_plain", **CROPS},
    "moco, v3": {"name": "moco", "version": "v3", **CROPS},
    "byol": {"name": "byol", **CROPS},
    "simsiam": {"name": "simsiam", "bottleneck": 4, **CROPS},
    "swav": {
        "name": "swav", "prototypes": 6, "local_crop": (4, 4, 4), "local_views": 1, "queue": 7, "queue_from": 0.3,
        **CROPS,
    },
    "barlow": {"name": "barlow", **CROPS},
    "vicreg": {"name": "vicreg", **CROPS},
    "dino": {"name": "dino", "head_norm": "batch_plain", **DISTILLED},
    "dino, sinkhorn and koleo": {"name": "dino", "assign": "sinkhorn", "koleo_weight": 0.1, **DISTILLED},
    "dino, no norm": {"name": "dino", **DISTILLED},
    "ibot": {"name": "ibot", "mask_probability": 0.3, **DISTILLED},
    "ibot, normed": {"name": "ibot", "head_norm": "batch_plain", **DISTILLED},
}  # fmt: skip
POINTS = 64
POINT_VIT = {
    "name": "point_vit", "width": 24, "depth": 1, "heads": 2, "points_per_token": 8, "patch": 8, "drop_path": 0.0,
}  # fmt: skip
EVERY = {**POINT_VIT, "tokeniser": "pointnet", "positions": "every", "pool": "max_mean"}
POINTNET = {"name": "pointnet", "widths": [8, 16]}
DISTIL: dict[str, Any] = {
    "name": "point_distil", "points": POINTS, "prototypes": 16, "hidden": 16, "bottleneck": 8, "momentum": 0.9,
    "small": {"number": 1, "share": [0.3, 0.5]}, "freeze_prototypes": 0, "contrast_weight": 0.1,
}  # fmt: skip
CLOUDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "point_distil": (DISTIL, POINTNET),
    "point_distil, masked": (
        {**DISTIL, "assign": "sinkhorn", "koleo_weight": 0.01, "patch_weight": 1.0, "contrast": "bottleneck",
         "teacher_statistics": "batch", "fill": True},
        EVERY,
    ),
    "point_jepa": ({"name": "point_jepa", "points": POINTS, "predictor_width": 12, "predictor_depth": 1,
                    "predictor_heads": 2, "momentum": 0.9}, EVERY),
    "point_mae": ({"name": "point_mae", "points": POINTS, "decoder_depth": 1}, EVERY),
    "point_occo": ({"name": "point_occo", "points": POINTS, "coarse": 8, "grid": 2, "hidden": 16, "fold_hidden": 8,
                    "fine_weight": 1.0}, POINTNET),
}  # fmt: skip
# A row of a table that has no case above is tried at its smallest.
_NAMED = {settings["name"] for settings in [*SCANS.values(), *(settings for settings, _ in CLOUDS.values())]}
SCANS |= {name: {"name": name, **METHODS.load(name).smallest()} for name in METHODS if name not in _NAMED}
CLOUDS |= {
    name: (
        {"name": name, **CLOUD_METHODS.load(name).smallest()},
        {"name": encoder, **CLOUD_ENCODERS.load(encoder).smallest()},
    )
    for name in CLOUD_METHODS
    if name not in _NAMED
    for encoder in [CLOUD_METHODS.load(name).smallest_encoder]
}
_SEGMENTATION = {"batch_dice": (True, False), "deep_supervision": (False, True)}
TASKS = (
    "segmentation", "segmentation, by sample", "segmentation, deep", "classification", "classification, sets",
    "classification, no norm", "classes of clouds", "parts of clouds",
)  # fmt: skip
CASES = (*SCANS, *CLOUDS, *TASKS)
# The step over parts of a batch (train.accumulate) is that of the whole: no norm over a batch, nothing among its items.
IN_PARTS = (
    "masked", "spark, S3D", "mae", "simmim", "dino, no norm", "ibot", "segmentation, by sample",
    "classification, no norm",
)  # fmt: skip


class Dealt:
    """Batches made whole and dealt out item by item, as the loaders deal theirs."""

    numbers = 1000

    def __init__(self, whole: Callable[[int], Batch], rank: int, world: int) -> None:
        self.whole, self.rank, self.world = whole, rank, world

    def batches(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Yield this process's rows."""
        for step in range(start_step, stop_step):
            batch = self.whole(step)
            own = {name: value[self.rank :: self.world] for name, value in batch.tensors().items()}
            yield dataclasses.replace(batch, **own)


def make_stores(folder: Path) -> None:
    """Write a store of scans and one of clouds; two scans are of one patient, and some are smaller than a window."""
    draw = np.random.default_rng(0)
    items = []
    for number, depth in enumerate((14, 12, 6, 13, 16, 7, 15)):
        field = draw.normal(0, 300, (depth, 18, 20)) + 100 * np.arange(depth)[:, None, None]
        items.append(Item(id=f"scan{number}", values=field.astype(np.int16), patient=f"p{max(number, 1)}"))
    store_from_arrays(folder / "scans", items)
    clouds = [
        CloudItem(id=name, cloud=shape(name, 0, seed=0, points=30 + 11 * number), patient=name)
        for number, name in enumerate(CLASSES[:7])
    ]
    store_from_clouds(folder / "clouds", clouds)


def make(case: str) -> Method:
    """Return a fresh method, the same in every process."""
    torch.manual_seed(3)
    if case in CLOUDS:
        settings, encoder = CLOUDS[case]
        made: Method = CLOUD_METHODS.build(settings, CLOUD_ENCODERS.build(encoder))
        return made
    if case.endswith("clouds"):
        chosen = CloudTaskSettings(points=POINTS, hidden=(8,), dropout=0.0)
        encoder = CLOUD_ENCODERS.build(POINTNET)
        if case.startswith("classes"):
            return CloudClassificationTask(chosen, encoder, {0: "a", 1: "b"})
        return PartSegmentationTask(chosen, encoder, {0: "a", 1: "b", 2: "c"}, {0: "x", 1: "y"}, {0: [0], 1: [1, 2]})
    if case not in SCANS or METHODS.load(SCANS[case]["name"]).smallest_encoder == "unet":
        unet = build_encoder({"name": "unet", "channels": [4, 6], "strides": [1, 2]})
    else:
        unet = build_encoder({"name": "vit", "width": 24, "depth": 1, "heads": 2, "patch": 4})
    if case.startswith("segmentation"):
        deep, by_batch = "deep" in case, "sample" not in case
        return SegmentationTask(
            SegmentationSettings(window=WINDOW, batch_dice=by_batch, deep_supervision=deep), unet, {1: "a", 2: "b"}
        )
    if case.startswith("classification"):
        level, window = ("set", (1, 16, 16)) if "sets" in case else ("volume", WINDOW)
        flat = {"name": "unet", "channels": [4, 6], "strides": [1, [1, 2, 2]]}
        chosen = ClassificationSettings(window=window, level=level, set_size=2, feature_norm="no norm" not in case)
        return ClassificationTask(chosen, build_encoder(flat), ["a", "b"], weights={0: 0.4, 1: 2.0})
    return build_method(SCANS[case], unet)


def loader_of(case: str, folder: Path, method: Method, items: int, rank: int, world: int) -> Any:
    """Return a process's part of batches of ``items`` scans or clouds."""
    dealt = {"rank": rank, "world_size": world, "seed": 0, "threads": 0}
    if case in SCANS:
        plan = method.plan
        return WindowLoader(Store.open(folder / "scans"), plan, batch_size=items * plan.count, **dealt)
    if case in CLOUDS:
        return CloudLoader(CloudStore.open(folder / "clouds"), method.plan, batch_size=items, **dealt)
    if case.endswith("clouds"):
        return Dealt(lambda step: _labelled_clouds(items, step), rank, world)
    per_item = 2 if "sets" in case else 1
    size = method.plan.size
    return Dealt(lambda step: _labelled_windows(items, step, size, per_item, case), rank, world)


def _labelled_windows(items: int, step: int, size: tuple[int, int, int], per_item: int, case: str) -> WindowBatch:
    draw = torch.Generator().manual_seed(step)
    shape_ = (size[0] * per_item, *size[1:]) if per_item > 1 else size
    values = torch.randint(-300, 300, (items, per_item, *size), generator=draw, dtype=torch.int16)
    common = {
        "origin": torch.zeros(items, 3, dtype=torch.int64),
        "extent": torch.tensor([shape_] * items),
        "body_box": torch.tensor([[(0, 0, 0), shape_]] * items, dtype=torch.float32),
        "spacing_mm": torch.ones(items, 3),
        "scale": torch.tensor([[[-300.0, 300.0]]] * items),
        "part": torch.zeros(items, dtype=torch.int64),
        **_names(items),
    }
    if case.startswith("segmentation"):
        labels = torch.randint(0, 3, (items, *size), generator=draw, dtype=torch.int16)
        for row in range(items):  # unlike shares have a label, so that a mean of means is not the mean
            labels[row, :, : (5 * row) % size[1]] = -1
        return WindowBatch(values=values, labels=labels, **common)
    return ClassBatch(values=values[:, :, None], target=torch.randint(0, 2, (items,), generator=draw), **common)


def _labelled_clouds(items: int, step: int) -> CloudBatch:
    draw = torch.Generator().manual_seed(step)
    count = torch.randint(POINTS // 2, POINTS + 1, (items,), generator=draw)
    count[0] = POINTS
    there = torch.arange(POINTS)[None] < count[:, None]
    labels = torch.randint(-1, 3, (items, POINTS), generator=draw).masked_fill(~there, -1)
    label = torch.randint(0, 2, (items,), generator=draw)
    label[-1] = -1
    return CloudBatch(
        points=torch.randn(items, POINTS, 3, generator=draw) * there[..., None],
        count=count,
        centre=torch.zeros(items, 3),
        radius=torch.full((items,), 3.0),
        label=label,
        labels=labels,
        **_names(items),
    )


def _names(items: int) -> dict[str, Tensor]:
    return {name: torch.arange(items) for name in ("item", "patient", "slot")}
