"""Does every method learn what it is trained for? Its own signal on held-out patients, at random and after training.

    python benchmarks/method_signals.py [--out FOLDER] [--steps 40] [--runs 3] [--only simclr_small ...] [--set X=Y ...]

Small presets, made smaller still (windows of 12 to 16 voxels, three levels; clouds of 128 points; 3e-3 as the rate), on
32 synthetic MR scans (or 96 synthetic shapes), 16 (32) of other patients held out. Each run draws weights, windows and
batches anew; its signal is measured on held-out views before the first step, on the way and after the last one, on the
same views, beside its chance (`Method.chance`) on them. Against both, the difference, of errors the ratio, gets a t
interval over runs (two-sided, 95 %; of ratios in logarithms); "learns" is better than both. Rows are written to
FOLDER/signals.json as they are found, with the curve, and are not measured again; the table is that of docs/methods.md.

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
from medssl.encoders.contract import lay_channels_last
from medssl.engine.optimiser import build_optimiser, set_learning_rates
from medssl.engine.schedules import learning_rates
from medssl.evaluation.statistics.crossed import crossed_variance
from medssl.evaluation.statistics.wording import LUCK
from medssl.phantoms import phantom
from medssl.randomness import Stream
from medssl.settings import resolve
from medssl.store.in_memory import Item, store_from_arrays
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
    "local_contrast_small": (("region_retrieval", True), ("scan_retrieval", True)),
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
    "slotcon_small": (("group_agreement", True),),
    "point_distil_small": (("retrieval", True),),
    "point_distil_contrast_small": (("retrieval", True),),
    "point_best_small": (("retrieval", True),),
    "point_simclr_small": (("retrieval", True),),
    "point_moco_small": (("retrieval", True),),
    "point_mae_small": (("reconstruction", False),),
    "point_occo_small": (("completion", False),),
    "point_jepa_small": (("neighbours", True),),
}
DRAWS = 4  # of held-out views, whose signals are averaged; on the way 2
PARTS = 2  # of a run, after each of which signals are measured
TRAINED, HELD_OUT = 32, 16  # scans, each of its own patient
KINDS = 8  # of shapes
POINTS = 128
_UNET = ("encoder.channels=[8,16,32]",)
_WINDOW = "[12,16,12]"
_MASKED = ("method.window=" + _WINDOW, "method.patch=[2,2,2]", *_UNET)
_CROPS = ("method.window=[20,28,20]", "method.crop=[16,16,16]", "method.local_crop=[8,8,8]", *_UNET)
_PARTS = ("method.window=[4,20,16]", *_UNET)
_VIT = ("method.window=" + _WINDOW, "encoder.depth=2", "encoder.patch=[4,4,4]", "method.patch=[4,4,4]")
_VOCO = ("crop=[8,8,8]", "random_crops=4")
_CLOUD = (
    f"method.points={POINTS}",
    "encoder.width=32",
    "encoder.depth=2",
    "encoder.points_per_token=8",
    "encoder.patch=8",
    "train.batch_size=16",
)
# How a preset is made smaller; those that are not named are of crops, or of clouds.
SMALLER: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("masked_small", "spark_small", "spark_s3d_small"), _MASKED),
    "simmim_small": _VIT,
    "mae_small": _VIT[:-1],
    "voco_small": ("method.window=" + _WINDOW, *(f"method.{key}" for key in _VOCO), *_UNET),
    "voco_masked_small": (
        "method.voco.window=" + _WINDOW,
        *(f"method.voco.{key}" for key in _VOCO),
        "method.masked.window=" + _WINDOW,
        "method.masked.patch=[2,2,2]",
        *_UNET,
    ),
    "joined_small": (
        *(f"method.parts.{part}.method.window={_WINDOW}" for part in ("contrast", "masked")),
        "method.parts.contrast.method.crop=[12,12,12]",
        "method.parts.masked.method.patch=[2,2,2]",
        *_UNET,
    ),
    **dict.fromkeys(("global_contrast_small", "local_contrast_small"), _PARTS),
    "cvrl_small": ("method.window=[8,20,16]", "method.crop=[8,16,12]", *_UNET),
    "slotcon_small": ("method.window=[20,28,20]", "method.crop=[16,16,16]", *_UNET),
}


def scans(folder: Path) -> str:
    """Write the store of scans."""
    items = []
    for number in range(TRAINED + HELD_OUT):
        made = phantom(number, modality="MR", shape=(26, 36, 26), spacing_mm=(7.0, 7.0, 7.0), seed=3)
        low, high = np.percentile(made.values, (0.5, 99.5))  # stored as `medssl cache` stores MR: 0 and 16384
        values = np.rint(((made.values - low) / (high - low)).clip(0, 1) * 16384).astype(np.int16)
        items.append(
            Item(
                id=f"p{number}",
                values=values,
                patient=f"p{number}",
                modality="MR",
                split="train" if number < TRAINED else "val",
            )
        )
    return str(store_from_arrays(folder, items).folder)


def clouds(folder: Path) -> str:
    """Write the store of shapes: 12 of each of some classes to train on, 4 held out."""
    items = [
        CloudItem(
            id=f"{name}-{n}",
            cloud=shape(name, n, seed=0, points=POINTS),
            patient=f"{name}-{n}",
            split="train" if n < 12 else "val",
        )
        for name in CLASSES[:KINDS]
        for n in range(16)
    ]
    return str(store_from_clouds(folder, items, classes=dict(enumerate(CLASSES[:KINDS]))).folder)


def signals_of(
    method: Any, batches: Sequence[Any], train: Any, held_out: Any, *, draws: int = DRAWS
) -> tuple[dict[str, float], dict[str, float]]:
    """Return a method's own probe on held-out views, on clouds its neighbours' classes too, and their chance."""
    method.eval()
    rows: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    with torch.no_grad():
        for draw in range(draws):
            for batch in batches:
                views = method.views(batch, Stream(1, draw, batch.slot.tolist()))
                for kept, found in zip(rows, (method.probe(views), method.chance(views)), strict=True):
                    kept.append({name: float(value) for name, value in found.items()})
        values, chance = ({name: float(np.mean([row[name] for row in kept])) for name in kept[0]} for kept in rows)
        if train is not None:
            values["neighbours"] = _neighbours(method.encoder, train, held_out)
            chance["neighbours"] = 1 / KINDS
    method.train()
    return values, chance


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


def one_run(preset: str, store: str, *, steps: int, seed: int, more: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Train a preset for some steps; return each signal's values on the way, its chance, and the loss on the way."""
    overrides = [
        f"train.steps={steps}",
        f"train.seed={seed}",
        f"data.store={store}",
        "train.threads=1",
        "data.held_out_share=0",
        "train.precision=32-true",
        "train.lr=3e-3",
        *SMALLER.get(preset, _CLOUD if "point_" in preset else _CROPS),
        *more,
    ]
    settings = resolve(PretrainSettings, preset=preset, overrides=overrides).settings
    domain, training = settings.domain, settings.domain.training
    items = domain.open(settings.data.store)
    chosen = as_input(
        choose_items(items, settings.data, seed=seed, noun=domain.noun), items, settings, start=None, resumed=None
    )
    method = build(settings, init_from=None)
    lay_channels_last(method)
    batches = training.held_out(chosen.held_out, method.plan, settings)
    seen = (chosen.train, chosen.held_out) if domain.name == "points" else (None, None)
    curve, losses_seen = [signals_of(method, batches, *seen)], []
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
        losses_seen.append(float(losses.total.detach()))
        if (step + 1) * PARTS // steps > step * PARTS // steps:
            curve.append(signals_of(method, batches, *seen, draws=DRAWS if step + 1 == steps else 2))
    quarters = [round(float(np.mean(part)), 4) for part in np.array_split(losses_seen, PARTS)]
    return {
        name: {"curve": [values[name] for values, _ in curve], "chance": curve[-1][1].get(name), "loss": quarters}
        for name, _ in SIGNALS[preset]
    }


def told(preset: str, steps: int, runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return the rows of the table for one preset: of errors the ratio, of shares the difference, with its interval."""
    lines = []
    for name, more_is_better in SIGNALS[preset]:
        chance = [run[name]["chance"] for run in runs]
        before, after = (np.array([run[name]["curve"][when] for run in runs]) for when in (0, -1))
        shown, better, worse = against(before, after, more_is_better)
        luck = beside = ""
        verdict = "learns" if better else "worse" if worse else "not shown"
        if None not in chance:
            luck, (beside, beats, _) = f"{np.mean(chance):.3f}", against(np.array(chance), after, more_is_better)
            verdict = "not beyond chance" if better and not beats else verdict
        cells = [preset, str(steps), str(len(runs)), name, luck, f"{before.mean():.3f}", f"{after.mean():.3f}", shown]
        cells += [beside, verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def against(before: np.ndarray, after: np.ndarray, more_is_better: bool) -> tuple[str, bool, bool]:
    """Return the change of runs in words, and whether its interval says that it is a gain, or a loss."""
    if not (np.isfinite([before, after]).all() and (more_is_better or min(before.min(), after.min()) > 0)):
        return "not defined", False, False  # a run that came to NaN; an error of 0 has no ratio
    change = after - before if more_is_better else np.log(after / before)
    middle, (variance, freedom) = float(change.mean()), crossed_variance(change.reshape(-1, 1, 1))
    told = f"{middle:+.3f}" if more_is_better else f"x {np.exp(middle):.3g}"
    if len(change) < 2:
        return f"{told} ({LUCK})", False, False
    if not variance > 0:
        return f"{told} (all runs alike: no interval)", False, False
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(variance))
    low, high = middle - half, middle + half
    if more_is_better:
        return f"{told} [{low:+.3f}, {high:+.3f}]", low > 0, high < 0
    return f"{told} [{np.exp(low):.3g}, {np.exp(high):.3g}]", high < 0, low > 0


def main() -> None:
    """Measure what is lacking and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], help="settings, as `medssl pretrain` takes them")
    parser.add_argument("--only", nargs="*", default=None, choices=list(SIGNALS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out or Path(mkdtemp(prefix="signals-"))
    out.mkdir(parents=True, exist_ok=True)
    file = out / "signals.json"
    found: dict[str, list[dict[str, dict[str, Any]]]] = json.loads(file.read_text()) if file.is_file() else {}
    stores = {"scans": scans(out / "scans"), "clouds": clouds(out / "clouds")}
    print(f"{options.steps} steps, {options.runs} runs; {file}")
    print(
        "| preset | steps | runs | signal | chance | random | trained | beside random [95 %] | beside chance [95 %] | |"
    )
    print("|---" * 10 + "|")
    for preset in options.only or SIGNALS:
        store = stores["clouds" if preset.startswith("point_") else "scans"]
        key = ", ".join([preset, f"{options.steps} steps", *options.set])
        runs = found.setdefault(key, [])
        start = time.process_time()
        for seed in range(len(runs), options.runs):
            runs.append(one_run(preset, store, steps=options.steps, seed=seed, more=options.set))
            file.write_text(json.dumps(found, indent=1) + "\n")
        seconds = time.process_time() - start
        for line in told(preset, options.steps, runs[: options.runs]):
            print(f"{line} {seconds:.0f} s" if seconds > 0.5 else line, flush=True)


if __name__ == "__main__":
    main()
