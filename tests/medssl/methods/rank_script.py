"""One process of several: ``rank_script.py FOLDER ITEMS CASE ...`` trains each case and writes what it ended with.

A case may end with ``@2``: train.accumulate=2. The launcher's variables say which process it is, as torchrun would;
`started` sets them.
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
from medssl.gathering import added, gathered, mean_of_all, own_of, ratio
from medssl.synchronised_norm import synchronise_norms

STEPS = 6
# Plain descent: adaptive steps would make rounding as large as a step wherever a gradient is zero by definition.
SETTINGS = {
    "steps": STEPS, "optimiser": "sgd", "momentum": 0.5, "lr": 0.02, "warmup": 0.0, "weight_decay": 0.01, "clip": 1.0,
    "log_every": 1, "probe_every": 1000, "checkpoint_every": 1000, "accelerator": "cpu", "precision": "32-true",
    "devices": 1, "find_unused": True,  # a norm behind what is read gets no gradient
}  # fmt: skip


def train(case: str, folder: Path, items: int, fabric: Fabric, name: str, **more: Any) -> dict[str, Any]:
    """Train a case; return the rows of its log, on the first process, and the state that it ended with."""
    import rank_cases

    reporter.draw_views = reporter.draw_progress = lambda *_: None  # seconds for each case
    out = folder / name / case.replace(" ", "_")
    case, _, parts = case.partition("@")
    method = rank_cases.make(case)
    rows = items * getattr(method.plan, "count", 1)
    settings = TrainSettings(**SETTINGS | {"batch_size": rows, "accumulate": int(parts or 1)} | more)
    loader = rank_cases.loader_of(case, folder, method, items, fabric.global_rank, fabric.world_size)
    said: list[str] = []
    run = Run(out, writes=fabric.is_global_zero, say=said.append)
    if run.writes:
        out.mkdir(parents=True)
    fit(method, loader, settings, run=run, fabric=fabric)
    return {"rows": read_metrics(out) if run.writes else [], "state": method.state_dict(), "said": said}


def norms(rank: int, world: int) -> dict[str, torch.Tensor]:
    """Run batch norms over this process's share of nine rows: outputs, gradients, statistics, and rows gathered."""
    found = {}
    for name, norm in norms_of().items():
        net = torch.nn.Sequential(norm)
        if world > 1:
            synchronise_norms(net, "cpu")
        rows = rows_of_norm(name)[rank::world].requires_grad_()
        weigh = torch.arange(9.0)[rank::world].view(-1, *[1] * (rows.dim() - 1))
        total = added((net(rows).float() * rows.detach().sin() * weigh).sum())
        total.backward()
        found[f"{name}/total"] = total.detach()
        found[f"{name}/gradient"] = gathered(rows.grad / world)
        found |= {f"{name}/{key}": value for key, value in net.state_dict().items()}
        found |= {f"{name}/{key} gradient": added(p.grad) / world for key, p in net.named_parameters()}
    place = torch.arange(9)[rank::world]
    found["order"], found["own"] = gathered(place), (own_of(gathered(place), len(place)) - place).abs().sum()
    pairs = torch.arange(10).view(5, 2)[rank::world].flatten()
    found["order of pairs"] = gathered(pairs, block=2)
    values = torch.arange(9.0)[rank::world]
    found["mean"] = mean_of_all(values)
    found["mean of rows"] = mean_of_all(torch.stack([values, values**2], dim=1), (0,))
    found["ratio"] = ratio(values.sum(), (values > 3).sum())
    found["none"] = mean_of_all(values[:0])
    return found


def norms_of() -> dict[str, torch.nn.Module]:
    """Return batch norms of the kinds that there are here."""
    norm = torch.nn.BatchNorm1d(4)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 4)), norm.bias.copy_(torch.linspace(-1, 1, 4))
    return {
        "rows": norm,
        "far": torch.nn.BatchNorm1d(4, affine=False),  # a mean a thousand times the deviation
        "plain": torch.nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        "plain, evaluated": torch.nn.BatchNorm1d(4, affine=False, track_running_stats=False).eval(),
        "evaluated": torch.nn.BatchNorm1d(4).eval(),
        "volumes": torch.nn.BatchNorm3d(3, momentum=None),
        "half": torch.nn.BatchNorm1d(4),
    }


def rows_of_norm(name: str) -> torch.Tensor:
    """Return nine rows for a norm."""
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(9, *((3, 2, 3, 2) if name == "volumes" else (4,)), generator=draw)
    rows = rows + 1000 if name == "far" else rows
    return rows.bfloat16() if name == "half" else rows


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
    ended: dict[str, Any] = {case: train(case, folder, items, fabric, name) for case in cases}
    ended["norms"] = norms(fabric.global_rank, fabric.world_size)
    torch.save(ended, folder / f"{name}-rank{fabric.global_rank}.pt")


if __name__ == "__main__":
    main()
