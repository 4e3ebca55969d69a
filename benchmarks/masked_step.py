"""How much a step of each masked reconstruction costs over its encoder's own forward and backward on the same windows.

    python benchmarks/masked_step.py [--device cuda] [--rounds 9]

Both are timed in one process, alternately, and the medians are compared (processor time on a CPU). The step is views,
forward and backward; the bare encoder runs forward and backward of the mean of its embedding on whole windows, which
for ``mae`` are four times the tokens that it computes. Methods and encoders are those of the small presets.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from voco_step import timed, windows

from medssl.encoders.table import build_encoder
from medssl.methods.table import build_method
from medssl.randomness import Stream
from medssl.settings import resolve
from medssl.workflows.pretrain import PretrainSettings

PRESETS = ("masked_small", "spark_small", "spark_s3d_small", "mae_small", "simmim_small")
BATCH = 4


def measured(preset: str, device: str, rounds: int) -> tuple[float, float]:
    """Return the median seconds of a step and of the bare encoder."""
    settings = resolve(PretrainSettings, preset=preset).settings
    encoder = build_encoder(settings.encoder).to(device)
    method = build_method(settings.method, encoder).to(device)
    batch = windows(method.plan.size, device, batch=BATCH)

    def step() -> None:
        with torch.no_grad():
            views = method.views(batch, Stream(0, 0, range(BATCH)))
        method(views, 0.0).total.backward()

    def bare() -> None:
        encoder.embed(batch.network_input()).mean().backward()

    step()
    bare()
    times = [(timed(step, device), timed(bare, device)) for _ in range(rounds)]
    return statistics.median(t for t, _ in times), statistics.median(t for _, t in times)


def main() -> None:
    """Print a line a preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    print(f"{'preset':18} {'step ms':>9} {'encoder ms':>11} {'ratio':>6}")
    for preset in PRESETS:
        step, bare = measured(preset, chosen.device, chosen.rounds)
        print(f"{preset:18} {1000 * step:9.1f} {1000 * bare:11.1f} {step / bare:6.2f}")


if __name__ == "__main__":
    main()
