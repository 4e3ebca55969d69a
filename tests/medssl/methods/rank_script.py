"""One process of a run: ``rank_script.py FOLDER RANK WORLD`` writes the mean gradients of its part of a batch."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from medssl.encoders.table import build_encoder
from medssl.methods.contract import Method
from medssl.methods.crop_views import CropViews
from medssl.methods.partition_views import PartitionViews
from medssl.methods.table import build_method

SIZE = (4, 16, 16)
SCANS, PARTS = 5, 2  # so that two processes hold unlike numbers of scans
PARTITIONS = {"window": SIZE, "partitions": PARTS, "projected": 8}
CROPS = {"window": SIZE, "crop": SIZE, "hidden": 16, "projected": 8}
CASES = {
    "global_contrast": {"name": "global_contrast", "hidden": 16, **PARTITIONS},
    "local_contrast": {"name": "local_contrast", "loss": "aligned", "blocks": 1, "region": 1, **PARTITIONS},
    "moco": {"name": "moco", "queue": 16, **CROPS},
    "simclr": {"name": "simclr", **CROPS},
    "swav": {"name": "swav", "prototypes": 6, "local_views": 0, **CROPS},
    "dino": {"name": "dino", "prototypes": 6, "bottleneck": 4, "assign": "sinkhorn", "local_views": 0,
             **{name: value for name, value in CROPS.items() if name != "projected"}},
}  # fmt: skip
# Their assignments are of the whole batch, their loss of a process's rows: its mean over processes is the batch's where
# all hold as many.
BY_ROW = {"swav": 4, "dino": 4}


def method_of(case: str) -> Method:
    """Return a fresh method, the same in every process; norms over a batch at evaluation's statistics."""
    torch.manual_seed(0)
    method = build_method(CASES[case], build_encoder({"name": "unet", "channels": [4, 6], "strides": [1, [1, 2, 2]]}))
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm1d) and not module.track_running_stats:
            module.forward = lambda rows: rows  # of a head: it would know its own process's rows alone
        elif isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm3d):
            module.eval()
    return method


def views_of(case: str, rank: int, world: int) -> CropViews | PartitionViews:
    """Return the views of this process's scans: ``rank``, ``rank + world``, ..., as the loader deals them out."""
    scans = BY_ROW.get(case, SCANS)
    draw = torch.rand(scans, PARTS, 2, 1, *SIZE, generator=torch.Generator().manual_seed(1))[rank::world]
    if "contrast" in case:
        return PartitionViews(draw.flatten(0, 1), torch.arange(PARTS).repeat(len(draw)))
    item = torch.arange(scans)[rank::world]
    return CropViews(draw[:, 0], None, item, item // 2)


def gradients_of(case: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Return the loss and the gradients of one step, as data-parallel training averages them; and MoCo's queue."""
    method = method_of(case)
    loss = method(views_of(case, rank, world), 0.5).total
    loss.backward()
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    if world > 1:
        for gradient in [*found.values(), *([loss.detach()] if case in BY_ROW else [])]:
            dist.all_reduce(gradient)
            gradient /= world
    method.after_step(0.5)
    queue = {name: value for name, value in method.state_dict().items() if name in ("queue.keys", "queue.groups")}
    return {"loss": loss.detach(), **found, **queue}


def main() -> None:
    """Join the other processes and write what this one found."""
    folder, rank, world = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=world)
    torch.save({case: gradients_of(case, rank, world) for case in CASES}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
