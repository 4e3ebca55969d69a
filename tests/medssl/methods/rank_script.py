"""One process of several: ``rank_script.py FOLDER ITEMS CASE ...`` trains each case and writes what it ended with.

The launcher's variables say which process it is, as torchrun would; `started` sets them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from medssl.engine import reporter
from medssl.engine.launch import launch
from medssl.engine.loop import fit
from medssl.engine.run import Run, read_metrics
from medssl.engine.train_settings import TrainSettings

STEPS = 6
# Plain descent: adaptive steps would make rounding as large as a step wherever a gradient is zero by definition.
SETTINGS = {
    "steps": STEPS, "optimiser": "sgd", "momentum": 0.5, "lr": 0.02, "warmup": 0.0, "weight_decay": 0.01, "clip": 1.0,
    "log_every": 1, "probe_every": 1000, "checkpoint_every": 1000, "accelerator": "cpu", "precision": "32-true",
    "devices": 1,
}  # fmt: skip


def train(case: str, folder: Path, items: int, fabric: Fabric, name: str, **more: Any) -> dict[str, Any]:
    """Train a case; return the rows of its log, on the first process, and the state that it ended with."""
    import rank_cases

    reporter.draw_views = reporter.draw_progress = lambda *_: None  # seconds for each case
    settings = TrainSettings(**SETTINGS | {"batch_size": items} | more)
    method = rank_cases.make(case)
    loader = rank_cases.loader_of(case, folder, method, items, fabric.global_rank, fabric.world_size)
    out = folder / name / case.replace(" ", "_")
    said: list[str] = []
    run = Run(out, writes=fabric.is_global_zero, say=said.append)
    if run.writes:
        out.mkdir(parents=True)
    fit(method, loader, settings, run=run, fabric=fabric)
    return {"rows": read_metrics(out) if run.writes else [], "state": method.state_dict(), "said": said}


def started(folder: Path, items: int, world: int, cases: list[str]) -> list[subprocess.Popen[bytes]]:
    """Start ``world`` processes that train the cases together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = []
    for rank in range(world):
        around = {
            "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world,
            "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0, "OMP_NUM_THREADS": 1,
        }  # fmt: skip
        command = [sys.executable, __file__, str(folder), str(items), *cases]
        found.append(subprocess.Popen(command, env=os.environ | {name: str(v) for name, v in around.items()}))
    return found


def main() -> None:
    """Train every case in this process's part."""
    folder, items, cases = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    fabric = launch(TrainSettings(**SETTINGS))
    name = f"of{fabric.world_size}"
    ended = {case: train(case, folder, items, fabric, name) for case in cases}
    torch.save(ended, folder / f"{name}-rank{fabric.global_rank}.pt")


if __name__ == "__main__":
    main()
