"""How fast the surface metrics are, against MONAI's on the same masks in one process: python benchmarks/metrics.py.

Both compute HD95 and surface Dice of one structure, in mm, with the same definition; the values are checked to agree
before anything is timed. The best of several runs counts, on one thread.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from medssl.evaluation.surface import surface_score

Mask = np.ndarray
SPACING_MM = (1.5, 1.0, 1.0)
TOLERANCE_MM = 1.0


def organ(shape: tuple[int, int, int], fill: float, seed: int, roughness_voxels: float) -> Mask:
    """Return a rough ellipsoid that fills a share of the axes of its image."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 3)
    noise *= roughness_voxels * 2 / min(shape) / noise.std()
    return np.sqrt(sum(a**2 for a in axes)) + noise < fill


def ours(truth: Mask, prediction: Mask) -> tuple[float, float]:
    """Return HD95 in mm and surface Dice."""
    score = surface_score(truth, prediction, spacing_mm=SPACING_MM, tolerance_mm=TOLERANCE_MM)
    return score.hd95_mm, score.nsd


def monai(truth: Mask, prediction: Mask) -> tuple[float, float]:
    """Return HD95 in mm and surface Dice."""
    pair = {
        "y_pred": torch.from_numpy(np.stack([~prediction, prediction])[None]).float(),
        "y": torch.from_numpy(np.stack([~truth, truth])[None]).float(),
        "spacing": SPACING_MM,
    }
    hd95 = compute_hausdorff_distance(**pair, percentile=95)
    return float(hd95), float(compute_surface_dice(**pair, class_thresholds=[TOLERANCE_MM]))


def best_of(runs: int, function: Callable[[Mask, Mask], tuple[float, float]], *masks: Mask) -> float:
    """Return the shortest time in seconds."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function(*masks)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases = {
        "hippocampus, 36x50x35": ((36, 50, 35), 0.5, 1.0),
        "organ in a scan, 100^3 of 200^3": ((200, 200, 200), 0.5, 1.0),
        "organ, 200^3": ((200, 200, 200), 0.97, 1.5),
    }
    print(f"{platform.processor() or platform.machine()}, one thread, best of {runs}; spacing {SPACING_MM} mm\n")
    print("| structure | border voxels | medssl | MONAI | ratio |")
    print("|---|---|---|---|---|")
    for name, (shape, fill, rough) in cases.items():
        truth, prediction = (np.roll(organ(shape, fill, seed, rough), seed, axis=2) for seed in (0, 1))
        values = ours(truth, prediction), monai(truth, prediction)
        np.testing.assert_allclose(values[0], values[1], rtol=1e-5)
        border = sum(int((m ^ ndimage.binary_erosion(m)).sum()) for m in (truth, prediction))
        seconds = [best_of(runs, function, truth, prediction) for function in (ours, monai)]
        print(
            f"| {name} | {border:,} | {1000 * seconds[0]:.1f} ms | {1000 * seconds[1]:.1f} ms "
            f"| {seconds[1] / seconds[0]:.1f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
