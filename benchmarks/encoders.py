"""Step time of each encoder, and what channels-last memory and bfloat16 change.

    python benchmarks/encoders.py --size 64 --batch 2 --threads 2

Prints, for every encoder, the milliseconds of a forward and backward pass in float32 with torch's default memory (on a
CPU: summed over threads), and the ratio of each other way to it (below 1 is faster). Runs on a GPU where there is one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext

import torch

from medssl.encoders.contract import Encoder
from medssl.encoders.table import build_encoder

SMALL = {
    "unet 8-64": {"name": "unet", "channels": [8, 16, 32, 64]},
    "residual 8-64, 1 block": {"name": "residual", "channels": [8, 16, 32, 64], "blocks": 1},
    "residual 16-128, 2 blocks": {"name": "residual", "channels": [16, 32, 64, 128], "blocks": 2},
    "swin 12": {"name": "swin", "feature_size": 12},
}
LARGE = {
    "unet 32-320": {"name": "unet"},
    "residual 32-320 (ResEnc-L)": {"name": "residual"},
    "swin 48 (VoCo-B)": {"name": "swin"},
}


def step_ms(encoder: Encoder, images: torch.Tensor, *, bfloat16: bool, repeats: int) -> float:
    """Return the median milliseconds of a forward and backward pass."""
    # on a CPU those that this process computed, so that other processes on the machine do not count
    clock = time.perf_counter if images.device.type == "cuda" else time.process_time
    device = images.device.type
    took = []
    for repeat in range(repeats + 1):
        encoder.zero_grad(set_to_none=True)
        start = clock()
        with torch.autocast(device, torch.bfloat16) if bfloat16 else nullcontext():
            loss = encoder.embed(images).square().mean()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        if repeat:  # the first pass warms up
            took.append(1e3 * (clock() - start))
    return statistics.median(took)


def main() -> None:
    """Time every encoder every way and print one row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="side of a window, voxels; Swin takes 64 and more")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="the published sizes instead of small ones")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {asked.threads} threads"
    print(f"{name}; torch {torch.__version__}; {asked.batch} windows of {asked.size}^3; median of {asked.repeats}")
    print(f"{'encoder':28} {'parameters':>12} {'float32 ms':>11} {'last':>6} {'bf16':>6} {'both':>6}")
    for label, settings in (LARGE if asked.large else SMALL).items():
        torch.manual_seed(0)
        encoder = build_encoder(settings).to(device).train()
        images = torch.rand(asked.batch, 1, *(asked.size,) * 3, device=device)
        plain = step_ms(encoder, images, bfloat16=False, repeats=asked.repeats)
        rough = step_ms(encoder, images, bfloat16=True, repeats=asked.repeats)
        encoder.to(memory_format=torch.channels_last_3d)
        images = images.contiguous(memory_format=torch.channels_last_3d)
        last = step_ms(encoder, images, bfloat16=False, repeats=asked.repeats)
        both = step_ms(encoder, images, bfloat16=True, repeats=asked.repeats)
        count = sum(parameter.numel() for parameter in encoder.parameters())
        ratios = " ".join(f"{value / plain:6.2f}" for value in (last, rough, both))
        print(f"{label:28} {count:12,} {plain:11.1f} {ratios}", flush=True)


if __name__ == "__main__":
    main()
