"""What each way of pooling keeps: frozen encoders, fresh and pretrained, read by simple models.

Targets, each read with five folds of patients (nothing is chosen on what is scored):

hippocampus  volume of the hippocampus (R2); place of a random crop in its scan (R2, mean of three axes), and the side
             that it lies on (AUROC)
acdc         diagnosis (AUROC over five classes); whether the nearest other frame is of the same patient (share)
lgg          tumour in a slab of a few slices, or none (AUROC); level of the slab in the head (R2)

    MEDSSL_DATA=FOLDER python benchmarks/pooling.py OUT [--encoders unet vit] [--seeds 2] [--steps 150]

"fresh" are random weights; "masked" (``mae`` of a vit) and "simclr" are pretrained for --steps on the same scans, whose
labels they do not see. A masked method uses no embedding, so that one run serves every pool; "simclr" trains a run for
each pool. Intervals are over seeds and patients (`medssl.evaluation`). Every run is skipped when it is done. Small
sizes finish in about a quarter of an hour of one core; --steps 2000 --seeds 3 --pretrain hippocampus acdc lgg for more.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import medssl
from medssl.encoders.contract import Encoder
from medssl.encoders.pooling import Pooling
from medssl.encoders.table import build_encoder
from medssl.engine.card import load_encoder
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.directions import directions
from medssl.evaluation.statistics.crossed import crossed_interval
from medssl.evaluation.statistics.jackknife import pseudo_values
from medssl.evaluation.statistics.wording import interval_text
from medssl.store.read import Store
from pipelines import console

POOLS = ("mean", "prenorm", "grid", "levels", "attention")
SOURCE = {"hippocampus": "hippocampus", "acdc": "acdc", "lgg": "lgg_flair"}
SPACING = {"hippocampus": "[1,1,1]", "acdc": "[8,4,4]", "lgg": "[2,4,4]"}
WHOLE = {"hippocampus": (32, 48, 32), "acdc": (16, 48, 48), "lgg": (8, 48, 48)}
CROP = (16, 32, 16)
ENCODER = {
    "unet": {"name": "unet", "channels": [8, 16, 32, 64]},
    "vit": {"name": "vit", "width": 96, "depth": 4, "heads": 3, "patch": 8},
}
METHOD = {
    "masked": "method.patch=[8,8,8]", "mae": "method.decoder_width=48", "simclr": "method.hidden=128",
}  # fmt: skip
FOLDS = 5
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
        return {"whole": whole, "crops": Cases(torch.stack(images), np.repeat(owner, 3), {
            "place, R2": place, "side, AUROC": side})}  # fmt: skip
    if data == "acdc":
        group = [dict(store.entries[item].targets)["diagnosis"] for item in items]
        images = torch.stack([central(store, item, size) for item in items])
        return {"whole": Cases(images, np.array(owner), {
            "diagnosis, AUROC": np.array(group), "same patient, share": np.array(owner)})}  # fmt: skip
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
    return {"slabs": Cases(torch.stack(images), np.array(whose), {
        "tumour in slab, AUROC": np.array(marks), "slab level, R2": np.array(level)})}  # fmt: skip


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
        guess[fold == held] = model.fit(vectors[fold != held], wanted[fold != held]).predict(
            vectors[fold == held]
        ).reshape(-1, wanted.shape[1])  # fmt: skip
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
    cases = ClassPredictions(
        tuple(map(str, range(len(truth)))), tuple(map(str, patients)), number, chance, chance.argmax(axis=1),
        tuple(map(str, classes)),
    )  # fmt: skip
    return pseudo_values(lambda w: resampled_scores(cases, "auroc", w), len(np.unique(patients)))


def found_again(vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the share of frames whose nearest other frame, by direction, is of the same patient."""
    (unit,) = directions(vectors)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    right = (patients[near.argmax(axis=1)] == patients).astype(float)
    names = np.unique(patients)
    each = np.array([right[patients == name].mean() for name in names])
    return float(each.mean()), each


def pretrained(data: str, store: Store, encoder: str, method: str, pool: str, seed: int, out: Path,
               options: argparse.Namespace) -> Encoder:  # fmt: skip
    """Return a pretrained encoder; train it where that is not done yet."""
    run = out / data / "runs" / f"{encoder}-{method}-{pool}-steps{options.steps}-seed{seed}"
    if not (run / "card.json").is_file():
        preset = out / f"{method}-{encoder}.yaml"
        preset.write_text(json.dumps({"method": {"name": method}, "encoder": ENCODER[encoder], "train": {"lr": 1e-3}}))
        crop = [f"method.crop=[{','.join(str(n if n <= 16 else n - 16) for n in WHOLE[data])}]"]
        medssl.pretrain(
            preset, data=store.folder, out=run, resume=run.is_dir(),
            overrides=[
                f"method.window=[{','.join(map(str, WHOLE[data]))}]", METHOD[method],
                *(crop if method == "simclr" else []), f"encoder.pool={pool}", "data.splits=[train,test]",
                "data.held_out_share=0", f"train.steps={options.steps}", f"train.seed={seed}",
                "train.precision=32-true", "train.threads=1", "train.log_every=25", "train.probe_every=1000000",
            ],
        )  # fmt: skip
    return load_encoder(run)


def arms(data: str, store: Store, encoder: str, out: Path, options: argparse.Namespace) -> dict:
    """Return for each arm what gives its encoder of a seed, and the pools that it is read by."""

    def fresh(seed: int) -> Encoder:
        torch.manual_seed(seed)
        return build_encoder(ENCODER[encoder])

    found: dict[str, tuple[Callable[[int], Encoder], tuple[str, ...]]] = {"fresh": (fresh, POOLS[:4])}
    masked = "mae" if encoder == "vit" else "masked"
    if data in options.pretrain and "masked" in options.methods:
        found[masked] = (lambda seed: pretrained(data, store, encoder, masked, "mean", seed, out, options), POOLS[:4])
    if data in options.pretrain and "simclr" in options.methods:
        for pool in options.simclr:
            found[f"simclr by {pool}"] = (
                lambda seed, pool=pool: pretrained(data, store, encoder, "simclr", pool, seed, out, options), (pool,)
            )  # fmt: skip
    return found


def main() -> None:
    """Measure what is not measured yet, and print a table a target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=list(SOURCE), choices=list(SOURCE))
    parser.add_argument("--pretrain", nargs="*", default=["hippocampus"], choices=list(SOURCE))
    parser.add_argument("--methods", nargs="+", default=["masked", "simclr"], choices=["masked", "simclr"])
    parser.add_argument("--simclr", nargs="*", default=["mean", "prenorm", "grid"], choices=POOLS)
    parser.add_argument("--encoders", nargs="+", default=list(ENCODER), choices=list(ENCODER))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--scans", type=int, default=10_000)
    options = parser.parse_args()
    rows: list[tuple[str, str, str, str, str]] = []
    for data in options.data:
        with console.speaking(console.Manner(quiet=True)):
            store = prepared(data, options.out)
        groups = cases_of(data, store, options.scans)
        for encoder in options.encoders:
            for arm, (make, pools) in arms(data, store, encoder, options.out, options).items():
                began = time.time()
                scores: dict[tuple[str, str], list[tuple[float, np.ndarray]]] = {}
                for seed in range(options.seeds):
                    with console.speaking(console.Manner(quiet=True)):
                        network = make(seed)
                    for cases in groups.values():
                        if pools == ("attention",):
                            vectors = {"attention": learnt(network, cases.images)}
                        else:
                            vectors = pooled(network, cases.images, pools)
                        for pool, found in vectors.items():
                            for target, truth in cases.truths.items():
                                got = score(target, found, truth, cases.patients)
                                scores.setdefault((target, pool), []).append(got)
                for (target, pool), got in scores.items():
                    shares = not target.endswith("R2")
                    interval = crossed_interval(
                        np.array([[values] for _, values in got]), estimate=float(np.mean([g for g, _ in got])),
                        bounds=(0, 1) if shares else (-np.inf, 1), logit=shares,
                    )  # fmt: skip
                    rows.append((f"{data}: {target}", encoder, arm, pool, interval_text(interval)))
                print(f"{data} {encoder} {arm}: {time.time() - began:.0f} s", flush=True)
        tables(rows, options.out / "pooling.md")
    print((options.out / "pooling.md").read_text())


@torch.no_grad()
def learnt(network: Encoder, images: torch.Tensor) -> np.ndarray:
    """Return vectors pooled by the attention that a run has learnt."""
    network.eval()
    return np.concatenate([network.embed(batch).numpy() for batch in images.split(16)]).astype(np.float64)


def tables(rows: Sequence[tuple[str, str, str, str, str]], path: Path) -> None:
    """Write a table a target: a row an encoder and arm, a column a pool."""
    lines: list[str] = []
    for target in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == target]
        pools = [pool for pool in POOLS if any(row[3] == pool for row in own)]
        lines += [f"\n{target}\n", f"| encoder | {' | '.join(pools)} |", "|---" * (len(pools) + 1) + "|"]
        for encoder, arm in dict.fromkeys((row[1], row[2].partition(" by ")[0]) for row in own):
            cells = {row[3]: row[4] for row in own if (row[1], row[2].partition(" by ")[0]) == (encoder, arm)}
            lines.append(f"| {encoder}, {arm} | {' | '.join(cells.get(pool, '') for pool in pools)} |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
