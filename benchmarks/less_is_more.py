"""Does leaving out similar slices make contrastive pretraining better, or only shorter? The claim of "Less is More".

Slices of one scan repeat each other. SimCLR (DCL) is pretrained on all slices of the training patients, on those that
each strategy of the paper keeps, and on as many random ones (drawn anew for each seed), at equal steps and at equal
epochs; frozen features are then read by a logistic regression fitted on the training patients and scored on the test
patients. As in the paper, slices are loose: each is a thing of its own, and slices of one scan repel each other.
``--apart patients`` is what this package does by default: they never do. `ct` has no labels; it gives sizes and times.

    MEDSSL_DATA=FOLDER python benchmarks/less_is_more.py OUT [--data lgg acdc ct] [--seeds 3] [--steps 100]

Every step is skipped when it is done. On a GPU: --model resnet50 --steps 20000 --batch 256 --seeds 5.

Source of the claim: Wolf et al., Computers in Biology and Medicine 183 (2024) 109242, arXiv:2410.14524; there SwAV and
ResNet-50 on hundreds of thousands of CT slices, fine-tuned. What the paper's "embedding" looks at is not published;
here it is the lowest frequencies of a slice.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import medssl
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.statistics.crossed import Interval, crossed_interval
from medssl.evaluation.statistics.jackknife import pseudo_values
from medssl.evaluation.statistics.wording import interval_text
from medssl.store.read import Store
from medssl.volumes.training import chosen_slices

STRATEGIES = ("hash", "random", "every", "ssim", "mi", "embedding")
BUDGETS = ("equal steps", "equal epochs")
THRESHOLDS = ("hash", "ssim", "mi", "embedding")
SOURCE = {"lgg": "lgg_flair/images", "acdc": "acdc", "ct": "ct"}
SPACING = {"lgg": "[1,5,5]", "acdc": "[10,4,4]", "ct": "[2.5,8,8]"}
WINDOW = {"lgg": (48, 48), "acdc": (48, 48), "ct": (48, 48)}
MARGIN = 16  # of the window about a view
CHOICE = ["workers=1", "planted=0", "pictures=0", "copies=false", "splits=leave"]


def prepared(data: str, out: Path) -> tuple[Path, Store]:
    """Index and store a data set; return its manifest and its store."""
    manifest = out / "scans.parquet"
    if not manifest.is_file():
        medssl.index(
            Path(os.environ["MEDSSL_DATA"]) / SOURCE[data],
            out=manifest,
            modality="CT" if data == "ct" else "MR",
            overrides=["val=0", f"test={0 if data == 'ct' else 0.3}"],
        )
    medssl.cache(manifest, out=out / "store", overrides=[f"spacing_mm={SPACING[data]}", "workers=1"])
    return manifest, Store.open(out / "store")


def table_of(manifest: Path, out: Path, by: str, keep: float | None, seed: int = 0) -> Path:
    """Return the slices that a strategy keeps, as a table; choose them where that is not done yet."""
    name = by if keep is None else f"{by}-{keep:.5f}-{seed}"
    table = out / f"{name}.slices.parquet"
    if not table.is_file():
        medssl.reduce(
            manifest,
            out=out / f"{name}.parquet",
            by=by,
            keep=None if keep is None else f"{100 * keep:.3f}%",
            unit="slice",
            index=out / "prints",
            overrides=[*CHOICE, f"seed={seed}"],
        )
    return table


def slices_in(table: Path, store: Store) -> int:
    """Return how many slices of the store's training scans a table keeps."""
    train = store.subset([entry.id for entry in store.entries if entry.split in ("train", "")])
    return sum(map(len, chosen_slices(str(table), train).values()))


def equal_share(manifest: Path, out: Path, store: Store) -> float:
    """Return the share to ask of every n-th, so that the store holds as many of its slices as Hash-6 keeps.

    Sizes are rounded up within each scan, so the share of thin scans is not that of the whole.
    """
    wanted, low, high = slices_in(table_of(manifest, out, "hash", None), store), 0.02, 1.0
    tried = {}
    for _ in range(8):
        share = round((low + high) / 2, 5)
        tried[share] = slices_in(table_of(manifest, out, "every", share), store)
        low, high = (share, high) if tried[share] < wanted else (low, share)
    return min(tried, key=lambda one: (abs(tried[one] - wanted), one))


def pretrained(
    store: Path, data: str, table: Path, seed: int, steps: int, options: argparse.Namespace
) -> tuple[Path, float]:
    """Pretrain one arm; return its run, and the processor's seconds that it took."""
    apart = "" if options.apart == "slices" else f"-{options.apart}"
    run = store.parent / "runs" / f"{table.name.partition('.slices')[0]}-steps{steps}-seed{seed}{apart}"
    clock = run.with_name(f"{run.name}.seconds")
    spent = float(clock.read_text()) if clock.is_file() else 0.0
    if (run / "card.json").is_file():
        return run, spent
    preset = store.parent / "simclr.yaml"
    preset.write_text(
        json.dumps(
            {
                "method": {"name": "simclr", "decoupled": "dcl", "hidden": 256, "temperature": 0.2},
                "encoder": encoder_of(options),
                "train": {"lr": 1e-3},
            }
        )
    )
    (y, x), began = WINDOW[data], time.process_time()
    medssl.pretrain(
        preset,
        data=store,
        out=run,
        resume=run.is_dir(),
        overrides=[
            f"method.window=[1,{y},{x}]",
            f"method.crop=[1,{y - MARGIN},{x - MARGIN}]",
            "method.spatial.rotate_degrees=[15,0,0]",
            f"data.slices={table}",
            f"data.apart={options.apart}",
            "data.held_out_share=0",
            f"train.steps={steps}",
            f"train.seed={seed}",
            f"train.batch_size={options.batch}",
            "train.precision=32-true",
            "train.threads=1",
            "train.probe_every=100000",
            "train.log_every=10",
        ],
    )
    spent += time.process_time() - began
    clock.write_text(f"{spent:.1f}")
    return run, spent


def encoder_of(options: argparse.Namespace) -> dict[str, object]:
    """Return the settings of the encoder: a network of slices, of random weights, with strides up to 16."""
    return {"name": "timm", "model": options.model, "features": [0, 1, 2, 3]}


def features(run: Path | None, store: Store, data: str, options: argparse.Namespace, *, seed: int) -> np.ndarray:
    """Return one vector a slice of the store, by scans and slices; of a random initialization without a run."""
    import torch

    done = store.folder.parent / "features" / f"{run.name if run else f'fresh-{seed}'}.npy"
    if done.is_file():
        return np.load(done)

    from medssl.encoders.table import build_encoder

    if run is None:
        torch.manual_seed(seed)
        encoder = build_encoder(encoder_of(options)).eval()
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
    done.parent.mkdir(exist_ok=True)
    np.save(done, np.concatenate(rows))
    return np.load(done)


def truths(data: str, store: Store) -> dict[str, tuple[np.ndarray, str]]:
    """Return each task's labels, with its unit: "slice", or "patient" (whose features are averaged over its slices)."""
    depth = [entry.shape[0] for entry in store.entries]
    folder = Path(os.environ["MEDSSL_DATA"])
    if data == "ct":
        return {}
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
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
        scoring="balanced_accuracy",
    )
    search.fit(vectors[~test], labels[~test], groups=patients[~test])
    return {
        "labels": labels[test],
        "scores": search.predict_proba(vectors[test]),
        "patients": patients[test],
        "classes": search.classes_,
    }


def predictions(run: dict) -> ClassPredictions:
    """Return the predictions of one probe."""
    classes = [str(name) for name in run["classes"]]
    truth = np.array([classes.index(str(label)) for label in run["labels"]])
    names = tuple(str(number) for number in range(len(truth)))
    owners = tuple(str(name) for name in run["patients"])
    return ClassPredictions(names, owners, truth, run["scores"], run["scores"].argmax(axis=1), tuple(classes))


def auroc(run: dict) -> float:
    """Return the area under the curve; the mean over classes, one against the rest, where there are more than two."""
    return predictions(run).scores()["auroc"]


def measured(runs: list[dict], other: list[dict] | None) -> Interval:
    """Return the mean AUROC over seeds, or its difference to another arm; the interval is over seeds and patients."""
    grids, means = [], []
    for arm in (runs, other or []):
        cases = [predictions(run) for run in arm]
        found = [
            pseudo_values(lambda w, own=own: resampled_scores(own, "auroc", w), len(set(own.patients))) for own in cases
        ]
        grids.append(np.array([[values] for _, values in found]))
        means.append(float(np.mean([score for score, _ in found])) if found else 0.0)
    second = grids[1] if other else None
    return crossed_interval(
        grids[0], second, estimate=means[0] - means[1], bounds=(-1, 1) if other else (0, 1), logit=not other
    )


def compared(data: str, out: Path, options: argparse.Namespace) -> None:
    """Run one data set and print its tables."""
    manifest, store = prepared(data, out)
    every = slices_in(table_of(manifest, out, "all", None), store)
    share = equal_share(manifest, out, store)
    print(f"\n{data}: slices kept of {every} of the training scans, at default thresholds\n")
    for by in THRESHOLDS:
        kept = slices_in(table_of(manifest, out, by, None), store)
        print(f"{by}: {kept} ({kept / every:.0%})", flush=True)
    depth = [entry.shape[0] for entry in store.entries]
    patients = np.repeat([entry.patient or entry.id for entry in store.entries], depth)
    test = np.repeat([entry.split == "test" for entry in store.entries], depth)
    vectors: dict[str, list[np.ndarray]] = {}
    costs: dict[str, list[tuple[int, int, float, float]]] = {}  # (slices, steps, seconds, last loss) of each seed
    for seed in range(options.seeds):
        vectors.setdefault("random initialization", []).append(features(None, store, data, options, seed=seed))
        for by in ("all", *options.strategies):
            keep = None if by in ("all", "hash") else share
            table = table_of(manifest, out, by, keep, seed if by == "random" else 0)
            kept = slices_in(table, store)
            budgets = {"equal steps": options.steps, "equal epochs": max(1, round(options.steps * kept / every))}
            for budget in ["equal steps"] if by == "all" else options.budgets:
                arm, steps = by if by == "all" else f"{by}, {budget}", budgets[budget]
                run, seconds = pretrained(out / "store", data, table, seed, steps, options)
                costs.setdefault(arm, []).append((kept, steps, seconds, last_loss(run)))
                vectors.setdefault(arm, []).append(features(run, store, data, options, seed=seed))
    shown(
        f"{data}: what it cost, {options.seeds} seeds",
        ("slices", "kept", "steps", "seconds", "loss"),
        [
            (
                arm,
                f"{np.mean([c[0] for c in rows]) / every:.1%}",
                rows[0][1],
                f"{np.mean([c[2] for c in rows]):.1f}",
                f"{np.mean([c[3] for c in rows]):.3f}",
            )
            for arm, rows in costs.items()
        ],
    )
    for task, (labels, unit) in truths(data, store).items():
        found = {arm: [probed(v, labels, unit, patients, test) for v in rows] for arm, rows in vectors.items()}
        rows = []
        for arm, runs in found.items():
            rival = f"random,{arm.partition(',')[2]}" if "," in arm and not arm.startswith("random") else None
            cells = [
                interval_text(measured(runs, None)),
                interval_text(measured(runs, found["all"]), signed=True) if arm != "all" else "-",
            ]
            rows.append((arm, *cells, interval_text(measured(runs, found[rival]), signed=True) if rival else "-"))
        title = f"{data}: {task}, AUROC on {len(np.unique(patients[test]))} test patients, {options.seeds} seeds"
        shown(title, ("slices", "AUROC", "against all slices", "against random, same budget"), rows)
        (out / f"{task.replace(' ', '-')}-{options.apart}.json").write_text(
            json.dumps({arm: [auroc(r) for r in rs] for arm, rs in found.items()})
        )


def last_loss(run: Path) -> float:
    """Return the mean loss of a run's last reports."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float(np.mean([row["loss"] for row in rows if "loss" in row][-3:]))


def shown(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", choices=sorted(WINDOW), default=["lgg"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--model", default="test_resnet", help="a network of timm with batch norm")
    parser.add_argument("--apart", choices=("slices", "patients"), default="slices")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=BUDGETS)
    options = parser.parse_args()
    for data in options.data:
        compared(data, options.out / data, options)


if __name__ == "__main__":
    main()
