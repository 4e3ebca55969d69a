"""Ours beside what people would use without us: the same labelled scans, the same processor seconds of training.

    MEDSSL_DATA=FOLDER python benchmarks/head_to_head.py OUT [--data hippocampi hearts] [--arms ARM ...] [--labels 4]
        [--draws 8] [--seconds 57] [--on dev|test] [--set ARM KEY=VALUE ...]

An arm is a program that takes a job (labelled files, files to predict, a folder, processor seconds, a seed) and writes
a label map for each file; all are scored alike, on the scans' own grid, by `medssl.evaluation`. Arms:

    ours            medssl index, cache, finetune --from-scratch and predict (head_to_head_ours.py)
    ours-NAME       the same with the settings that ``--set ours-NAME KEY=VALUE ...`` gives
    monai           MONAI with augmentation, as good craft writes it (head_to_head_monai.py)
    monai-tutorial  the same with the settings of MONAI's tutorial for spleens
    affine          SimpleITK: labels carried from each labelled scan, most votes (head_to_head_atlas.py)
    deformable      likewise, with B-splines on top

``--on dev`` scores 18 training patients that no draw labels, where recipes are to be compared; ``test`` the patients
that nobody chose by. What is done is kept in OUT and passed over the next time. Intervals over draws and patients.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
from questions_bench import Bench, dev_split

from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.scoring import score_case
from medssl.evaluation.statistics.comparison import compare, scores_of

HERE = Path(__file__).parent
PROGRAMS = {
    "ours": "head_to_head_ours.py",
    "monai": "head_to_head_monai.py",
    "affine": "head_to_head_atlas.py",
    "deformable": "head_to_head_atlas.py",
}
NAMES = {
    "hippocampi": {1: "anterior", 2: "posterior"},
    "hearts": {1: "right ventricle", 2: "myocardium", 3: "left ventricle"},
}


@dataclass(frozen=True)
class Job:
    """What an arm is asked.

    Attributes:
        arm: The arm.
        data: The data set.
        images: Labelled scans.
        labels: Their label maps.
        tests: Scans to predict.
        names: Structures by their values.
        out: A folder; ``predictions/ID.nii.gz`` is to be there in the end.
        shared: A folder that jobs of one arm and data set share, for what is measured once.
        seconds: Of a processor, for training.
        seed: Of the draw.
        settings: Of ours.
    """

    arm: str
    data: str
    images: list[str]
    labels: list[str]
    tests: dict[str, str]
    names: dict[int, str]
    out: str
    shared: str
    seconds: float
    seed: int
    settings: list[str]


def program(arm: str) -> str:
    """Return the file that runs an arm."""
    return PROGRAMS[arm if arm in PROGRAMS else arm.split("-")[0]]


def done(job: Job) -> dict[str, float]:
    """Run a job where it was not; return its seconds of a processor, in all and of training, wall time and memory."""
    out = Path(job.out)
    kept = out / "used.json"
    if not kept.is_file():
        shutil.rmtree(out, ignore_errors=True)  # of a job that was stopped
        out.mkdir(parents=True)
        Path(job.shared).mkdir(parents=True, exist_ok=True)
        (out / "job.json").write_text(json.dumps(asdict(job)))
        begin = time.perf_counter()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, str(HERE / program(job.arm)), str(out / "job.json")]
        with (out / "log.txt").open("w") as log:
            child = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{job.arm} failed: {(out / 'log.txt').read_text()[-2000:]}")
        used = {"wall": time.perf_counter() - begin, "all": usage.ru_utime + usage.ru_stime}
        used |= {"megabytes": usage.ru_maxrss / 1024, **json.loads((out / "trained.json").read_text())}
        kept.write_text(json.dumps(used))
    found: dict[str, float] = json.loads(kept.read_text())
    return found


def scored(job: Job, rows: pl.DataFrame, draw: int) -> ScoreTable:
    """Return the scores of a job's predictions."""
    tables = []
    for row in rows.filter(pl.col("id").is_in(list(job.tests))).iter_rows(named=True):
        truth = nib.load(row["label_path"])
        found = nib.load(Path(job.out) / "predictions" / f"{row['id']}.nii.gz")
        if found.shape != truth.shape or not np.allclose(found.affine, truth.affine, atol=1e-3):
            raise SystemExit(f"{job.out}: {row['id']} does not lie on the grid of its truth")
        arrays = [np.ascontiguousarray(np.asarray(one.dataobj).T.round().astype(np.int16)) for one in (truth, found)]
        scores = score_case(
            *arrays,
            case=row["id"],
            patient=row["patient"],
            structures=job.names,
            spacing_mm=[float(v) for v in reversed(truth.header.get_zooms()[:3])],
            tolerance_mm=2.0,
        )
        tables.append(ScoreTable.of_structures(scores, run=job.arm))
    return ScoreTable.joined(tables).as_run(job.arm, draw=draw, labels=len(set(job.images)))


def jobs(bench: Bench, name: str, arm: str, options: argparse.Namespace) -> list[tuple[Job, pl.DataFrame]]:
    """Return the jobs of an arm, one a draw."""
    manifest = bench.manifest(name)
    rows = dev_split(manifest) if options.on == "dev" else pl.read_parquet(manifest)
    test = rows.filter(pl.col("split") == "test").sort("id")
    if options.tests:
        test = test.head(options.tests)
    train = rows.filter(pl.col("split") == "train").sort("id")
    patients = np.unique(train["patient"].to_numpy())
    found = []
    for draw in range(options.draws):
        # Draws of dev and of test have nothing to do with each other.
        generator = np.random.default_rng((options.on == "test", draw))
        chosen = generator.permutation(patients)[: options.labels].tolist()
        own = train.filter(pl.col("patient").is_in(chosen))
        base = bench.out / options.on / name / f"{options.labels}-labels-{options.seconds:g}s"
        job = Job(
            arm=arm,
            data=name,
            images=own["path"].to_list(),
            labels=own["label_path"].to_list(),
            tests=dict(zip(test["id"].to_list(), test["path"].to_list(), strict=True)),
            names=NAMES[name],
            out=str(base / arm / f"draw{draw}"),
            shared=str(bench.out / "shared" / name / arm),
            seconds=options.seconds,
            seed=draw,
            settings=dict(map(_named, options.set)).get(arm, []),
        )
        found.append((job, test))
    return found


def _named(words: Sequence[str]) -> tuple[str, list[str]]:
    return words[0], list(words[1:])


def main() -> None:
    """Run what is asked, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=["hippocampi"], choices=list(NAMES))
    parser.add_argument("--arms", nargs="+", default=["ours", "monai", "monai-tutorial", "affine", "deformable"])
    parser.add_argument("--labels", type=int, default=4, help="labelled patients")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=57.0, help="of a processor, for training")
    parser.add_argument("--on", choices=("dev", "test"), default="test")
    parser.add_argument("--tests", type=int, default=None, help="score the first N scans alone")
    parser.add_argument("--set", nargs="+", action="append", default=[], metavar="ARM KEY=VALUE")
    options = parser.parse_args()
    bench = Bench(options.out)
    for name in options.data:
        tables, used = [], dict[str, list[dict[str, float]]]()
        for draw in range(options.draws):  # arm by arm within a draw, so that a stopped run compares all
            for arm in options.arms:
                job, rows = jobs(bench, name, arm, options)[draw]
                used.setdefault(arm, []).append(done(job))
                tables.append(scored(job, rows, draw))
                print(f"{name}, draw {draw}, {arm}: {_brief(tables[-1])}", flush=True)
        print(table(ScoreTable.joined(tables), used, options), flush=True)


def _brief(one: ScoreTable) -> str:
    values = one.frame.filter(pl.col("metric") == "dice")["value"].fill_null(0.0)
    return f"Dice {float(values.mean()):.3f}"  # type: ignore[arg-type]


def table(scores: ScoreTable, used: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> str:
    """Return a table of arms, each beside the first."""
    first = options.arms[0]
    gaps = {
        (row.arm, row.metric): row
        for metric in ("dice", "hd95_mm")
        for row in (compare(scores, first, metrics=[metric]) if len(options.arms) > 1 else [])
    }
    lines = [
        f"| arm | Dice | HD95, mm | Dice minus {first} | p (Holm) | HD95 minus {first} "
        "| training, s | all, s | MB | lines |",
        "|---" * 10 + "|",
    ]
    means = {(s.arm, s.metric): s for m in ("dice", "hd95_mm") for s in scores_of(scores, metrics=[m]) if not s.target}
    for arm in options.arms:
        dice, far = means[arm, "dice"].interval, means[arm, "hd95_mm"].interval
        gap, away = gaps.get((arm, "dice")), gaps.get((arm, "hd95_mm"))
        spent = {key: float(np.median([one[key] for one in used[arm]])) for key in ("training", "all", "megabytes")}
        lines.append(
            f"| {arm} | {dice.estimate:.3f} [{dice.low:.3f}, {dice.high:.3f}] | {far.estimate:.2f} | "
            + (
                f"{gap.difference.estimate:+.3f} [{gap.difference.low:+.3f}, {gap.difference.high:+.3f}] | "
                f"{gap.p_holm:.2g} | {away.difference.estimate:+.2f} "
                f"[{away.difference.low:+.2f}, {away.difference.high:+.2f}]"
                if gap and away
                else "| | "
            )
            + f" | {spent['training']:.0f} | {spent['all']:.0f} | {spent['megabytes']:.0f} | {_lines(arm)} |"
        )
    return "\n".join(lines)


def _lines(arm: str) -> int:
    """Return how many lines a person writes."""
    text = (HERE / program(arm)).read_text().splitlines()
    return sum(bool(line.strip()) for line in text)


if __name__ == "__main__":
    main()
