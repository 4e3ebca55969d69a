"""The picture at the head of the README, made of what `medssl demo` wrote.

medssl demo --out runs/demo clouds=0 pretrain_steps=120 finetune_steps=300
python docs/site/overview.py runs/demo docs/site/overview.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np
import polars as pl

mpl.use("Agg")
import matplotlib.pyplot as plt

from medssl.engine.run import read_metrics

_STRUCTURES = ("tab:orange", "tab:green", "tab:blue", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive")


def main(demo: Path, picture: Path) -> None:
    """Draw a test patient with the predicted structures, the signal of pretraining, and Dice beside scratch."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), width_ratios=(1, 1.3, 1.5))
    _mask(left, demo)
    _signal(middle, read_metrics(demo / "runs/encoder"))
    _scores(right, demo)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


def _mask(axes: plt.Axes, demo: Path) -> None:
    mask = next(iter(sorted((demo / "runs/pretrained/predictions").glob("case_*.nii.gz"))))
    image = np.asarray(nib.as_closest_canonical(nib.load(demo / "scans/imagesTr" / mask.name)).dataobj)
    labels = np.asarray(nib.as_closest_canonical(nib.load(mask)).dataobj)
    y = int(np.argmax([len(np.unique(labels[:, at])) + (labels[:, at] > 0).mean() for at in range(labels.shape[1])]))
    axes.imshow(image[:, y].T[::-1], cmap="gray")
    for number in np.unique(labels[labels > 0]):
        shown = labels[:, y].T[::-1] == number
        if shown.any():
            axes.contour(shown, levels=[0.5], colors=_STRUCTURES[(int(number) - 1) % len(_STRUCTURES)], linewidths=1.5)
    axes.set_title("a test patient, predicted")
    axes.set_axis_off()


def _signal(axes: plt.Axes, rows: list[dict[str, float]]) -> None:
    told = {"held_out": "this encoder", "handmade": "hand-made features", "chance": "chance"}
    for (where, name), style in zip(told.items(), ("o-", "--", ":"), strict=True):
        points = [(row["step"], row[f"{where}/crop_place_r2"]) for row in rows if f"{where}/crop_place_r2" in row]
        axes.plot(*zip(*points, strict=True), style, label=name)
    axes.set(xlabel="step", title="pretraining: place of small crops, R2", ylim=(-0.05, 1))
    axes.legend(loc="center right", frameon=False)


def _scores(axes: plt.Axes, demo: Path) -> None:
    frame = pl.read_parquet(demo / "runs/pretrained/scores.parquet").filter(pl.col("metric") == "dice")
    arms = sorted(frame["run"].unique(), key=lambda name: name == "scratch")
    targets = [name for name in frame["target"].unique(maintain_order=True) if name]
    for shift, arm in enumerate(arms):
        means = [frame.filter((pl.col("run") == arm) & (pl.col("target") == name))["value"].mean() for name in targets]
        axes.barh(np.arange(len(targets)) + 0.4 * shift, means, height=0.36, label=arm, hatch=("", "//")[shift % 2])
    axes.set_yticks(np.arange(len(targets)) + 0.2, targets)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), title="Dice of the test patients")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2, frameon=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
