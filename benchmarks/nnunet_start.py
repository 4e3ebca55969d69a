"""Whether ``nnUNetv2_train -pretrained_weights`` starts better from an export than from nnU-Net's own initialization.

    MEDSSL_NNUNET=/path/to/venv python benchmarks/nnunet_start.py [--data FOLDER] [--method masked] [--epochs 3]

The environment holds nnunetv2 (2.8.1 was run). Synthetic torsos become a dataset of nnU-Net, or with ``--data`` the
first scans of a folder of your own (imagesTr, labelsTr, dataset.json; one channel). Others are pretrained on, by
``--method``, or with ``--method segmenter`` segmented; the run is exported with the plan of the dataset, and nnU-Net
trains by the commands that the export prints: from the weights, and by the same plan from nothing, ``--times`` each.
Loss and pseudo-Dice of each epoch are nnU-Net's own. Its trainer is nnU-Net's but for the number of iterations, the
pace of its rate, which falls as in ``--of-epochs``, and the last validation of whole scans, which is left out.
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

DATASET = "Dataset007_Scans"
ENCODER = ["encoder.name=unet", "encoder.channels=[8,16,32]", "encoder.blocks=2", "encoder.pool=prenorm"]
TRAINER = """import os

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class Brief(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):  # named: nnU-Net looks them up by name
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ["BRIEF_EPOCHS"])
        self.num_iterations_per_epoch = int(os.environ["BRIEF_ITERATIONS"])
        self.num_val_iterations_per_epoch = 4
        self.initial_lr = float(os.environ.get("BRIEF_LR", self.initial_lr))

    def configure_optimizers(self):
        trained, self.num_epochs = self.num_epochs, int(os.environ["BRIEF_OF_EPOCHS"])  # the rate falls over these
        found = super().configure_optimizers()
        self.num_epochs = trained
        return found

    def perform_actual_validation(self, save_probabilities=False):
        pass
"""


def scans(work: Path, options: argparse.Namespace) -> dict[str, int]:
    """Write nnU-Net's raw dataset, and other scans to learn from beforehand; return the classes by their names."""
    if options.data:
        images = sorted(path for path in (options.data / "imagesTr").glob("*.nii.gz") if not path.name.startswith("."))
        pairs = [(path, options.data / "labelsTr" / path.name) for path in images]
        said = json.loads((options.data / "dataset.json").read_text(encoding="utf-8"))["labels"]
        classes = {name: int(number) for number, name in said.items()}
    else:
        count = options.subjects + options.others
        made = write_cohort(work / "made", subjects=count, modality="MR", shape=(40, 44, 48), seed=5)
        pairs = [(path, label) for path, label in zip(made.images, made.labels, strict=True) if label is not None]
        classes = {name: number for number, name in CLASSES.items()}
    if len(pairs) < options.subjects + 2:
        sys.exit(f"{options.data}: {len(pairs)} scans with labels, and {options.subjects} are nnU-Net's.")
    for number, (image, label) in enumerate(pairs[: options.subjects + options.others]):
        case = image.name.removesuffix(".nii.gz")
        nnunets = number < options.subjects
        for path, folder, name in (
            (image, "imagesTr", f"{case}_0000.nii.gz" if nnunets else image.name),
            (label, "labelsTr", f"{case}.nii.gz"),
        ):
            to = work / (DATASET if nnunets else "other") / folder
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to / name)
    said = {
        "channel_names": {"0": "MR"},
        "labels": classes,
        "numTraining": options.subjects,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
    }
    (work / DATASET / "dataset.json").write_text(json.dumps(said), encoding="utf-8")
    return classes


def learned(work: Path, options: argparse.Namespace) -> Path:
    """Pretrain, or segment, on other scans; return the run."""
    index(work / "other", out=work / "m.parquet", overrides=["modality=MR"])
    spacing = f"spacing_mm=[{','.join(f'{size:g}' for size in options.spacing)}]"
    cache(work / "m.parquet", out=work / "store", overrides=["grid=nnunet", "normalise=nonzero", spacing])
    shared = [
        f"train.steps={options.steps}",
        "train.threads=1",
        "train.accelerator=cpu",
        "data.splits=[train,val,test,'']",
    ]
    window = f"window=[{','.join(map(str, options.window))}]"
    if options.method == "segmenter":
        more = [f"segmentation.{window}", "segmentation.convs_per_stage=2", "data.predict=[]", "train.lr=3e-3"]
        return finetune(data=work / "store", out=work / "run", overrides=[*ENCODER, *shared, *more]).folder
    more = [f"method.{window}", "method.patch=[8,8,8]", "train.lr=1e-3"]
    return pretrain(options.method, data=work / "store", out=work / "run", overrides=[*ENCODER, *shared, *more]).folder


def nnunet(line: str, work: Path, venv: Path, **more: str) -> str:
    """Run a command of nnU-Net; return what it printed."""
    environment = {
        **os.environ,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "nnUNet_raw": str(work),
        "nnUNet_preprocessed": str(work / "preprocessed"),
        "nnUNet_results": str(work / "results"),
        "nnUNet_extTrainer": str(work / "trainers"),
        "nnUNet_n_proc_DA": "0" if "nnUNetv2_train" in line else "1",  # planning wants one at least
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        **more,
    }
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):  # without its bytecode each command takes half a minute more
        environment.pop(name, None)
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
    """Return the epochs of both ways to begin, by their names."""
    scans(work, options)
    (work / "trainers").mkdir()
    (work / "trainers" / "brief.py").write_text(TRAINER, encoding="utf-8")
    run = options.run or learned(work, options)
    nnunet("nnUNetv2_plan_and_preprocess -d 7 --no_pp -npfp 1 -c 3d_fullres", work, venv)
    dataset = f"dataset={work / 'preprocessed' / DATASET}"
    shown = export(
        run,
        to="nnunet",
        out=work / "start",
        overrides=[dataset, *(["weights_only=true"] * (options.method == "segmenter"))],
    ).use
    preprocess, train = shown.split(" && ")
    nnunet(preprocess, work, venv)
    how = {
        "BRIEF_EPOCHS": str(options.epochs),
        "BRIEF_OF_EPOCHS": str(options.of_epochs),
        "BRIEF_ITERATIONS": str(options.iterations),
    }
    if options.lr:
        how["BRIEF_LR"] = str(options.lr)
    found = {}
    for number in range(options.times):
        for name, line in (("ours", train), ("own", re.sub(r"-pretrained_weights \S+", "", train))):
            found[f"{name} {number}"] = epochs_of(nnunet(f"{line} -tr Brief", work, venv, **how))
            for epoch, figures in enumerate(found[f"{name} {number}"]):
                print(
                    "{}, epoch {}: training loss {:.4f}, held-out {:.4f}, Dice {:.4f}".format(
                        f"{name} {number}", epoch, *figures
                    ),
                    flush=True,
                )
            shutil.rmtree(work / "results")
    return found


def settings(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="a folder with imagesTr, labelsTr and dataset.json")
    parser.add_argument("--method", default="masked", help="a method that pretrains a decoder, or 'segmenter'")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--of-epochs", type=int, default=1000, help="epochs over which nnU-Net's rate falls to 0")
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--subjects", type=int, default=5, help="scans that nnU-Net has, a fifth of them held out")
    parser.add_argument("--others", type=int, default=12, help="scans that are learned from beforehand")
    parser.add_argument("--window", nargs=3, type=int, default=(32, 32, 32))
    parser.add_argument("--spacing", nargs=3, type=float, default=(5.0, 5.0, 5.0))
    parser.add_argument("--lr", type=float, help="nnU-Net's first rate, 0.01 when left out")
    parser.add_argument("--run", type=Path, help="a run that is there, instead of one that is made")
    parser.add_argument("--keep", type=Path)
    return parser.parse_args(words)


def main() -> None:
    """Print a line an epoch, and how the first and the last compare."""
    options = settings()
    if "MEDSSL_NNUNET" not in os.environ:
        sys.exit(
            "MEDSSL_NNUNET names no environment with nnunetv2: python -m venv E, then E/bin/pip install "
            "nnunetv2==2.8.1 torch torchvision"
        )
    with tempfile.TemporaryDirectory() as made:
        work = (options.keep or Path(made)).resolve()
        found = compared(work, Path(os.environ["MEDSSL_NNUNET"]), options)
    for when, epoch in (("first", 0), ("last", -1)):
        ours, own = (
            [epochs[epoch] for name, epochs in found.items() if name.startswith(side)] for side in ("ours", "own")
        )
        for what, place in (("training loss", 0), ("Dice", 2)):
            means = [sum(figures[place] for figures in side) / len(side) for side in (ours, own)]
            print(f"{when} epoch, {what}: from the weights {means[0]:.4f}, from its own initialization {means[1]:.4f}")


if __name__ == "__main__":
    main()
