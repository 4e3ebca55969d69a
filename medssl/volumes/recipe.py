"""What ``medssl auto`` decides on scans, and why: pure functions from the scans to settings and sentences.

All sizes are in the order (z, y, x), after turning to RAS. The rules follow nnU-Net's where it has one (median shape,
strides by voxel size; Isensee et al., Nature Methods 2021, arXiv:1809.10486), within a budget of voxels a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from medssl import geometry
from medssl.domains.deciding import BUDGETS, Decision, Machine, Recipe, decide_device, decide_steps
from medssl.domains.suited_method import suited_method
from medssl.errors import ConfigError
from medssl.methods.contract import Method
from medssl.methods.fitting import Room
from medssl.methods.table import METHODS
from medssl.settings import flatten
from medssl.volumes.target import Target

__all__ = ["Grid", "decide_recipe", "decide_spacing", "describe_modalities", "grid_of"]

Triple = tuple[int, int, int]
Size = tuple[float, float, float]
_SAME_SPACING = 1.1  # largest ratio between voxel sizes that are called the same
_ANISOTROPIC = 2.0  # a voxel this much longer along one axis is not shortened there further
_LONGEST = {True: 96, False: 256}  # most voxels of a stored scan along an axis, for small presets and for large ones
_WINDOW_VOXELS = {True: 32 * 48 * 32, False: 96**3}
_CHANNELS = {True: (8, 16, 32, 64), False: (32, 64, 128, 256, 320, 320)}


@dataclass(frozen=True)
class Grid:
    """One scan's size in voxels and its voxel size in mm."""

    shape: Triple
    spacing_mm: Size


def grid_of(row: Mapping[str, Any]) -> Grid | None:
    """Return a manifest row's grid after turning to RAS; None where its size is not known."""
    if not row["shape"] or len(row["shape"]) != 3:
        return None
    affine = np.eye(4) if not row["affine"] else np.array(row["affine"], dtype=np.float64).reshape(4, 4)
    if not row["affine"] and row["spacing_mm"]:
        affine = np.diag([*row["spacing_mm"][::-1], 1.0])
    turned, affine = geometry.to_canonical(np.broadcast_to(np.int8(0), row["shape"]), affine)
    z, y, x = turned.shape
    return Grid((z, y, x), geometry.spacing_mm(affine))


def describe_modalities(counts: Mapping[str, int]) -> list[Decision]:
    """Return what each modality means for intensities."""
    decisions = []
    for modality, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        if modality == "CT":
            chosen, because = "-1000..1000 HU become 0..1", "CT values are physical: every scan gets the same scale"
        else:
            chosen = "percentiles 0.5 and 99.5 become 0 and 1"
            because = f"{modality} values have no unit: each scan is scaled by its own percentiles"
        decisions.append(Decision(f"intensities of {count} {modality}", chosen, because))
    return decisions


def decide_spacing(grids: Sequence[Grid], settings: Any, *, small: bool) -> tuple[Any, Decision]:
    """Return ``spacing_mm`` of the store, and why.

    Args:
        grids: The scans.
        settings: A voxel size given there is kept.
        small: Whether the presets for a CPU will be used.
    """
    if settings.spacing_mm is not None:
        return settings.spacing_mm, Decision("voxel size", _sizes(settings.spacing_mm), "as set")
    if not grids:
        return "keep", Decision("voxel size", "keep", "no scan says its voxel size")
    spacings = np.array([grid.spacing_mm for grid in grids])
    middle = np.median(spacings, axis=0)
    extents = np.median([np.array(grid.shape) * np.array(grid.spacing_mm) for grid in grids], axis=0)
    limit = _LONGEST[small]
    ratio = float((spacings.max(axis=0) / spacings.min(axis=0)).max())
    finest = float((extents / limit).max())
    if (extents / middle > limit).any():
        chosen = tuple(round(float(max(own, finest)), 2) for own in middle)
        size = " x ".join(f"{length:.0f}" for length in extents)
        return list(chosen), Decision(
            "voxel size", _sizes(chosen), f"the median scan of {size} mm then has at most {limit} voxels along an axis"
        )
    if ratio <= _SAME_SPACING:
        return "keep", Decision("voxel size", f"keep {_sizes(middle)}", "all scans have nearly the same")
    return "median", Decision(
        "voxel size", f"median, {_sizes(middle)}", f"the scans differ by a factor of {ratio:.2g}, and must agree"
    )


def decide_recipe(
    bodies: Sequence[Grid],
    settings: Any,
    machine: Machine,
    *,
    patients: int,
    target: Target | None = None,
) -> Recipe:
    """Return how to train on scans whose bodies have these sizes on the store's grid.

    Args:
        bodies: Size of the body in each stored scan.
        settings: What the user gave is kept.
        machine: Where it will run.
        patients: How many patients are trained on.
        target: Classes that fine-tuning learns; None for label maps.

    Raises:
        ConfigError: The method is unknown, or a given window does not fit the encoder.
    """
    budget = BUDGETS[settings.budget]
    small = budget.small or not machine.gpu
    decisions = [decide_device(machine, small=small, wants_gpu=not budget.small)]
    shape = tuple(round(median(body.shape[axis] for body in bodies)) for axis in range(3))
    spacing = tuple(median(body.spacing_mm[axis] for body in bodies) for axis in range(3))
    strides = _strides(shape, spacing, stages=len(_CHANNELS[small]))
    z, y, x = (math.prod(stride[axis] for stride in strides) for axis in range(3))
    multiple = (z, y, x)
    channels = _CHANNELS[small][: len(strides)]
    decisions.append(
        Decision(
            "encoder",
            f"{'unet' if small else 'residual'}, {len(strides)} stages of {', '.join(map(str, channels))} channels",
            f"halves the median body {len(strides) - 1} times at most before less than 4 voxels are left",
        )
    )
    window, decided = _window(shape, multiple, settings, limit=_WINDOW_VOXELS[small])
    decisions.append(decided)
    method, decided = _method(bodies, settings, patients, segmented=target is None)
    decisions.append(decided)
    steps, tuning, decided = decide_steps(settings)
    decisions.append(decided)
    kind = _fitted(method)
    each, usual = kind.windows_per_item, kind.items_per_step[0 if small else 1]
    scans = min(usual, max(2, patients))
    batch = scans * each
    why = f"{scans} scans a step" if scans == usual else f"there are {patients} patients to train on"
    why += f", {each} windows of each" if each > 1 else ""
    tuned = "fine-tuning as its preset has it" if target else "2 when fine-tuning"
    decisions.append(Decision("batch", f"{batch} windows, {tuned}", why))
    shared: dict[str, Any] = {"train.seed": settings.seed, "train.log_every": 25}
    if not machine.gpu and machine.amx:
        shared["train.precision"] = "bf16-mixed"
        decisions.append(
            Decision("precision", "bf16-mixed", "this CPU multiplies bfloat16 in hardware, at twice the speed")
        )
    encoder = {
        "encoder.name": "unet" if small else "residual",
        "encoder.dims": 3,
        "encoder.channels": list(channels),
        "encoder.strides": [list(stride) for stride in strides],
    }
    if not small:
        encoder["encoder.blocks"] = [1, 3, 4, 6, 6, 6][: len(channels)]
    every = max(25, steps // 10)
    pretrain = {
        **shared,
        **encoder,
        **flatten({"method": kind.fit(Room(window, multiple))}),
        "train.steps": steps,
        "train.batch_size": batch,
        "train.checkpoint_every": every,
        "train.probe_every": max(25, steps // 5),
    }
    finetune = {
        **shared,
        **_learned(target, window),
        "train.steps": tuning,
        "train.checkpoint_every": max(25, tuning // 5),
        "train.probe_every": max(25, tuning // 3),
    }
    task, end = "classification" if target else "segmentation", "_small" if small else ""
    return Recipe(
        method=method,
        learns=f"distinguish classes of {target.name}" if target else "segment",
        preset=method + end,
        pretrain=pretrain,
        finetune_preset=task + end,
        finetune=finetune,
        decisions=tuple(decisions),
    )


def _learned(target: Target | None, window: Triple) -> dict[str, Any]:
    """Return the settings of fine-tuning that say what is learned from which windows."""
    if target is None:
        return {"segmentation.window": list(window)}
    chosen = {} if target.classes is None else {"classification.classes": list(target.classes)}
    return {"classification.target": target.name, "classification.window": list(window), **chosen}


def _strides(shape: Sequence[int], spacing: Sequence[float], *, stages: int) -> list[Triple]:
    """Return each stage's stride: halve where voxels are finest, and where at least four are left after it."""
    strides: list[Triple] = [(1, 1, 1)]
    now, left = list(spacing), list(shape)
    for _ in range(stages - 1):
        finest = min(now)
        stride = [2 if s < _ANISOTROPIC * finest and n >= 6 else 1 for s, n in zip(now, left, strict=True)]
        if max(stride) == 1:
            break
        strides.append((stride[0], stride[1], stride[2]))
        now = [s * k for s, k in zip(now, stride, strict=True)]
        left = [n // k for n, k in zip(left, stride, strict=True)]
    return strides


def _window(shape: Sequence[int], multiple: Sequence[int], settings: Any, *, limit: int) -> tuple[Triple, Decision]:
    body = " x ".join(map(str, shape))
    step = " x ".join(map(str, multiple))
    if settings.window is not None:
        wrong = [n for n, m in zip(settings.window, multiple, strict=True) if n < m or n % m]
        if wrong:
            raise ConfigError(
                f"window: found {list(settings.window)}; allowed are multiples of {list(multiple)}, what "
                "the encoder divides by."
            )
        return settings.window, Decision("window", _whole(settings.window), "as set")
    # At least two voxels of the coarsest level along each axis: a normalisation needs more than one.
    least = [2 if m > 1 else 1 for m in multiple]
    most = [max(few, round(n / m)) for few, n, m in zip(least, shape, multiple, strict=True)]
    sides = [count * m for count, m in zip(most, multiple, strict=True)]
    cut = math.prod(sides) > limit
    if cut:
        ranges = [range(few, many + 1) for few, many in zip(least, most, strict=True)]
        fitting = [
            tuple(count * m for count, m in zip(counts, multiple, strict=True))
            for counts in product(*ranges)
            if math.prod(count * m for count, m in zip(counts, multiple, strict=True)) <= limit
        ]
        smallest = tuple(few * m for few, m in zip(least, multiple, strict=True))
        # The window that covers most of the body along the axis where it covers least.
        sides = list(
            max(
                fitting or [smallest],
                key=lambda window: (min(w / n for w, n in zip(window, shape, strict=True)), math.prod(window)),
            )
        )
    because = f"the median body has {body} voxels and the encoder wants multiples of {step}"
    because += f"; cut to {limit:,} voxels" if cut else ""
    window = (sides[0], sides[1], sides[2])
    return window, Decision("window", _whole(window), because)


def _method(bodies: Sequence[Grid], settings: Any, patients: int, *, segmented: bool) -> tuple[str, Decision]:
    if settings.method is not None:
        METHODS.row(settings.method)
        return settings.method, Decision("method", settings.method, "as set")
    name, because = suited_method(
        [body.shape for body in bodies], [body.spacing_mm for body in bodies], patients=patients, segmented=segmented
    )
    return name, Decision("method", name, because)


def _fitted(name: str) -> type[Method]:
    """Return the class of a method whose views can be fitted to scans.

    Raises:
        ConfigError: They cannot.
    """
    kind: type[Method] = METHODS.load(name)
    if kind.unfit:
        able = ", ".join(other for other in METHODS if not METHODS.load(other).unfit)
        raise ConfigError(
            f"method: auto cannot fit the views of '{name}' to scans: {kind.unfit}. It can those of {able}. Run the "
            "others by themselves: medssl pretrain METHOD --data OUT/store --out RUN."
        )
    return kind


def _sizes(spacing: Any) -> str:
    return spacing if isinstance(spacing, str) else " x ".join(f"{size:.3g}" for size in spacing) + " mm"


def _whole(window: Sequence[int]) -> str:
    return " x ".join(map(str, window)) + " voxels"
