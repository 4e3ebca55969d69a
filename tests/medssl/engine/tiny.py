"""A method small enough to train in a test, with everything that a real one may have: dropout, a teacher, buffers.

Run as a script it is one process of a training run: ``python tiny.py FOLDER [key=value ...] [--resume] [--slow]``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from medssl.engine.launch import launch, on_first_rank
from medssl.engine.loop import fit
from medssl.engine.run import Run
from medssl.engine.train_settings import TrainSettings
from medssl.methods.contract import Losses, Method
from medssl.randomness import numpy_generator
from medssl.settings import resolve
from medssl.teacher import EMATeacher
from medssl.windows import WindowBatch, WindowPlan

SIZE = (4, 6, 8)


class TinyMethod(Method):
    """Reconstruct windows from noised windows, and agree with a teacher that sees other noise."""

    def __init__(self, *, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.encoder = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.GELU(), nn.Conv3d(4, 4, 3, padding=1))
        self.dropout = nn.Dropout3d(dropout)
        self.head = nn.Conv3d(4, 1, 1)
        self.teacher = EMATeacher(self.encoder, momentum=0.9)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.poison_at: int | None = None

    @property
    def plan(self):
        return WindowPlan(size=SIZE)

    def views(self, batch, stream):
        images = batch.network_input()
        return {
            "clean": images,
            "noised": images + 0.1 * stream.normal(1, *SIZE).to(images.device),
            "other": images + 0.1 * stream.normal(1, *SIZE).to(images.device),
        }

    def forward(self, views, progress):
        features = self.encoder(views["noised"])
        shown = self.head(self.dropout(features))
        rebuilt = (shown - views["clean"]).square().mean()
        agreed = (features - self.teacher(views["other"])).square().mean()
        total = rebuilt + 0.1 * agreed
        if self.poison_at is not None and int(self.seen) == self.poison_at:
            total = total * float("nan")
        spread = features.flatten(1).std(dim=0).mean().detach()
        return Losses(total, {"rebuilt": rebuilt.detach(), "agreed": agreed.detach()}, {"spread": spread})

    def after_step(self, progress):
        self.teacher.update(self.encoder, progress)
        self.seen += 1

    def pictures(self, views):
        return {"clean": views["clean"], "noised": views["noised"]}

    def probe(self, views):
        return {"rebuilt": (self.head(self.dropout(self.encoder(views["noised"]))) - views["clean"]).square().mean()}


class TinyLoader:
    """Synthetic windows, a pure function of (seed, step, slot)."""

    numbers = 1000

    def __init__(self, *, batch_size=4, rank=0, world_size=1, pause_s=0.0, before=lambda step: None):
        self.slots, self.pause_s, self.before = range(rank, batch_size, world_size), pause_s, before
        self.asked = []

    def batch(self, step):
        values = [numpy_generator(3, step, slot).integers(-900, 900, (1, *SIZE), dtype="int16") for slot in self.slots]
        n = len(self.slots)
        return WindowBatch(
            values=torch.stack([torch.from_numpy(v) for v in values]),
            origin=torch.zeros(n, 3, dtype=torch.int64),
            extent=torch.tensor([SIZE] * n),
            body_box=torch.tensor([[(0, 0, 0), SIZE]] * n, dtype=torch.float32),
            spacing_mm=torch.ones(n, 3),
            scale=torch.tensor([[[-1000.0, 1000.0]]] * n),
            item=torch.tensor(list(self.slots)) + step,
            patient=torch.tensor(list(self.slots)) + step,
            part=torch.zeros(n, dtype=torch.int64),
            slot=torch.tensor(list(self.slots)),
        )

    def batches(self, start_step, stop_step):
        for step in range(start_step, stop_step):
            self.asked.append(step)
            self.before(step)
            time.sleep(self.pause_s)
            yield self.batch(step)


def settings(*overrides):
    """Return the settings of a short run on the CPU, as the verb would hand them on."""
    usual = {
        "steps": 12, "batch_size": 4, "lr": 1e-2, "warmup": 0.25, "log_every": 3, "probe_every": 4,
        "checkpoint_every": 4, "accelerator": "cpu",
    }  # fmt: skip
    return resolve(TrainSettings, defaults=usual, overrides=overrides)


def main() -> None:
    """Train, and write the final weights to FOLDER/final.pt."""
    folder, flags = Path(sys.argv[1]), [word for word in sys.argv[2:] if word.startswith("--")]
    resolved = settings(*[word for word in sys.argv[2:] if "=" in word])
    fabric = launch(resolved.settings)
    opened = Run.reopen if "--resume" in flags else Run.create
    run = on_first_rank(fabric, lambda: opened(folder, settings=resolved, say=print)) or Run(folder, writes=False)
    loader = TinyLoader(
        batch_size=resolved.settings.batch_size,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        pause_s=0.02 if "--slow" in flags else 0.0,
        before=lambda step: _die(fabric.global_rank, step, flags),
    )
    method = TinyMethod(dropout=0.0 if "--no-dropout" in flags else 0.2)
    held_out = [TinyLoader().batch(1000)]
    fit(method, loader, resolved.settings, run=run, fabric=fabric, held_out=held_out, resume="--resume" in flags)
    if run.writes:
        torch.save(method.state_dict(), folder / "final.pt")


def _die(rank: int, step: int, flags: list[str]) -> None:
    """Kill the second process at the step of --die-at-STEP."""
    if rank == 1 and f"--die-at-{step}" in flags:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
