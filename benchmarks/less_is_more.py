"""Does leaving out similar slices make contrastive pretraining better, or only shorter? The claim of "Less is More".

Slices of one scan repeat each other. SimCLR (DCL) is pretrained on all slices of the training patients, on those that
each strategy of the paper keeps, and on as many random ones, at equal steps and at equal epochs; frozen features are
then read by a logistic regression fitted on the training patients and scored on the test patients.

    MEDSSL_DATA=FOLDER python benchmarks/less_is_more.py OUT [--data lgg acdc] [--seeds 3] [--steps 300]

Every step is skipped when it is done. On a GPU: --channels 32 64 128 256 --steps 20000 --batch 256 --seeds 5.

Source of the claim: Wolf et al., Computers in Biology and Medicine 183 (2024) 109242, arXiv:2410.14524; there SwAV and
ResNet-50 on hundreds of thousands of CT slices, fine-tuned.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import time
from pathlib import Path

import numpy as np

import medssl
from medssl.evaluation.intervals import Interval
from medssl.randomness import numpy_generator
from medssl.store.read import Store

STRATEGIES = ("hash", "random", "every", "ssim", "mi", "embedding")
SPACING = {"lgg": "[1,4,4]", "acdc": "[10,3,3]"}
WINDOW = {"lgg": (56, 48), "acdc": (64, 48)}


def prepared(data: str, out: Path) -> tuple[Path, Store]:
    """Index and store a data set; return its manifest and its store."""
    source = Path(os.environ["MEDSSL_DATA"]) / {"lgg": "lgg_flair/images", "acdc": "acdc"}[data]
    manifest = out / "scans.parquet"
    if not manifest.is_file():
        medssl.index(source, out=manifest, modality="MR", overrides=["val=0", "test=0.3"])
    medssl.cache(manifest, out=out / "store", overrides=[f"spacing_mm={SPACING[data]}"])
    return manifest, Store.open(out / "store")


def chosen(manifest: Path, out: Path) -> dict[str, tuple[str, float]]:
    """Choose slices by every strategy at the size that the hash gives; return table and share kept by strategy."""
    tables: dict[str, tuple[str, float]] = {"all": ("", 1.0)}
    size = None
    for strategy in STRATEGIES:
        kept = out / f"{strategy}.parquet"
        table = kept.with_suffix(".slices.parquet")
        if not table.is_file():
            keep = None if strategy == "hash" else f"{100 * size:.4f}%"
            medssl.reduce(
                manifest, out=kept, by=strategy, keep=keep, unit="slice", index=out / "prints",
                overrides=["planted=0", "pictures=0", "copies=false", "splits=leave"],
            )  # fmt: skip
        share = share_of(table, manifest)
        size = share if size is None else size
        tables[strategy] = (str(table), share)
    return tables


def share_of(table: Path, manifest: Path) -> float:
    """Return the share of the training scans' slices that a table keeps."""
    import polars as pl

    train = pl.read_parquet(manifest).filter(pl.col("split") == "train")["id"]
    return float(pl.read_parquet(table).filter(pl.col("id").is_in(train.to_list()))["keep"].mean())


def pretrained(
    store: Path, data: str, name: str, table: str, seed: int, steps: int, options: argparse.Namespace
) -> Path:
    """Pretrain one arm; return its run."""
    run = store.parent / "runs" / f"{name}-steps{steps}-seed{seed}"
    if (run / "card.json").is_file():
        return run
    (y, x), levels = WINDOW[data], len(options.channels)
    medssl.pretrain(
        "simclr_small", data=store, out=run, resume=run.is_dir(),
        overrides=[
            f"method.window=[1,{y},{x}]", f"method.crop=[1,{y - 16},{x - 16}]", "method.temperature=0.2",
            "method.spatial.rotate_degrees=[15,0,0]", f"encoder.channels={list(options.channels)}",
            f"encoder.kernels={[[1, 3, 3]] * levels}", f"encoder.strides={[[1, 1, 1]] + [[1, 2, 2]] * (levels - 1)}",
            f"data.slices={table}", "data.held_out_share=0", f"train.steps={steps}", f"train.seed={seed}",
            f"train.batch_size={options.batch}", "train.precision=32-true", "train.threads=1",
            "train.probe_every=100000",
        ],
    )  # fmt: skip
    return run


def features(run: Path | None, store: Store, data: str, options: argparse.Namespace, *, seed: int) -> np.ndarray:
    """Return one vector a slice of the store, in order of scans and slices; of fresh weights where there is no run."""
    import torch

    from medssl.encoders.table import build_encoder

    if run is None:
        levels = len(options.channels)
        torch.manual_seed(seed)
        encoder = build_encoder({
            "name": "unet", "channels": options.channels, "kernels": [[1, 3, 3]] * levels,
            "strides": [[1, 1, 1]] + [[1, 2, 2]] * (levels - 1),
        }).eval()  # fmt: skip
    else:
        encoder = medssl.load(run).eval()
    (y, x), rows = WINDOW[data], []
    for item, entry in enumerate(store.entries):
        depth = entry.shape[0]
        low = [(n - w) // 2 for n, w in zip(entry.shape[1:], (y, x), strict=True)]
        values = torch.from_numpy(store.window(item, (0, *low), (depth, y, x))).float()
        scaled = ((values - entry.scale[0]) / (entry.scale[1] - entry.scale[0])).clamp(0, 1)
        with torch.no_grad():
            rows.append(encoder.embed(scaled[:, None, None]).numpy())
    return np.concatenate(rows)


def truths(data: str, store: Store) -> dict[str, tuple[np.ndarray, str]]:
    """Return each task's labels, with its unit: "slice", or "patient" (whose features are averaged over its slices)."""
    depth = [entry.shape[0] for entry in store.entries]
    folder = Path(os.environ["MEDSSL_DATA"])
    if data == "acdc":
        groups = {
            path.parent.name: re.search(r"Group:\s*(\w+)", path.read_text())[1]
            for path in (folder / "acdc").glob("*/Info.cfg")
        }
        return {"diagnosis": (np.repeat([groups[patient_of(e)] for e in store.entries], depth), "patient")}
    import nibabel

    with (folder / "lgg_flair/data.csv").open() as file:
        grades = {row["Patient"]: row["neoplasm_histologic_grade"] for row in csv.DictReader(file)}
    marks, grade = [], []
    for entry in store.entries:
        name = Path(entry.source_path).name
        mask = folder / "lgg_flair/masks" / name
        mask = mask if mask.is_file() else next((folder / "lgg_flair/masks").glob(f"{name.partition('_flair')[0]}*"))
        volume = np.asanyarray(nibabel.as_closest_canonical(nibabel.load(mask)).dataobj)
        marks += [str(int(plane.any())) for plane in np.moveaxis(volume, 2, 0)]
        grade += [grades.get(patient_of(entry), "")] * entry.shape[0]
    return {"tumour in the slice": (np.array(marks), "slice"), "grade": (np.array(grade), "patient")}


def patient_of(entry: object) -> str:
    """Return the patient's name in the data set, from the file's path."""
    path = Path(entry.source_path)
    return path.parent.name if path.parent.name.startswith("patient") else "_".join(path.name.split("_")[:3])


def probed(vectors: np.ndarray, labels: np.ndarray, unit: str, patients: np.ndarray, test: np.ndarray) -> dict:
    """Fit a logistic regression on the training patients; return labels and scores of the test patients' units."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if unit == "patient":
        names = [name for name in np.unique(patients) if labels[patients == name][0]]
        vectors = np.stack([vectors[patients == name].mean(axis=0) for name in names])
        labels = np.array([labels[patients == name][0] for name in names])
        test = np.array([test[patients == name][0] for name in names])
        patients = np.array(names)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000, class_weight="balanced")),
        {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]},
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0), scoring="balanced_accuracy",
    )  # fmt: skip
    search.fit(vectors[~test], labels[~test], groups=patients[~test])
    return {
        "labels": labels[test], "scores": search.predict_proba(vectors[test]), "patients": patients[test],
        "classes": search.classes_,
    }  # fmt: skip


def auroc(labels: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> float:
    """Return the area under the curve; the mean over classes, one against the rest, where there are more than two."""
    from sklearn.metrics import roc_auc_score

    if len(classes) == 2:
        return float(roc_auc_score(labels == classes[1], scores[:, 1]))
    areas = [roc_auc_score(labels == c, scores[:, i]) for i, c in enumerate(classes) if (labels == c).sum() > 0]
    return float(np.mean(areas))


def resampled(runs: list[dict], other: list[dict] | None, draws: int = 400) -> Interval:
    """Return the mean AUROC over seeds, or its difference to another arm, resampling seeds and test patients."""

    def value(picks: list[int], rows: np.ndarray | slice) -> float:
        own = np.mean([auroc(runs[i]["labels"][rows], runs[i]["scores"][rows], runs[i]["classes"]) for i in picks])
        if other is None:
            return float(own)
        theirs = [auroc(other[i]["labels"][rows], other[i]["scores"][rows], other[i]["classes"]) for i in picks]
        return float(own - np.mean(theirs))

    names = np.unique(runs[0]["patients"])
    places = {name: np.flatnonzero(runs[0]["patients"] == name) for name in names}
    generator, found = numpy_generator(0, len(names), len(runs)), []
    while len(found) < draws:
        rows = np.concatenate([places[names[i]] for i in generator.integers(0, len(names), len(names))])
        if len(np.unique(runs[0]["labels"][rows])) == len(np.unique(runs[0]["labels"])):
            found.append(value(generator.integers(0, len(runs), len(runs)).tolist(), rows))
    low, high = np.quantile(found, [0.025, 0.975])
    every = value(list(range(len(runs))), slice(None))
    return Interval(estimate=every, low=float(low), high=float(high), level=0.95, cases=len(names), draws=len(runs))


def compared(data: str, out: Path, options: argparse.Namespace) -> None:
    """Run one data set and print its tables."""
    manifest, store = prepared(data, out)
    tables = chosen(manifest, out)
    depth = [entry.shape[0] for entry in store.entries]
    patients = np.repeat([entry.patient or entry.id for entry in store.entries], depth)
    test = np.repeat([entry.split == "test" for entry in store.entries], depth)
    arms: dict[str, tuple[str, float, int]] = {"all": ("", 1.0, options.steps)}
    for name, (table, share) in tables.items():
        if name != "all":
            arms[f"{name}, equal steps"] = (table, share, options.steps)
            arms[f"{name}, equal epochs"] = (table, share, max(1, round(options.steps * share)))
    vectors: dict[str, list[np.ndarray]] = {"fresh weights": []}
    seconds: dict[str, float] = {}
    for seed in range(options.seeds):
        vectors["fresh weights"].append(features(None, store, data, options, seed=seed))
        for arm, (table, _, steps) in arms.items():
            began = time.process_time()
            run = pretrained(out / "store", data, arm.partition(",")[0], table, seed, steps, options)
            seconds[arm] = seconds.get(arm, 0.0) + time.process_time() - began
            vectors.setdefault(arm, []).append(features(run, store, data, options, seed=seed))
    for task, (labels, unit) in truths(data, store).items():
        found = {arm: [probed(v, labels, unit, patients, test) for v in rows] for arm, rows in vectors.items()}
        print(f"\n{data}: {task}, AUROC on {len(np.unique(patients[test]))} test patients, {options.seeds} seeds\n")
        print("| slices | kept | AUROC | against all slices | against random, same budget |\n|---|--:|---|---|---|")
        for arm, runs in found.items():
            share = f"{100 * arms[arm][1]:.0f} %" if arm in arms else "-"
            rival = f"random,{arm.partition(',')[2]}" if "," in arm and not arm.startswith("random") else None
            cells = [text(resampled(runs, None)), text(resampled(runs, found["all"]), True) if arm != "all" else "-"]
            cells.append(text(resampled(runs, found[rival]), True) if rival else "-")
            print(f"| {arm} | {share} | {' | '.join(cells)} |", flush=True)
        (out / f"{task.replace(' ', '-')}.json").write_text(
            json.dumps({arm: [auroc(r["labels"], r["scores"], r["classes"]) for r in rs] for arm, rs in found.items()})
        )


def text(interval: Interval, signed: bool = False) -> str:
    """Return an interval as a cell."""
    sign = "+" if signed else ""
    return f"{interval.estimate:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", choices=sorted(WINDOW), default=["lgg"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16, 32, 64])
    options = parser.parse_args()
    for data in options.data:
        compared(data, options.out / data, options)


if __name__ == "__main__":
    main()
