"""Starting the processes of a run, and doing things once among them."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from medssl.encoders.pooling import Pooling
from medssl.engine.precision import choose_precision
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError, MedSSLError

__all__ = ["launch", "launcher_words", "on_cpu", "on_first_rank", "stop_signals"]

_AGREE_EVERY = 10  # steps between the ranks' agreement on whether one of them was told to stop
_MEETING_PORT = 29400  # torchrun's own default
Result = TypeVar("Result")


def on_cpu(settings: TrainSettings) -> bool:
    """Return whether these settings train on a CPU here."""
    return settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available())


def launch(settings: TrainSettings, network: nn.Module | None = None) -> Fabric:
    """Return Fabric with its processes started: those of torchrun or SLURM where these run, else ``devices``.

    Args:
        settings: Where, on how many, and how exactly.
        network: What is trained. Where it reads an encoder before its last norm, that norm gets no gradient, which DDP
            has to be told.

    Raises:
        ConfigError: More GPUs are asked for than there are, or bfloat16 on a CPU that computes it wrongly.
    """
    accelerator = "cpu" if on_cpu(settings) else "cuda"
    wanted, nodes = _processes(settings)
    count = torch.cuda.device_count()
    devices = wanted if isinstance(wanted, int) else max(count, 1) if accelerator == "cuda" else 1
    if accelerator == "cuda" and devices > count:
        raise ConfigError(f"train.devices is {devices}, and this machine has {count} GPUs. Try train.accelerator=cpu.")
    precision = choose_precision(settings.precision, accelerator)
    many = devices * nodes > 1
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the settings say the precision already
    strategy = DDPStrategy(find_unused_parameters=settings.find_unused or _before_a_norm(network)) if many else "auto"
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, precision=precision, strategy=strategy)
    fabric.launch()
    return fabric


def _before_a_norm(network: nn.Module | None) -> bool:
    parts = () if network is None else network.modules()
    return any(isinstance(part, Pooling) and part.kind == "prenorm" for part in parts)


def _processes(settings: TrainSettings) -> tuple[int | str, int]:
    """Return processes a machine and machines: the launcher's numbers where there is one."""
    around = os.environ
    if "TORCHELASTIC_RUN_ID" in around:
        here = int(around["LOCAL_WORLD_SIZE"])
        return here, int(around["WORLD_SIZE"]) // here
    if "SLURM_PROCID" in around and "SLURM_NTASKS_PER_NODE" in around:
        return int(around["SLURM_NTASKS_PER_NODE"]), int(around.get("SLURM_NNODES", settings.nodes))
    return settings.devices, settings.nodes


def launcher_words() -> list[str]:
    """Return the words that start the command line as it was started here: by torchrun, by SLURM's srun, or plainly.

    torchrun over several machines is started on each; they meet at the first one, at the usual port.
    """
    around = os.environ
    if "TORCHELASTIC_RUN_ID" in around:
        here = int(around["LOCAL_WORLD_SIZE"])
        nodes = int(around["WORLD_SIZE"]) // here
        meeting = ["--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint"]
        meeting += [f"{around.get('MASTER_ADDR', 'localhost')}:{_MEETING_PORT}"]
        return ["torchrun", *(meeting if nodes > 1 else []), "--nproc-per-node", str(here), "-m", "medssl"]
    if "SLURM_PROCID" in around and "SLURM_NTASKS_PER_NODE" in around:
        machines = ["--nodes", around["SLURM_NNODES"]] if "SLURM_NNODES" in around else []
        return ["srun", *machines, "--ntasks-per-node", around["SLURM_NTASKS_PER_NODE"], "medssl"]
    return ["medssl"]


def on_first_rank(fabric: Fabric, work: Callable[[], Result]) -> Result | None:
    """Do ``work`` on the first rank while the others wait for it.

    Returns:
        Its result on the first rank, None on the others.

    Raises:
        MedSSLError: What the work raised on the first rank; with the same message on the others, so that all stop.
    """
    result, error = None, None
    if fabric.is_global_zero:
        try:
            result = work()
        except MedSSLError as caught:
            error = caught
    failed = fabric.broadcast(str(error) if error else None) if fabric.world_size > 1 else None
    if error is not None:
        raise error
    if failed is not None:
        raise MedSSLError(failed)
    return result


@contextmanager
def stop_signals() -> Iterator[Callable[[Fabric, int], bool]]:
    """Turn SIGTERM and SIGINT into a question that the loop asks between steps; a second one acts at once.

    Yields:
        A function of (fabric, steps done) that says whether to stop now. All ranks get the same answer; with more
        than one they agree on it every ten steps only, since asking each other costs time.
    """
    told = False
    before: dict[int, object] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        for kind, handler in before.items():
            signal.signal(kind, handler)  # type: ignore[arg-type]

    def stop(fabric: Fabric, done: int) -> bool:
        if fabric.world_size == 1:
            return told
        if done % _AGREE_EVERY:
            return False
        votes = fabric.all_reduce(torch.tensor(float(told), device=fabric.device), reduce_op="sum")
        return bool(votes > 0)

    if threading.current_thread() is threading.main_thread():  # elsewhere Python lets nobody set a handler
        before = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)}
        for kind in before:
            signal.signal(kind, hear)
    try:
        yield stop
    finally:
        if not told:
            for kind, handler in before.items():
                signal.signal(kind, handler)  # type: ignore[arg-type]
