"""Whether nnU-Net predicts what ``medssl predict`` does: Dice of the two label maps, a line a scan.

    MEDSSL_NNUNET=/path/to/venv python benchmarks/nnunet_agreement.py [--kinds ct mr four] [--windows 16 32 48]

The environment holds nnunetv2 (2.8.1 was run). Synthetic torsos (CT, MR) and heads (four sequences) are indexed, stored
with ``grid=nnunet normalise=nonzero``, learned for some hundred steps, exported, and predicted by both programs from
the same files: by the command that the export prints, and by ``medssl predict``. ``--data`` takes a folder of your own
with labels (imagesTr, labelsTr) in place of the synthetic ones; ``--grid spacing`` shows what the other grid costs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from medssl.phantoms import SEQUENCES, write_brains, write_cohort
from medssl.workflows.cache import cache
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.index import index
from medssl.workflows.predict import predict

AIM = 0.995
SPACINGS = {"kept": None, "coarser": (7.0, 6.1, 5.7), "finer": (4.1, 3.3, 4.4)}
ENCODER = ["encoder.name=unet", "encoder.channels=[8,16,32]", "segmentation.convs_per_stage=2"]


def cohort(kind: str, folder: Path, scans: int) -> None:
    """Write synthetic scans with labels, in nnU-Net's layout."""
    if kind == "four":
        write_brains(folder, subjects=scans)
    else:
        write_cohort(folder, subjects=scans, modality="CT" if kind == "ct" else "MR", shape=(44, 52, 60))


def learned(data: Path, work: Path, window: int, spacing: Sequence[float] | None, options: argparse.Namespace) -> Path:
    """Index, store and learn; return the run."""
    index(data, out=work / "m.parquet")
    size = "keep" if spacing is None else json.dumps(list(spacing))
    said = [f"grid={options.grid}", "normalise=nonzero", f"spacing_mm={size}", "hu_range=[-900,300]"]
    cache(work / "m.parquet", out=work / "store", overrides=said)
    return finetune(
        data=work / "store",
        out=work / "run",
        overrides=[
            *ENCODER,
            f"segmentation.window=[{window},{window},{window}]",
            "data.splits=[train,val,test,'']",
            "data.predict=[]",
            "data.held_out_scans=0",
            "inference.steps=even",
            f"train.steps={options.steps}",
            "train.lr=3e-3",
            "train.threads=1",
            "train.accelerator=cpu",
        ],
    ).folder


def numbered(data: Path, to: Path, count: int) -> list[str]:
    """Copy scans under the names that nnU-Net wants; return the cases."""
    to.mkdir(parents=True)
    images = data / "imagesTr" if (data / "imagesTr").is_dir() else data
    files = sorted(
        path for path in images.rglob("*.nii.gz") if "seg" not in path.name and not path.name.startswith(".")
    )
    first = f"_{SEQUENCES[0]}.nii.gz"
    cases = [path for path in files if path.name.endswith(first)] or files
    for path in cases[:count]:
        channels = [path]
        if path.name.endswith(first):
            channels = [path.with_name(path.name.replace(first, f"_{name}.nii.gz")) for name in SEQUENCES]
        for number, channel in enumerate(channels):
            shutil.copy(channel, to / f"{case_of(path)}_{number:04d}.nii.gz")
    return [case_of(path) for path in cases[:count]]


def case_of(path: Path) -> str:
    """Return the name of a case."""
    return path.name.removesuffix(".nii.gz").removesuffix(f"_{SEQUENCES[0]}")


def dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the mean Dice over the structures that either shows; 1 where neither shows any."""
    found = [
        2.0
        * np.count_nonzero((ours == n) & (theirs == n))
        / (np.count_nonzero(ours == n) + np.count_nonzero(theirs == n))
        for n in np.union1d(ours, theirs)
        if n
    ]
    return float(np.mean(found)) if found else 1.0


def compared(data: Path, run: Path, work: Path, venv: Path, count: int) -> dict[str, tuple[float, int]]:
    """Export a run, predict with both programs; return Dice and differing voxels of each case."""
    shown = export(run, to="nnunet", out=work / "nnunet").use
    cases = numbered(data, work / "scans", count)
    several = (work / "scans" / f"{cases[0]}_0001.nii.gz").exists()
    channels = ["channels=" + ",".join(f"{n:04d}" for n in range(len(SEQUENCES)))] if several else []
    predict(run, work / "scans", out=work / "ours", overrides=["device=cpu", *channels])
    environment = {
        **os.environ,
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        **{name: str(work) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")},
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        shown.replace("SCANS", "scans").replace("OUT", "theirs"),
        shell=True,
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{shown}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    # nnU-Net numbers labels without gaps; what it calls each is called so here too.
    named = json.loads((work / "ours" / "labels.json").read_text(encoding="utf-8"))["labels"]
    told = json.loads((work / "nnunet" / "dataset.json").read_text(encoding="utf-8"))["labels"]
    own = {name: int(number) for number, name in named.items()}
    numbers = np.array([own.get(name, 0) for name, _ in sorted(told.items(), key=lambda one: one[1])])
    found = {}
    for case in cases:
        (path,) = (work / "ours").glob(f"{case}*.nii.gz")
        first = nibabel.load(path)
        second = nibabel.load(work / "theirs" / f"{case}.nii.gz")
        np.testing.assert_allclose(first.affine, second.affine, atol=1e-3)
        a, b = np.asarray(first.dataobj), numbers[np.asarray(second.dataobj)]
        found[case] = (dice(a, b), int(np.count_nonzero(a != b)))
    return found


def main() -> None:
    """Print a line a scan, and how many reach the aim."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", nargs="+", default=["ct", "mr", "four"])
    parser.add_argument("--windows", nargs="+", type=int, default=[16, 32, 48])
    parser.add_argument("--voxels", nargs="+", default=list(SPACINGS), choices=list(SPACINGS))
    parser.add_argument("--grid", default="nnunet", choices=["nnunet", "spacing"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--spacing", nargs=3, type=float)
    parser.add_argument("--keep", type=Path, help="where to work, instead of a folder that is thrown away")
    options = parser.parse_args()
    if "MEDSSL_NNUNET" not in os.environ:
        sys.exit(
            "MEDSSL_NNUNET names no environment with nnunetv2: python -m venv E && E/bin/pip install nnunetv2==2.8.1"
        )
    venv = Path(os.environ["MEDSSL_NNUNET"])
    lines = []
    with tempfile.TemporaryDirectory() as made:
        root = options.keep or Path(made)
        for kind in ["data"] if options.data else options.kinds:
            data = options.data or root / kind
            if not options.data:
                cohort(kind, data, max(6, options.scans))
            sizes = {"given": options.spacing} if options.spacing else {name: SPACINGS[name] for name in options.voxels}
            for voxels, spacing in sizes.items():
                for window in options.windows:
                    work = root / f"{kind}-{voxels}-{window}"
                    work.mkdir()
                    run = learned(data, work, window, spacing, options)
                    for case, (score, voxels_off) in compared(data, run, work, venv, options.scans).items():
                        lines.append(f"{kind} {voxels} {window}^3 {case}: Dice {score:.4f}, {voxels_off} voxels differ")
                        print(lines[-1], score, file=sys.stderr)
    print("\n".join(lines))
    reach = sum(float(line.split("Dice ")[1].split(",")[0]) >= AIM for line in lines)
    print(f"{reach} of {len(lines)} reach {AIM}")


if __name__ == "__main__":
    main()
