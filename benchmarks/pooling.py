"""What each way of pooling keeps: encoders, fresh and pretrained, read frozen by simple models, and fine-tuned.

Targets, each read with five folds of patients (nothing is chosen on what is scored):

hippocampus  volume of the hippocampus (R2); place of a random crop in its scan (R2, mean of three axes), and the side
             that it lies on (AUROC)
acdc         diagnosis (AUROC over five classes); whether the nearest other frame is of the same patient (share)
lgg          tumour in a slab of a few slices, or none (AUROC); level of the slab in the head (R2)

    MEDSSL_DATA=FOLDER python benchmarks/pooling.py OUT [--encoders unet residual vit] [--seeds 3] [--steps 200]
        [--tuned 60 [--tuned-pools mean prenorm]] [--table]

"fresh" are random weights; "masked" (``mae`` of a vit) and "simclr" are pretrained for --steps on the same scans, whose
labels they do not see. A masked method uses no embedding; "simclr" trains a run by each pool of --simclr. Each run is
read by every pool. --tuned N trains the project's classifier, encoder and head, for N steps on three fifths of the
patients and scores the others, a network for each pool. Intervals are over runs and patients (`medssl.evaluation`);
differences from the first pool (the mean, where it is read) are paired by run and patient. Runs and scores
(OUT/scores.jsonl) that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pooling_readers import pooled, score, tuned
from pooling_targets import SOURCE, VIEW, WHOLE, Cases, cases_of, prepared

import medssl
from medssl.encoders.contract import Encoder
from medssl.encoders.pooling import Pool
from medssl.encoders.table import build_encoder
from medssl.engine.card import load_encoder
from medssl.evaluation.statistics.crossed import crossed_interval
from medssl.evaluation.statistics.wording import interval_text
from medssl.store.read import Store
from pipelines import console

POOLS: tuple[Pool, ...] = ("mean", "prenorm", "grid", "levels")
TUNED_POOLS: tuple[Pool, ...] = (*POOLS, "attention")  # which has weights to train, and cannot be judged frozen
ENCODER = {
    "unet": {"name": "unet", "channels": [8, 16, 32, 64]},
    "residual": {"name": "residual", "channels": [8, 16, 32, 64], "blocks": [1, 1, 1, 1]},
    "vit": {"name": "vit", "width": 96, "depth": 4, "heads": 3, "patch": 8},
    "swin": {"name": "swin", "feature_size": 12, "heads": [1, 2, 4, 8], "window": 4},
}
METHOD = {"masked": "method.patch=[8,8,8]", "mae": "method.decoder_width=48", "simclr": "method.hidden=128"}
Triple = tuple[int, int, int]
TUNED_TARGETS = ("diagnosis, AUROC", "tumour in slab, AUROC")


def taken(size: Triple, multiple: Triple) -> Triple:
    """Return ``size``, (z, y, x), up to what an encoder takes: multiples of its own, and no single voxel in the end."""
    z, y, x = (-(-n // m) * m for n, m in zip(size, multiple, strict=True))
    return (z, 2 * y, 2 * x) if (z, y, x) == multiple else (z, y, x)


def pretrained(
    data: str, store: Store, encoder: str, method: str, pool: str, seed: int, out: Path, options: argparse.Namespace
) -> Encoder:
    """Return a pretrained encoder; train it where that is not done yet."""
    run = out / data / "runs" / f"{encoder}-{method}-{pool}-steps{options.steps}-seed{seed}"
    if not (run / "card.json").is_file():
        preset = out / f"{method}-{encoder}.yaml"
        preset.write_text(json.dumps({"method": {"name": method}, "encoder": ENCODER[encoder], "train": {"lr": 1e-3}}))
        multiple = build_encoder(ENCODER[encoder]).size_multiple
        view = taken(VIEW[data], multiple)
        seen, crop = (taken(WHOLE[data], multiple), view) if method == "simclr" else (view, None)
        medssl.pretrain(
            preset,
            data=store.folder,
            out=run,
            resume=run.is_dir(),
            overrides=[
                f"method.window={list(seen)}",
                METHOD[method],
                *([f"method.crop={list(crop)}"] if crop else []),
                f"encoder.pool={pool}",
                "data.splits=[train,test]",
                "data.held_out_share=0",
                f"train.steps={options.steps}",
                f"train.seed={seed}",
                "train.precision=32-true",
                "train.threads=1",
                "train.log_every=25",
                "train.probe_every=1000000",
            ],
        )
    return load_encoder(run)


def arms(data: str, store: Store, encoder: str, options: argparse.Namespace) -> dict[str, Callable[[int], Encoder]]:
    """Return for each arm what gives its encoder of a seed."""

    def fresh(seed: int) -> Encoder:
        torch.manual_seed(seed)
        return build_encoder(ENCODER[encoder])

    def trained(method: str, pool: str) -> Callable[[int], Encoder]:
        return lambda seed: pretrained(data, store, encoder, method, pool, seed, options.out, options)

    found: dict[str, Callable[[int], Encoder]] = {"fresh": fresh}
    if "masked" in options.methods:
        masked = "mae" if encoder == "vit" else "masked"
        found[masked] = trained(masked, "mean")
    if "simclr" in options.methods:
        found |= {f"simclr by {pool}": trained("simclr", pool) for pool in options.simclr}
    return found


Row = dict[str, object]
KEYS = ("data", "encoder", "arm", "how", "target", "pool", "seed")


def main() -> None:
    """Measure what is not measured yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=list(SOURCE), choices=list(SOURCE))
    parser.add_argument("--methods", nargs="*", default=["masked", "simclr"], choices=["masked", "simclr"])
    parser.add_argument("--simclr", nargs="*", default=["mean", "prenorm"], choices=POOLS)
    parser.add_argument("--encoders", nargs="+", default=list(ENCODER), choices=list(ENCODER))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tuned", type=int, default=0)
    parser.add_argument("--tuned-pools", nargs="+", default=POOLS, choices=TUNED_POOLS)
    parser.add_argument("--scans", type=int, default=10_000)
    parser.add_argument("--table", action="store_true", help="only write the tables of what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for data in () if options.table else options.data:
        with console.speaking(console.Manner(quiet=True)):
            store = prepared(data, options.out)
        groups = cases_of(data, store, options.scans)
        for encoder in options.encoders:
            for seed in range(options.seeds):
                for arm, make in arms(data, store, encoder, options).items():
                    began = time.process_time()
                    with console.speaking(console.Manner(quiet=True)):
                        network = make(seed)
                    measure(groups, network, {"data": data, "encoder": encoder, "arm": arm, "seed": seed}, options)
                    print(f"{data} {encoder} {arm} {seed}: {time.process_time() - began:.0f} s", flush=True)
    text = tables(kept(options.out))
    (options.out / "pooling.md").write_text(text)
    print(text)


def kept(out: Path) -> list[Row]:
    """Return the scores that are there."""
    file = out / "scores.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def measure(groups: Mapping[str, Cases], network: Encoder, own: Row, options: argparse.Namespace) -> None:
    """Append the scores of one run to the file, but for those that are there."""
    done = {tuple(row[key] for key in KEYS) for row in kept(options.out)}
    with (options.out / "scores.jsonl").open("a") as file:

        def note(how: str, target: str, pool: str, make: Callable[[], tuple[float, np.ndarray]]) -> None:
            row: Row = {**own, "how": how, "target": target, "pool": pool}
            if tuple(row[key] for key in KEYS) not in done:
                value, patients = make()
                file.write(json.dumps({**row, "score": value, "patients": np.round(patients, 5).tolist()}) + "\n")
                file.flush()

        def lacking(target: str) -> bool:
            rows = ({**own, "how": "frozen", "target": target, "pool": pool} for pool in POOLS)
            return any(tuple(row[key] for key in KEYS) not in done for row in rows)

        for cases in groups.values():
            known = not any(map(lacking, cases.truths))
            vectors = {} if known else pooled(network, cases.images, POOLS)
            for target, truth in cases.truths.items():
                for pool, found in vectors.items():
                    note("frozen", target, pool, partial(score, target, found, truth, cases.patients))
                for pool in options.tuned_pools if options.tuned and target in TUNED_TARGETS else ():
                    fit = partial(tuned, network, pool, cases, target, int(own["seed"]), options.tuned)
                    note(f"tuned {options.tuned}", target, pool, fit)


def tables(rows: Sequence[Row]) -> str:
    """Return tables: scores by target, encoder and arm, a column a pool; and the differences from the mean."""
    lines: list[str] = []
    for how in dict.fromkeys(row["how"] for row in rows):
        own = [row for row in rows if row["how"] == how]
        pools = [pool for pool in TUNED_POOLS if any(row["pool"] == pool for row in own)]
        base = pools[0]  # the mean, where it is among them
        head = f"| read off | encoder | arm | {' | '.join(pools)} |\n|{'---|' * (3 + len(pools))}"
        values, gaps = [], []
        for data, target, encoder, arm in dict.fromkeys(
            (row["data"], row["target"], row["encoder"], row["arm"]) for row in own
        ):
            cells = {}
            for row in own:
                if (row["data"], row["target"], row["encoder"], row["arm"]) == (data, target, encoder, arm):
                    cells.setdefault(row["pool"], {})[row["seed"]] = (row["score"], row["patients"])
            first = f"| {data}: {target} | {encoder} | {arm} |"
            said = {pool: cell(cells[pool], str(target)) if pool in cells else "" for pool in pools}
            less = {pool: gap(cells[pool], cells[base]) if {pool, base} <= set(cells) else "" for pool in pools[1:]}
            values.append(first + "".join(f" {text} |" for text in said.values()))
            gaps.append(first + " |" + "".join(f" {text} |" for text in less.values()))
        lines += [f"\n{how}\n", head, *values, f"\n{how}, minus {base}\n", head, *gaps]
    return "\n".join(lines) + "\n"


Found = Mapping[int, tuple[float, Sequence[float]]]


def cell(found: Found, target: str) -> str:
    """Return a score with its interval over runs and patients."""
    shares = not target.endswith("R2")
    interval = crossed_interval(
        np.array([[values] for _, values in found.values()]),
        estimate=float(np.mean([s for s, _ in found.values()])),
        bounds=(0, 1) if shares else (-np.inf, 1),
        logit=shares,
    )
    return interval_text(interval)


def gap(own: Found, other: Found) -> str:
    """Return the difference of two pools on the same runs and patients, bold where its interval leaves out 0."""
    both = [seed for seed in own if seed in other]
    each = np.array([[np.subtract(own[seed][1], other[seed][1])] for seed in both])
    found = crossed_interval(each, estimate=float(np.mean([own[seed][0] - other[seed][0] for seed in both])))
    text = interval_text(found, signed=True)
    return f"**{text}**" if found.low > 0 or found.high < 0 else text


if __name__ == "__main__":
    main()
