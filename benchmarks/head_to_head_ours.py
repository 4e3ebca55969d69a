"""The arms "ours" and "ours-NAME" of head_to_head.py: the verbs of medssl, with as many steps as the seconds allow."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import polars as pl

import medssl
from pipelines import console

SPACING = {"hippocampi": "[1,1,1]", "hearts": "[8,2,2]"}
WINDOW = {
    "hippocampi": [],
    "hearts": ["segmentation.window=[8,96,96]", "encoder.strides=[1,[1,2,2],[1,2,2],2]"],
}
TRIED = (10, 20, 80)  # steps, to tell what one takes; the first is to warm up


def main(file: str) -> None:
    """Do a job."""
    job = json.loads(Path(file).read_text())
    out, shared = Path(job["out"]), Path(job["shared"])
    files = pl.DataFrame({"path": job["images"], "label": job["labels"], "split": ["train"] * len(job["images"])})
    files.write_csv(out / "scans.csv")
    medssl.index(out / "scans.csv", out=out / "scans.parquet", modality="MR")
    medssl.cache(
        out / "scans.parquet", out=out / "store", overrides=[f"spacing_mm={SPACING[job['data']]}", "workers=1"]
    )
    step = shared / "seconds_a_step.json"
    if not step.is_file():
        spent = [_trained(job, out / "store", out / f"tried-{steps}", steps) for steps in TRIED]
        step.write_text(json.dumps((spent[2] - spent[1]) / (TRIED[2] - TRIED[1])))
    seconds = json.loads(step.read_text())
    steps = max(20, round(job["seconds"] / seconds))
    training = _trained(job, out / "store", out / "run", steps)
    medssl.predict(out / "run", *job["tests"].values(), out=out / "told", overrides=["workers=1"])
    (out / "predictions").mkdir(exist_ok=True)
    for name, path in job["tests"].items():
        shutil.copy(out / "told" / Path(path).name, out / "predictions" / f"{name}.nii.gz")
    (out / "trained.json").write_text(json.dumps({"training": training, "steps": steps}))


def _trained(job: dict, store: Path, run: Path, steps: int) -> float:
    """Fine-tune from scratch; return the seconds of a processor that it took, reading and writing too."""
    begin = time.process_time()
    overrides = [
        *WINDOW[job["data"]],
        f"train.steps={steps}",
        f"train.checkpoint_every={steps}",
        f"train.probe_every={steps}",
        f"train.seed={job['seed']}",
        "train.threads=1",
        "train.precision=32-true",
        *job["settings"],
    ]
    medssl.finetune(data=store, out=run, preset="segmentation_small", from_scratch=True, overrides=overrides)
    return time.process_time() - begin


if __name__ == "__main__":
    with console.speaking(console.Manner(quiet=True)):
        main(sys.argv[1])
