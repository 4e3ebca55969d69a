"""How much a step of VoCo costs over the encoder's own forward and backward on the same crops.

    python benchmarks/voco_step.py [--device cuda] [--rounds 15]

Both are timed in one process, alternately, and the medians are compared, so a busy machine shifts both alike. The
step is the whole step: views cut from int16 windows and augmented, student and teacher, loss, backward, optimiser,
teacher update. The bare encoder runs forward and backward (of the mean of its embedding) on the very same crops,
random and base crops together. "ideal" is what the same schedule of networks costs without VoCo around it: student
forward and backward on what it sees, teacher forward on what it sees.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from medssl.encoders.table import build_encoder
from medssl.methods.table import build_method
from medssl.methods.voco import VoCo, VoCoViews
from medssl.randomness import Stream
from medssl.windows import WindowBatch

CROP = (32, 32, 32)
VARIANTS = {
    "ours": {},
    "released v2": {
        "teacher": "heads",
        "student_bases": True,
        "regulariser": "bases",
        "feature_dropout": 0.2,
        "anchor": "window",
    },
    "released v1": {
        "teacher": "network",
        "student_bases": True,
        "both_directions": True,
        "negative": "square",
        "regulariser": "bases",
        "inter": "none",
        "anchor": "window",
    },
}


def windows(size: tuple[int, int, int], device: str, batch: int = 2) -> WindowBatch:
    """Return a batch of noise windows."""
    values = torch.randint(-1000, 1000, (batch, 1, *size), dtype=torch.int16)
    box = torch.tensor([[[0, 0, 0], size]]).expand(batch, 2, 3)
    return WindowBatch(
        values=values,
        origin=torch.zeros(batch, 3, dtype=torch.int64),
        extent=box[:, 1],
        body_box=box.float(),
        spacing_mm=torch.ones(batch, 3),
        scale=torch.tensor([[[-1000.0, 1000.0]]]).expand(batch, 1, 2),
        item=torch.arange(batch),
        patient=torch.arange(batch),
        part=torch.zeros(batch, dtype=torch.int64),
        slot=torch.arange(batch),
    ).to(device)


def timed(run: Callable[[], None], device: str) -> float:
    """Return the seconds that ``run`` takes: of the processor on a CPU, so that other programs do not count."""
    if device == "cpu":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(settings: dict[str, object], device: str, rounds: int) -> dict[str, float]:
    """Return median seconds of a whole step, of the bare encoder, of the ideal schedule, and of the views."""
    encoder = build_encoder({"name": "unet", "channels": [8, 16, 32, 64]})
    base = {"name": "voco", "crop": CROP, "grid": (2, 2, 2), "random_crops": 8, "hidden": 256, "projected": 128}
    method = build_method({**base, **settings}, encoder).to(device, memory_format=torch.channels_last_3d)
    assert isinstance(method, VoCo)
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-4)
    batch = windows(method.plan.size, device)
    views = method.views(batch, Stream(0, 0, [0, 1]))
    every = torch.cat([views.crops, views.bases], dim=1).flatten(0, 1).to(memory_format=torch.channels_last_3d)
    state = {"step": 0}

    def step() -> None:
        state["step"] += 1
        losses = method(method.views(batch, Stream(0, state["step"], [0, 1])), 0.5)
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        optimiser.step()
        method.after_step(0.5)

    def cut() -> None:
        method.views(batch, Stream(0, 1, [0, 1]))

    def backward(images: torch.Tensor) -> None:
        encoder.zero_grad(set_to_none=True)
        encoder.embed(images).mean().backward()

    def ideal() -> None:
        backward(_student_sees(method, views))
        if method.teacher is not None and method.settings.teacher == "network":
            with torch.no_grad():
                encoder.embed(every)

    runs: dict[str, Callable[[], None]] = {
        "step": step,
        "bare": lambda: backward(every),
        "ideal": ideal,
        "views": cut,
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            took = timed(run, device)
            if number >= 2:  # the first two rounds warm up
                seconds[name].append(took)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _student_sees(method: VoCo, views: VoCoViews) -> torch.Tensor:
    bases = method.settings.student_bases or method.settings.teacher != "network"
    stacked = torch.cat([views.crops, views.bases], dim=1) if bases else views.crops
    return stacked.flatten(0, 1).to(memory_format=torch.channels_last_3d)


def main() -> None:
    """Measure every variant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    print(f"torch {torch.__version__}, {chosen.device}, {torch.get_num_threads()} threads, crops of {CROP}\n")
    print("| settings | step / bare encoder on the same crops | step / ideal schedule | share spent on views |")
    print("|---|--:|--:|--:|")
    for name, settings in VARIANTS.items():
        took = measure(settings, chosen.device, chosen.rounds)
        ratios = took["step"] / took["bare"], took["step"] / took["ideal"], took["views"] / took["step"]
        print(f"| {name} | {ratios[0]:.2f} | {ratios[1]:.2f} | {ratios[2]:.0%} |", flush=True)


if __name__ == "__main__":
    main()
