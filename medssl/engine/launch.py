"""Starting the processes of a run, and doing things once among them."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from types import FrameType
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from medssl.encoders.pooling import Pooling
from medssl.engine.precision import choose_precision
from medssl.engine.processes import processes_of
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError, MedSSLError, PeerLostError

__all__ = ["launch", "on_cpu", "on_first_rank", "peers", "stop_signals"]

# Between the ranks' agreements on whether one of them was told to stop: seconds, and steps at most.
_AGREE_SECONDS, _AGREE_STEPS = 2.0, 10
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
    started = processes_of(settings)
    wanted, nodes = started.here, started.machines
    count = torch.cuda.device_count()
    devices = wanted if isinstance(wanted, int) else max(count, 1) if accelerator == "cuda" else 1
    if accelerator == "cuda" and devices > count:
        raise ConfigError(f"train.devices is {devices}, and this machine has {count} GPUs. Try train.accelerator=cpu.")
    precision = choose_precision(settings.precision, accelerator)
    many = devices * nodes > 1
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the settings say the precision already
    strategy = DDPStrategy(find_unused_parameters=settings.find_unused or _before_a_norm(network)) if many else "auto"
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, precision=precision, strategy=strategy)
    with _meeting(fabric):
        fabric.launch()
    if fabric.world_size != devices * nodes:  # a launcher that neither of us knows how to read
        raise ConfigError(
            f"{devices * nodes} processes were asked for ({devices} on each of {nodes} machines), and "
            f"{fabric.world_size} run. Start them with torchrun or srun, or ask for {fabric.world_size}."
        )
    return fabric


@contextmanager
def _meeting(fabric: Fabric) -> Iterator[None]:
    """Say in a line that processes did not meet, where torch says it in pages."""
    try:
        yield
    except (torch.distributed.DistError, TimeoutError, ConnectionError) as error:
        place = f"{os.environ.get('MASTER_ADDR', 'localhost')}:{os.environ.get('MASTER_PORT', '')}".rstrip(":")
        raise ConfigError(
            f"The processes of this run did not meet at {place}: {str(error).splitlines()[0]}. See that all were "
            "started, and that each machine reaches that address (MASTER_ADDR, MASTER_PORT; --rdzv-endpoint)."
        ) from error


@contextmanager
def peers(fabric: Fabric) -> Iterator[None]:
    """Say in a line that another process was lost, where each of the rest would show its traceback.

    Raises:
        PeerLostError: In place of what torch raises when a connection to another process breaks or stands still.
    """
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or not (isinstance(error, torch.distributed.DistError) or _of_peers(str(error))):
            raise
        seen = re.sub(r"^\[[^]]*/[^]]*\]\s*", "", str(error).splitlines()[0]).split(". ")[0]  # without gloo's own file
        raise PeerLostError(fabric.global_rank, fabric.world_size, seen) from error


def _of_peers(text: str) -> bool:
    """Tell whether a message is gloo's or NCCL's; gloo raises plain RuntimeErrors."""
    return any(word in text for word in ("gloo/", "[Gloo]", "NCCL", "Connection closed by peer"))


def _before_a_norm(network: nn.Module | None) -> bool:
    parts = () if network is None else network.modules()
    return any(isinstance(part, Pooling) and part.kind == "prenorm" for part in parts)


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
        than one they agree on it about every two seconds, and every ten steps at least: asking each other costs
        time, and a machine that is to be given back waits half a minute or so.
    """
    told = False
    before: dict[int, object] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        for kind, handler in before.items():
            signal.signal(kind, handler)  # type: ignore[arg-type]

    due = since = 0  # steps: of the next agreement and of the last
    at = perf_counter()

    def stop(fabric: Fabric, done: int) -> bool:
        nonlocal due, since, at
        if fabric.world_size == 1:
            return told
        if done < due:
            return False
        pace = (perf_counter() - at) / max(1, done - since) if since else _AGREE_SECONDS
        # The slowest one's pace on all, so that all name the same step.
        votes = fabric.all_reduce(torch.tensor([float(told), pace], device=fabric.device), reduce_op="max")
        since, at = done, perf_counter()
        due = done + max(1, min(_AGREE_STEPS, int(_AGREE_SECONDS / max(float(votes[1]), 1e-9))))
        return bool(votes[0] > 0)

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
