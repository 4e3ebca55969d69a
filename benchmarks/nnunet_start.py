"""Whether ``nnUNetv2_train -pretrained_weights`` starts better from an export than from nnU-Net's own initialization.

    MEDSSL_NNUNET=/path/to/venv python benchmarks/nnunet_start.py [--method masked] [--epochs 3] [--iterations 25]

The environment holds nnunetv2 (2.8.1 was run). Made-up torsos become a dataset of nnU-Net. Others are pretrained on, by
``--method``, or with ``--method segmenter`` segmented; the run is exported with the plan of the dataset, and nnU-Net
trains by the commands that the export prints: from the weights, and by the same plan from nothing. Loss and pseudo-Dice
of each epoch are nnU-Net's own. Its trainer is nnU-Net's but for the number of iterations, and the last validation of
whole scans, which is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from medssl.phantoms import CLASSES, write_cohort
from medssl.workflows.cache import cache
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.pretrain import pretrain

DATASET = "Dataset007_Torsos"
WINDOW = "[32,32,32]"
ENCODER = ["encoder.name=unet", "encoder.channels=[8,16,32]", "encoder.pool=prenorm"]
TRAINER = """import os

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class Brief(nnUNetTrainer):
    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.num_epochs = int(os.environ["BRIEF_EPOCHS"])
        self.num_iterations_per_epoch = int(os.environ["BRIEF_ITERATIONS"])
        self.num_val_iterations_per_epoch = 10
        self.initial_lr = float(os.environ.get("BRIEF_LR", self.initial_lr))

    def perform_actual_validation(self, save_probabilities=False):
        pass
"""


def raw(folder: Path, subjects: int) -> None:
    """Write labelled MR as nnU-Net's raw dataset."""
    made = write_cohort(folder / "made", subjects=subjects, modality="MR", shape=(40, 44, 48), seed=5)
    for name in ("imagesTr", "labelsTr"):
        (folder / DATASET / name).mkdir(parents=True)
    for image, label in zip(made.images, made.labels, strict=True):
        assert label is not None
        case = image.name.removesuffix(".nii.gz")
        shutil.copy(image, folder / DATASET / "imagesTr" / f"{case}_0000.nii.gz")
        shutil.copy(label, folder / DATASET / "labelsTr" / label.name)
    said = {
        "channel_names": {"0": "MR"},
        "labels": {name: number for number, name in CLASSES.items()},
        "numTraining": subjects,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
    }
    (folder / DATASET / "dataset.json").write_text(json.dumps(said), encoding="utf-8")


def learned(work: Path, method: str, steps: int) -> Path:
    """Pretrain, or segment, on other torsos; return the run."""
    write_cohort(work / "other", subjects=12, modality="MR", shape=(40, 44, 48), seed=9)
    index(work / "other", out=work / "m.parquet")
    cache(work / "m.parquet", out=work / "store", overrides=["grid=nnunet", "normalise=nonzero", "spacing_mm=[5,5,5]"])
    shared = [f"train.steps={steps}", "train.threads=1", "train.accelerator=cpu", "data.splits=[train,val,test,'']"]
    if method == "segmenter":
        more = [f"segmentation.window={WINDOW}", "segmentation.convs_per_stage=2", "data.predict=[]", "train.lr=3e-3"]
        return finetune(data=work / "store", out=work / "run", overrides=[*ENCODER, *shared, *more]).folder
    more = [f"method.window={WINDOW}"]
    return pretrain(method, data=work / "store", out=work / "run", overrides=[*ENCODER, *shared, *more]).folder


def nnunet(line: str, work: Path, venv: Path, **more: str) -> str:
    """Run a command of nnU-Net; return what it printed."""
    environment = {
        **os.environ,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "nnUNet_raw": str(work),
        "nnUNet_preprocessed": str(work / "preprocessed"),
        "nnUNet_results": str(work / "results"),
        "nnUNet_extTrainer": str(work / "trainers"),
        "nnUNet_n_proc_DA": "0" if "nnUNetv2_train" in line else "1",
        "nnUNet_compile": "f",
        **more,
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        line, shell=True, cwd=work, env=environment, capture_output=True, text=True, check=False, executable="/bin/bash"
    )
    if done.returncode:
        sys.exit(f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def epochs_of(printed: str) -> list[tuple[float, float, float]]:
    """Return (training loss, validation loss, mean pseudo-Dice) of each epoch, of what nnU-Net printed."""
    losses = [[float(n) for n in re.findall(rf"{name}_loss (-?[\d.]+|nan)", printed)] for name in ("train", "val")]
    dice = []
    for line in re.findall(r"Pseudo dice (\[.*\])", printed):
        numbers = [float(n) for n in re.findall(r"\d+\.\d+(?:e-?\d+)?|nan", line.replace("float32", ""))]
        dice.append(sum(n for n in numbers if n == n) / max(1, len(numbers)))
    return list(zip(*losses, dice, strict=True))


def compared(work: Path, venv: Path, options: argparse.Namespace) -> dict[str, list[tuple[float, float, float]]]:
    """Return the epochs of both ways to begin."""
    raw(work, options.subjects)
    (work / "trainers").mkdir()
    (work / "trainers" / "brief.py").write_text(TRAINER, encoding="utf-8")
    run = options.run or learned(work, options.method, options.steps)
    nnunet("nnUNetv2_plan_and_preprocess -d 7 --no_pp -npfp 1 -c 3d_fullres", work, venv)
    dataset = f"dataset={work / 'preprocessed' / DATASET}"
    shown = export(
        run,
        to="nnunet",
        out=work / "start",
        overrides=[dataset, *(["weights_only=true"] * (options.method == "segmenter"))],
    ).use
    preprocess, train = shown.split(" && ")
    nnunet(f"{preprocess} -np 1", work, venv)
    how = {"BRIEF_EPOCHS": str(options.epochs), "BRIEF_ITERATIONS": str(options.iterations)}
    found = {}
    for name, line in (("ours", train), ("own", re.sub(r"-pretrained_weights \S+", "", train))):
        found[name] = epochs_of(nnunet(f"{line} -tr Brief", work, venv, **how))
        shutil.rmtree(work / "results")
    return found


def settings(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="masked", help="a method that pretrains a decoder, or 'segmenter'")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a run that is there, instead of one that is made")
    parser.add_argument("--keep", type=Path)
    return parser.parse_args(words)


def main() -> None:
    """Print a line an epoch."""
    options = settings()
    if "MEDSSL_NNUNET" not in os.environ:
        sys.exit(
            "MEDSSL_NNUNET names no environment with nnunetv2: python -m venv E, then E/bin/pip install nnunetv2==2.8.1"
        )
    with tempfile.TemporaryDirectory() as made:
        work = (options.keep or Path(made)).resolve()
        for name, epochs in compared(work, Path(os.environ["MEDSSL_NNUNET"]), options).items():
            for number, (train, held_out, dice) in enumerate(epochs):
                print(f"{name} epoch {number}: training loss {train:.4f}, held-out {held_out:.4f}, Dice {dice:.4f}")


if __name__ == "__main__":
    main()
