"""What each way of pooling keeps: encoders, fresh and pretrained, read frozen by simple models, and fine-tuned.

Targets, each read with five folds of patients (nothing is chosen on what is scored):

hippocampus  volume of the hippocampus (R2); place of a random crop in its scan (R2, mean of three axes), and the side
             that it lies on (AUROC)
acdc         diagnosis (AUROC over five classes); whether the nearest other frame is of the same patient (share)
lgg          tumour in a slab of a few slices, or none (AUROC); level of the slab in the head (R2)

    MEDSSL_DATA=FOLDER python benchmarks/pooling.py OUT [--encoders unet residual vit] [--seeds 3] [--steps 200]
        [--tuned 60] [--table]

"fresh" are random weights; "masked" (``mae`` of a vit) and "simclr" are pretrained for --steps on the same scans, whose
labels they do not see. A masked method uses no embedding; "simclr" trains a run by each pool of --simclr. Each run is
read by every pool. --tuned N trains the project's classifier, encoder and head, for N steps on three fifths of the
patients and scores the others, a network for each pool. Intervals are over runs and patients (`medssl.evaluation`);
differences from ``mean`` are paired by run and patient. Runs and scores (OUT/scores.jsonl) that are there are kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

import medssl
from medssl.encoders.contract import Encoder
from medssl.encoders.pooling import Pool, Pooling
from medssl.encoders.table import build_encoder
from medssl.engine.card import load_encoder
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.directions import directions
from medssl.evaluation.statistics.crossed import crossed_interval
from medssl.evaluation.statistics.jackknife import pseudo_values
from medssl.evaluation.statistics.wording import interval_text
from medssl.store.read import Store
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import Classifier
from pipelines import console

POOLS: tuple[Pool, ...] = ("mean", "prenorm", "grid", "levels")
SOURCE = {"hippocampus": "hippocampus", "acdc": "acdc", "lgg": "lgg_flair"}
SPACING = {"hippocampus": "[1,1,1]", "acdc": "[8,4,4]", "lgg": "[2,4,4]"}
WHOLE = {"hippocampus": (32, 48, 32), "acdc": (16, 48, 48), "lgg": (8, 48, 48)}
VIEW = {"hippocampus": (16, 24, 16), "acdc": (8, 24, 24), "lgg": (8, 24, 24)}  # of pretraining
CROP = (16, 32, 16)
ENCODER = {
    "unet": {"name": "unet", "channels": [8, 16, 32, 64]},
    "residual": {"name": "residual", "channels": [8, 16, 32, 64], "blocks": [1, 1, 1, 1]},
    "vit": {"name": "vit", "width": 96, "depth": 4, "heads": 3, "patch": 8},
}
METHOD = {"masked": "method.patch=[8,8,8]", "mae": "method.decoder_width=48", "simclr": "method.hidden=128"}
FOLDS = 5
TESTED = 2  # folds that a fine-tuned network is scored on
TUNED_TARGETS, TUNED_RATE = ("diagnosis, AUROC", "tumour in slab, AUROC"), 2e-3
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


@torch.no_grad()
def pooled(encoder: Encoder, images: torch.Tensor, pools: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the vectors of windows by pool, from one pass."""
    encoder.eval().pool_by("prenorm")
    heads = {pool: Pooling(pool, encoder.channels, encoder.strides) for pool in pools}
    found: dict[str, list[np.ndarray]] = {pool: [] for pool in pools}
    for batch in images.split(16):
        pyramid, before = encoder.levels(batch)
        for pool, head in heads.items():
            found[pool].append(head(pyramid, before).numpy())
    return {pool: np.concatenate(parts).astype(np.float64) for pool, parts in found.items()}


def folds(patients: np.ndarray) -> np.ndarray:
    """Return the fold of each row; a patient's rows share one."""
    names = np.unique(patients)
    fold = dict(zip(names, np.random.default_rng(1).permutation(len(names)) % FOLDS, strict=True))
    return np.array([fold[name] for name in patients])


def score(target: str, vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return a target's score, and the pseudo-value of each patient."""
    return {"R2": explained, "AUROC": told_apart, "share": found_again}[target.split(", ")[1]](vectors, truth, patients)


def explained(vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return R2 of a ridge regression; its strength is chosen by leaving out rows of the fitted folds."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wanted = truth.reshape(len(truth), -1)
    fold, guess = folds(patients), np.zeros_like(wanted)
    for held in range(FOLDS):
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13)))
        guess[fold == held] = (
            model.fit(vectors[fold != held], wanted[fold != held])
            .predict(vectors[fold == held])
            .reshape(-1, wanted.shape[1])
        )
    _, own = np.unique(patients, return_inverse=True)

    def r2(weights: np.ndarray) -> np.ndarray:
        each = weights[:, own]
        mean = (each @ wanted) / each.sum(axis=1, keepdims=True)
        left = each @ (wanted - guess) ** 2
        spread = each @ wanted**2 - each.sum(axis=1, keepdims=True) * mean**2
        return (1 - left / spread).mean(axis=1)

    return pseudo_values(r2, own.max() + 1)


def told_apart(vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the AUROC of a logistic regression (C = 0.1), the mean over classes where there are more than two."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes, number = np.unique(truth, return_inverse=True)
    fold, chance = folds(patients), np.zeros((len(truth), len(classes)))
    for held in range(FOLDS):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        model.fit(vectors[fold != held], number[fold != held])
        chance[np.ix_(fold == held, model.classes_)] = model.predict_proba(vectors[fold == held])
    cases = class_predictions(chance, number, patients, classes)
    return pseudo_values(lambda w: resampled_scores(cases, "auroc", w), len(np.unique(patients)))


def class_predictions(
    chance: np.ndarray, truth: np.ndarray, patients: np.ndarray, classes: np.ndarray
) -> ClassPredictions:
    """Return probabilities as the project scores them."""
    return ClassPredictions(
        tuple(map(str, range(len(truth)))),
        tuple(map(str, patients)),
        truth,
        chance,
        chance.argmax(axis=1),
        tuple(map(str, classes)),
    )


def found_again(vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the share of frames whose nearest other frame, by direction, is of the same patient."""
    (unit,) = directions(vectors)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    right = (patients[near.argmax(axis=1)] == patients).astype(float)
    names = np.unique(patients)
    each = np.array([right[patients == name].mean() for name in names])
    return float(each.mean()), each


def pretrained(
    data: str, store: Store, encoder: str, method: str, pool: str, seed: int, out: Path, options: argparse.Namespace
) -> Encoder:
    """Return a pretrained encoder; train it where that is not done yet."""
    run = out / data / "runs" / f"{encoder}-{method}-{pool}-steps{options.steps}-seed{seed}"
    if not (run / "card.json").is_file():
        preset = out / f"{method}-{encoder}.yaml"
        preset.write_text(json.dumps({"method": {"name": method}, "encoder": ENCODER[encoder], "train": {"lr": 1e-3}}))
        seen, crop = (WHOLE[data], VIEW[data]) if method == "simclr" else (VIEW[data], None)
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


def tuned(encoder: Encoder, pool: str, cases: Cases, target: str, seed: int, steps: int) -> tuple[float, np.ndarray]:
    """Fine-tune a classifier on three fifths of the patients; return its AUROC on the others, and pseudo-values."""
    classes, number = np.unique(cases.truths[target], return_inverse=True)
    seen = folds(cases.patients) >= TESTED
    encoder = copy.deepcopy(encoder)
    encoder.pool_by(pool)
    torch.manual_seed(seed)
    network = Classifier(encoder, len(classes), ClassificationSettings(window=tuple(cases.images.shape[2:]))).train()
    share = np.bincount(number[seen], minlength=len(classes)) / seen.sum()
    weight = torch.from_numpy(1 / (len(classes) * share)).float()
    optimiser = torch.optim.AdamW(network.parameters(), lr=TUNED_RATE, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, TUNED_RATE, total_steps=steps)
    draw, truth = np.random.default_rng(seed), torch.from_numpy(number)
    for _ in range(steps):
        chosen = draw.choice(np.flatnonzero(seen), 16, replace=False)
        found = network(cases.images[chosen])
        loss = torch.nn.functional.cross_entropy(found, truth[chosen], weight=weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        rates.step()
    network.eval()
    left = np.flatnonzero(~seen)
    with torch.no_grad():
        chance = torch.cat([network(cases.images[part]).softmax(dim=1) for part in np.array_split(left, 12)])
    whose = cases.patients[left]
    answers = class_predictions(chance.double().numpy(), number[left], whose, classes)
    return pseudo_values(lambda w: resampled_scores(answers, "auroc", w), len(np.unique(whose)))


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

        for cases in groups.values():
            vectors = pooled(network, cases.images, POOLS)
            for target, truth in cases.truths.items():
                for pool, found in vectors.items():
                    note("frozen", target, pool, partial(score, target, found, truth, cases.patients))
                    if options.tuned and target in TUNED_TARGETS:
                        note(
                            f"tuned {options.tuned}",
                            target,
                            pool,
                            partial(tuned, network, pool, cases, target, int(own["seed"]), options.tuned),
                        )


def tables(rows: Sequence[Row]) -> str:
    """Return tables: scores by target, encoder and arm, a column a pool; and the differences from the mean."""
    lines: list[str] = []
    for how in dict.fromkeys(row["how"] for row in rows):
        own = [row for row in rows if row["how"] == how]
        head = f"| read off | encoder | arm | {' | '.join(POOLS)} |\n|{'---|' * (3 + len(POOLS))}"
        values, gaps = [], []
        for data, target, encoder, arm in dict.fromkeys(
            (row["data"], row["target"], row["encoder"], row["arm"]) for row in own
        ):
            cells = {}
            for row in own:
                if (row["data"], row["target"], row["encoder"], row["arm"]) == (data, target, encoder, arm):
                    cells.setdefault(row["pool"], {})[row["seed"]] = (row["score"], row["patients"])
            first = f"| {data}: {target} | {encoder} | {arm} |"
            values.append(first + "".join(f" {cell(cells[pool], str(target))} |" for pool in POOLS))
            gaps.append(
                first + " |" + "".join(f" {gap(cells[pool], cells['mean'])} |" for pool in POOLS if pool != "mean")
            )
        lines += [f"\n{how}\n", head, *values, f"\n{how}, minus mean\n", head, *gaps]
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
    text = f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
    return f"**{text}**" if found.low > 0 or found.high < 0 else text


if __name__ == "__main__":
    main()
