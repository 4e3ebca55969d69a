"""Does every method learn what it is trained for? Its own signal on held-out patients, at random and after training.

    python benchmarks/method_signals.py [--out FOLDER] [--steps 40] [--runs 3] [--only simclr_small ...]

Small presets, made smaller still (windows of about 16 voxels, three levels; clouds of 128 points; 3e-3 as the rate), on
14 made-up MR scans (or 96 made-up shapes), 10 (32) of other patients held out. Each run draws weights, windows and
batches anew; its signal is measured on held-out views before the first step and after the last one, on the same views.
The difference, of errors the ratio, gets a t interval over runs (two-sided, 95 %; of ratios in logarithms). Rows are
written to FOLDER/signals.json as they are found, and are not measured again; the table is that of docs/methods.md.

It shows that a method learns at all, on easy data, in a minute; it is no comparison of methods: signals differ, and so
do the seconds that a step costs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from scipy import stats

from medssl.domains.choosing import choose_items
from medssl.engine.optimiser import build_optimiser, set_learning_rates
from medssl.engine.schedules import learning_rates
from medssl.phantoms import phantom
from medssl.randomness import Stream
from medssl.settings import resolve
from medssl.store.write import Item, store_from_arrays
from medssl.workflows.pretrain import as_input, build
from medssl.workflows.pretrain_settings import PretrainSettings
from pointcloud.shapes import CLASSES, shape
from pointcloud.store_writing import CloudItem, store_from_clouds

# Preset -> the signals that say whether it learned, and whether more is better.
SIGNALS: Mapping[str, tuple[tuple[str, bool], ...]] = {
    "voco_small": (("position_accuracy", True),),
    "masked_small": (("reconstruction", False),),
    "spark_small": (("reconstruction", False),),
    "spark_s3d_small": (("reconstruction", False),),
    "mae_small": (("reconstruction", False),),
    "simmim_small": (("reconstruction", False),),
    "joined_small": (("reconstruction", False), ("retrieval", True)),
    "voco_masked_small": (("position_accuracy", True), ("reconstruction", False)),
    "global_contrast_small": (("part_accuracy", True),),
    "local_contrast_small": (("region_retrieval", True),),
    "simclr_small": (("retrieval", True),),
    "cvrl_small": (("retrieval", True),),
    "moco_small": (("retrieval", True),),
    "byol_small": (("retrieval", True),),
    "simsiam_small": (("retrieval", True),),
    "swav_small": (("retrieval", True),),
    "barlow_small": (("retrieval", True),),
    "vicreg_small": (("retrieval", True),),
    "dino_small": (("retrieval", True),),
    "ibot_small": (("retrieval", True),),
    "point_distil_small": (("retrieval", True),),
    "point_distil_contrast_small": (("retrieval", True),),
    "point_best_small": (("retrieval", True),),
    "point_mae_small": (("reconstruction", False),),
    "point_occo_small": (("completion", False),),
    "point_jepa_small": (("neighbours", True),),
}
DRAWS = 6  # of held-out views, whose signals are averaged
POINTS = 128
_UNET = ("encoder.channels=[8,16,32]",)
_WINDOW = "[16,24,16]"
_MASKED = ("method.window=" + _WINDOW, "method.patch=[4,4,4]", *_UNET)
_CROPS = ("method.window=[20,28,20]", "method.crop=[16,16,16]", "method.local_crop=[8,8,8]", *_UNET)
_PARTS = ("method.window=[4,24,16]", *_UNET)
_VIT = ("method.window=" + _WINDOW, "encoder.depth=2", "encoder.patch=[4,4,4]", "method.patch=[4,4,4]")
_VOCO = ("crop=[8,8,8]", "random_crops=4")
_CLOUD = (f"method.points={POINTS}", "encoder.width=32", "encoder.depth=2", "encoder.points_per_token=8",
          "encoder.patch=8", "train.batch_size=16")  # fmt: skip
# How a preset is made smaller; those that are not named are of crops, or of clouds.
SMALLER: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("masked_small", "spark_small", "spark_s3d_small"), _MASKED),
    "simmim_small": _VIT,
    "mae_small": _VIT[:-1],
    "voco_small": ("method.window=" + _WINDOW, *(f"method.{key}" for key in _VOCO), *_UNET),
    "voco_masked_small": ("method.voco.window=" + _WINDOW, *(f"method.voco.{key}" for key in _VOCO),
                          "method.masked.window=" + _WINDOW, "method.masked.patch=[4,4,4]", *_UNET),
    "joined_small": (*(f"method.parts.{part}.method.window={_WINDOW}" for part in ("contrast", "masked")),
                     "method.parts.contrast.method.crop=[12,16,12]", "method.parts.masked.method.patch=[4,4,4]",
                     *_UNET),
    **dict.fromkeys(("global_contrast_small", "local_contrast_small"), _PARTS),
    "cvrl_small": ("method.window=[8,28,20]", "method.crop=[8,16,16]", *_UNET),
}  # fmt: skip


def scans(folder: Path) -> str:
    """Write the store of scans."""
    items = []
    for number in range(24):
        made = phantom(number, modality="MR", shape=(26, 36, 26), spacing_mm=(7.0, 7.0, 7.0), seed=3)
        low, high = np.percentile(made.values, (0.5, 99.5))  # stored as `medssl cache` stores MR: 0 and 16384
        values = np.rint(((made.values - low) / (high - low)).clip(0, 1) * 16384).astype(np.int16)
        items.append(
            Item(id=f"p{number}", values=values, patient=f"p{number}", modality="MR",
                 split="train" if number < 14 else "val")
        )  # fmt: skip
    return str(store_from_arrays(folder, items).folder)


def clouds(folder: Path) -> str:
    """Write the store of shapes: 12 of each of some classes to train on, 4 held out."""
    items = [
        CloudItem(id=f"{name}-{n}", cloud=shape(name, n, seed=0, points=POINTS), patient=f"{name}-{n}",
                  split="train" if n < 12 else "val")
        for name in CLASSES[:8]
        for n in range(16)
    ]  # fmt: skip
    return str(store_from_clouds(folder, items, classes=dict(enumerate(CLASSES[:8]))).folder)


def signals_of(method: Any, batches: Sequence[Any], train: Any, held_out: Any) -> dict[str, float]:
    """Return a method's own probe on held-out views, and on clouds the nearest neighbours' classes."""
    method.eval()
    rows = []
    with torch.no_grad():
        for draw in range(DRAWS):
            for batch in batches:
                found = method.probe(method.views(batch, Stream(1, draw, batch.slot.tolist())))
                rows.append({name: float(value) for name, value in found.items()})
        values = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        if train is not None:
            values["neighbours"] = _neighbours(method.encoder, train, held_out)
    method.train()
    return values


def _neighbours(encoder: Any, train: Any, held_out: Any) -> float:
    from pointcloud.batch import CloudPlan
    from pointcloud.embedding import embed_clouds
    from pointcloud.loading import each_cloud

    known, asked = (
        embed_clouds(encoder, each_cloud(part, CloudPlan(points=POINTS), 32, 0)) for part in (train, held_out)
    )
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-6
    known, asked = (known - mean) / deviation, (asked - mean) / deviation
    nearest = ((asked[:, None] - known[None]) ** 2).sum(axis=2).argmin(axis=1)
    labels = [np.array([entry.label for entry in part.entries]) for part in (train, held_out)]
    return float((labels[0][nearest] == labels[1]).mean())


def one_run(preset: str, store: str, *, steps: int, seed: int) -> dict[str, tuple[float, float]]:
    """Train a preset for some steps; return each signal before and after."""
    overrides = [
        f"train.steps={steps}", f"train.seed={seed}", f"data.store={store}", "train.threads=1", "data.held_out_share=0",
        "train.precision=32-true", "train.lr=3e-3", *SMALLER.get(preset, _CLOUD if "point_" in preset else _CROPS),
    ]  # fmt: skip
    settings = resolve(PretrainSettings, preset=preset, overrides=overrides).settings
    domain, training = settings.domain, settings.domain.training
    items = domain.open(settings.data.store)
    chosen = as_input(
        choose_items(items, settings.data, seed=seed, noun=domain.noun), items, settings, start=None, resumed=None
    )
    method = build(settings, init_from=None)
    batches = training.held_out(chosen.held_out, method.plan, settings)
    seen = (chosen.train, chosen.held_out) if domain.name == "points" else (None, None)
    before = signals_of(method, batches, *seen)
    loader = training.loader(chosen.train, method.plan, settings, rank=0, world_size=1, pin=False)
    optimiser, rates = build_optimiser(method, settings.train), learning_rates(settings.train)
    for step in range(steps):
        set_learning_rates(optimiser, rates, step)
        batch = loader.batch(step)
        losses = method(method.views(batch, Stream(seed, step, batch.slot.tolist())), step / steps)
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        if settings.train.clip:
            torch.nn.utils.clip_grad_norm_(method.parameters(), settings.train.clip)
        optimiser.step()
        method.after_step(step / steps)
    after = signals_of(method, batches, *seen)
    return {name: (before[name], after[name]) for name, _ in SIGNALS[preset]}


def told(preset: str, runs: Sequence[Mapping[str, Sequence[float]]]) -> list[str]:
    """Return the rows of the table for one preset: of errors the ratio, of shares the difference, with its interval."""
    lines = []
    for name, more_is_better in SIGNALS[preset]:
        before, after = (np.array([run[name][when] for run in runs]) for when in (0, 1))
        change = after - before if more_is_better else np.log(after / before)
        half = float(stats.t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / np.sqrt(len(change)))
        ends = np.array([change.mean() - half, change.mean() + half])
        learns, worse = (ends[0] > 0, ends[1] < 0) if more_is_better else (ends[1] < 0, ends[0] > 0)
        verdict = "learns" if learns else "worse" if worse else "not shown"
        shown = f"{change.mean():+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"
        if not more_is_better:
            low, high = np.exp(ends)
            shown = f"x {np.exp(change.mean()):.3g} [{low:.3g}, {high:.3g}]"
        lines.append(f"| {preset} | {name} | {before.mean():.3f} | {after.mean():.3f} | {shown} | {verdict} |")
    return lines


def main() -> None:
    """Measure what is lacking and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=None, choices=list(SIGNALS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out or Path(mkdtemp(prefix="signals-"))
    out.mkdir(parents=True, exist_ok=True)
    file = out / "signals.json"
    found: dict[str, list[dict[str, list[float]]]] = json.loads(file.read_text()) if file.is_file() else {}
    stores = {"scans": scans(out / "scans"), "clouds": clouds(out / "clouds")}
    print(f"{options.steps} steps, {options.runs} runs; {file}")
    print("| preset | signal | random | trained | difference or ratio [95 % over runs] | |\n|---|---|---|---|---|---|")
    for preset in options.only or SIGNALS:
        store = stores["clouds" if preset.startswith("point_") else "scans"]
        key = f"{preset}, {options.steps} steps"
        runs = found.setdefault(key, [])
        start = time.process_time()
        for seed in range(len(runs), options.runs):
            run = one_run(preset, store, steps=options.steps, seed=seed)
            runs.append({name: list(values) for name, values in run.items()})
            file.write_text(json.dumps(found, indent=1) + "\n")
        seconds = time.process_time() - start
        for line in told(preset, runs[: options.runs]):
            print(f"{line} {seconds:.0f} s" if seconds > 0.5 else line, flush=True)


if __name__ == "__main__":
    main()
