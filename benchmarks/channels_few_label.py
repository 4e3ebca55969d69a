"""What four channels bring, and what weights of one channel bring to four: synthetic brains, a few labels.

Heads with a lesion in the sequences t1, t1ce, t2 and flair; the rim of the lesion (label 4) has a signal of its own in
t1ce alone. Two stores of the same patients, of t1 and of all four. Encoders are pretrained without labels on either
store, several runs each, and fine-tuned on both, beside scratch; all arms share draws of labelled patients,
the seed of a pair of run and draw, steps and recipe. The verbs are those of the README; scores are those of `evaluate`.

    python benchmarks/channels_few_label.py OUT                     # about twenty minutes of one core
    python benchmarks/channels_few_label.py OUT --part 1/2 & python benchmarks/channels_few_label.py OUT --part 2/2
    python benchmarks/channels_few_label.py OUT --rates 0.01 0.02     # choose each arm's rate on other patients

Larger: --subjects 200 --edge 64 --steps 4000 --tuned 1000 --sizes 1 2 4 8 --draws 10 --runs 3.
Every step is skipped when it is done, so the script goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import medssl
from medssl.evaluation.statistics.crossed import crossed_interval
from medssl.phantoms import write_brains
from medssl.writing import atomic_write

Scores = npt.NDArray[np.float64]
STRUCTURES = {"rim": ("4",), "oedema": ("2",), "core": ("1",), "all three": ("1", "2", "4")}
CPU = ["train.threads=1", "train.precision=32-true", "train.accelerator=cpu"]
UNET = ["encoder.name=unet", "encoder.channels=[8,16,32]"]
DEV_DRAWS = 2


@dataclass(frozen=True)
class Arm:
    """One way to start: the store that is fine-tuned on, what was pretrained on, how channels carry over."""

    store: str
    source: str = ""
    policy: str = "repeat"

    @property
    def name(self) -> str:
        """What tables call it."""
        if not self.source:
            return f"{self.store}, scratch"
        return f"{self.store}, from {self.source}" + (f" ({self.policy})" if self.source != self.store else "")


ARMS = (
    Arm("t1"),
    Arm("four"),
    Arm("four", "t1", "repeat"),  # from one channel the same as average, bit for bit
    Arm("four", "t1", "match"),
    Arm("four", "four"),
    Arm("t1", "t1"),
    Arm("t1", "four", "repeat"),
    Arm("t1", "four", "average"),
    Arm("t1", "four", "match"),
)


def same_recipe(out: Path, chosen: argparse.Namespace) -> None:
    """Note what cells and runs of this folder depend on beside their names; refuse another one."""
    names = ("subjects", "tested", "dev", "edge", "steps", "tuned", "window", "foreground")
    recipe, file = {name: getattr(chosen, name) for name in names}, out / "recipe.json"
    if not file.exists():
        with atomic_write(file) as aside:
            aside.write_text(json.dumps(recipe), encoding="utf-8")
    before = json.loads(file.read_text(encoding="utf-8"))
    if before != recipe:
        raise SystemExit(f"{file}: made with {before}, now {recipe}. Take another folder, or those settings.")


def cohort(out: Path, chosen: argparse.Namespace) -> None:
    """Write the brains, and store them twice."""
    edge = chosen.edge
    shape = (edge, edge * 5 // 4, edge)
    if not (out / "brains.done").exists():
        write_brains(out / "brains", subjects=chosen.subjects, shape=shape, spacing_mm=(160 / edge,) * 3)
        (out / "brains.done").touch()
    manifest = out / "brains.parquet"
    if not manifest.exists():
        shares = [f"test={chosen.tested / chosen.subjects}", f"val={chosen.dev / chosen.subjects}"]
        medssl.index(out / "brains", out=manifest, overrides=[*shares, "modality=MR"])
    for store, channels in (("four", "auto"), ("t1", "t1")):
        medssl.cache(manifest, out=out / store, overrides=[f"channels={channels}", "workers=1"])


def pretrained(out: Path, source: str, run: int, chosen: argparse.Namespace) -> Path:
    """Return a pretraining run on a store; train it where that is not done yet."""
    folder = out / "runs" / f"{chosen.method}-{source}-seed{run}"
    if (folder / "card.json").exists():
        return folder
    edge = chosen.edge
    if chosen.method == "global_contrast":
        views = [f"method.window=[8,{edge},{edge}]", "train.batch_size=16"]
    else:
        window = 3 * edge // 4
        views = [f"method.window=[{window},{window},{window}]", "method.patch=[4,4,4]", "train.batch_size=4"]
    medssl.pretrain(
        f"{chosen.method}_small",
        data=out / source,
        out=folder,
        resume=folder.exists(),
        overrides=[
            *UNET,
            *CPU,
            *views,
            f"train.steps={chosen.steps}",
            f"train.seed={run}",
            "data.held_out_scans=8",
            f"train.probe_every={chosen.steps}",
        ],
    )
    return folder


def scored(
    out: Path, arm: Arm, *, n: int, draw: int, run: int, rate: float, split: str, chosen: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Fine-tune one cell and return the Dice of each case and structure; read them where that is done."""
    start = pretrained(out, arm.source, run, chosen) if arm.source else None
    name = "-".join([arm.store, arm.source or "scratch", *([arm.policy, chosen.method] if arm.source else [])])
    folder = out / "cells" / f"{split}-n{n}-draw{draw}-run{run}" / f"{name}-{rate:g}"
    file = folder.with_suffix(folder.suffix + ".json")
    if file.exists():
        content: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))["dice"]
        return content
    began, window = time.monotonic(), chosen.window or chosen.edge // 2
    medssl.finetune(
        start,
        data=out / arm.store,
        out=folder,
        labels=n,
        draw=draw,
        predict=[split],
        overwrite=folder.exists(),
        overrides=[
            *UNET[: 2 if start is None else 0],
            *CPU,
            f"segmentation.window=[{window},{window},{window}]",
            f"segmentation.foreground_share={chosen.foreground}",
            f"train.steps={chosen.tuned}",
            "train.batch_size=2",
            f"train.lr={rate}",
            "train.schedule=cosine",
            "train.warmup=0.05",
            f"train.seed={1000 * draw + run}",
            f"train.checkpoint_every={chosen.tuned}",
            f"train.probe_every={chosen.tuned}",
            "data.held_out_scans=0",
            f"data.draw_seed={int(split != 'test')}",
            f"transfer.channels={arm.policy}",
            "inference.overlap=0.25",
        ],
    )
    found = medssl.evaluate(
        folder, data=out / arm.store, out=folder, overrides=["workers=1", f"split={split}", "metrics=[dice]"]
    )
    dice: dict[str, dict[str, float]] = {}
    for case, structure, value in found.table.frame.filter(metric="dice").select("item", "target", "value").iter_rows():
        dice.setdefault(case, {})[structure.removeprefix("structure ")] = float("nan") if value is None else value
    with atomic_write(file) as aside:
        aside.write_text(json.dumps({"dice": dice, "seconds": round(time.monotonic() - began, 1)}), encoding="utf-8")
    return dice


def chosen_rates(out: Path, arms: Iterable[Arm], chosen: argparse.Namespace) -> dict[Arm, float]:
    """Return each arm's rate: the best of --rates on the patients of `val`, with draws that are not used again."""
    rates: dict[Arm, float] = {}
    for arm in arms:
        if len(chosen.rates) == 1:
            rates[arm] = chosen.rates[0]
            continue
        means = {}
        for rate in chosen.rates:
            cells = [
                scored(out, arm, n=n, draw=draw, run=draw % chosen.runs, rate=rate, split="val", chosen=chosen)
                for n in chosen.sizes
                for draw in range(DEV_DRAWS)
            ]
            means[rate] = float(np.mean([np.mean(list(case.values())) for cell in cells for case in cell.values()]))
        rates[arm] = max(means, key=lambda rate: means[rate])
        told = ", ".join(f"{rate:g}: {mean:.3f}" for rate, mean in means.items())
        print(f"rate of {arm.name}: {rates[arm]:g} (mean Dice on val {told})", flush=True)
    return rates


def tables(out: Path, arms: Sequence[Arm], rates: dict[Arm, float], chosen: argparse.Namespace) -> None:
    """Print Dice of every arm, and differences with their intervals."""

    def values(arm: Arm, n: int, structure: str) -> Scores:
        cells = []
        for run in range(chosen.runs):
            row = []
            for draw in range(chosen.draws):
                cell = scored(out, arm, n=n, draw=draw, run=run, rate=rates[arm], split="test", chosen=chosen)
                row.append([np.mean([cell[case][key] for key in STRUCTURES[structure]]) for case in sorted(cell)])
            cells.append(row)
        return np.array(cells)

    print("\n| n | arm | " + " | ".join(STRUCTURES) + " |\n|--:|---|" + "---|" * len(STRUCTURES))
    for n in chosen.sizes:
        for arm in arms:
            cells = [f"{values(arm, n, structure).mean():.3f}" for structure in STRUCTURES]
            print(f"| {n} | {arm.name} | {' | '.join(cells)} |")
    pairs = [(Arm("four"), Arm("t1"))]
    pairs += [(arm, Arm(arm.store)) for arm in arms if arm.source]
    crossing = [Arm("four", "t1", "repeat"), Arm("four", "t1", "match"), Arm("four", "four")]
    pairs += [(crossing[0], crossing[1]), (crossing[0], crossing[2])]
    trained = chosen.subjects - chosen.tested - chosen.dev
    print("\n| n | difference | of | mean [95 % over runs, draws and patients] | each run | ahead |")
    print("|--:|---|---|---|---|--:|")
    for n in chosen.sizes:
        for one, other in pairs:
            if one not in arms or other not in arms:
                continue
            for structure in ("rim", "all three"):
                ours, theirs = values(one, n, structure), values(other, n, structure)
                found = crossed_interval(ours, theirs, overlap=n / trained)
                difference = ours - theirs
                each = ", ".join(f"{m:+.3f}" for m in difference.mean(axis=(1, 2)))
                ahead = difference.mean(axis=2) > 0
                print(
                    f"| {n} | {one.name}, minus {other.name} | {structure} | {found.estimate:+.3f} "
                    f"[{found.low:+.3f}, {found.high:+.3f}] | {each} | {int(ahead.sum())}/{ahead.size} |"
                )


def main() -> None:
    """Run what is not done yet, and print the tables once all of it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=48)
    parser.add_argument("--tested", type=int, default=16, help="Patients in the test split.")
    parser.add_argument("--dev", type=int, default=8, help="Patients in val, on which rates are chosen.")
    parser.add_argument("--edge", type=int, default=32, help="Voxels of a brain along z and x.")
    parser.add_argument("--method", default="global_contrast", help="A preset without _small.")
    parser.add_argument("--steps", type=int, default=600, help="Of pretraining.")
    parser.add_argument("--tuned", type=int, default=200, help="Steps of fine-tuning.")
    parser.add_argument("--window", type=int, help="Edge of a window of fine-tuning; half a brain if unset.")
    parser.add_argument("--foreground", type=float, default=0.67, help="Share of windows that hold some lesion.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4], help="Labelled patients.")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--runs", type=int, default=2, help="Pretraining runs; from scratch, seeds.")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02], help="Several: chosen for each arm on val.")
    parser.add_argument("--arms", type=int, nargs="+", help=f"Of {[arm.name for arm in ARMS]}, from 0; all if unset.")
    parser.add_argument("--part", default="1/1", help="I/K: every K-th cell; run all K, then once without.")
    chosen = parser.parse_args()
    out, arms = chosen.out, [ARMS[number] for number in (chosen.arms or range(len(ARMS)))]
    number, parts = map(int, chosen.part.split("/"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    same_recipe(out, chosen)
    cohort(out, chosen)
    rates = chosen_rates(out, arms, chosen)
    cells = [
        (n, draw, run, arm)
        for draw in range(chosen.draws)
        for n in chosen.sizes
        for run in range(chosen.runs)
        for arm in arms
    ]
    for place, (n, draw, run, arm) in enumerate(cells):  # draws first: what was stopped early is balanced
        if place % parts == number - 1:
            scored(out, arm, n=n, draw=draw, run=run, rate=rates[arm], split="test", chosen=chosen)
    if parts == 1:
        tables(out, arms, rates, chosen)


if __name__ == "__main__":
    main()
