"""What a step measures, kept on the device until a row of the log is due."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor

__all__ = ["Clock", "Meters", "Pace", "Report"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run says of itself every ``log_every`` steps.

    Attributes:
        step: Steps done.
        steps: Steps of the whole run.
        values: Means since the last report: "loss", "part/NAME", "signal/NAME", "grad_norm", "lr", "held_out/NAME".
        data_wait: Share of the time that was spent waiting for windows, in [0, 1].
        seconds_per_step: Wall clock.
        memory_gib: Most GPU memory held at once; 0 on a CPU.
    """

    step: int
    steps: int
    values: Mapping[str, float] = field(default_factory=dict)
    data_wait: float = 0.0
    seconds_per_step: float = 0.0
    memory_gib: float = 0.0


class Meters:
    """Running means on the device, and the first step whose loss or gradient was not finite.

    Nothing here makes the host wait for the device, except `read`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self.own_bad_step: int | None = None
        self._first_bad = torch.full((), math.inf, device=device, dtype=torch.float64)

    def add(self, values: Mapping[str, Tensor], *, weight: float = 1.0) -> None:
        """Add a step's scalars, or those of a share ``weight`` of it."""
        for name, value in values.items():
            scaled = value.detach().float() * weight
            self._sums[name] = self._sums[name] + scaled if name in self._sums else scaled
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def watch(self, step: int, *values: Tensor) -> None:
        """Note ``step`` if any of ``values`` is NaN or infinite and no earlier step was noted."""
        for value in values:
            bad = torch.where(torch.isfinite(value.detach()), math.inf, float(step)).double()
            self._first_bad = torch.minimum(self._first_bad, bad)

    def read(self, fabric: Fabric) -> tuple[dict[str, float], int | None]:
        """Return the means over steps and ranks and the first bad step of any rank, and start anew.

        Waits for the device, and leaves this rank's own first bad step in ``own_bad_step``.
        """
        names = sorted(self._sums)
        own = self._first_bad
        means = torch.stack([self._sums[name].double() / self._weights[name] for name in names])
        bad = own
        if fabric.world_size > 1:
            means = fabric.all_reduce(means, reduce_op="mean")
            bad = fabric.all_reduce(own.clone(), reduce_op="min")
        on_host = torch.cat([own.view(1), bad.view(1), means]).tolist()
        self._sums.clear()
        self._weights.clear()
        own_step, bad_step = (None if math.isinf(value) else int(value) for value in on_host[:2])
        self.own_bad_step = own_step
        return dict(zip(names, on_host[2:], strict=True)), bad_step


class Clock:
    """Wall clock of a stretch of steps, and the part of it that went by waiting for data."""

    def __init__(self) -> None:
        self._waited = 0.0
        self._steps = 0
        self._since = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in this block as waiting."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def stepped(self) -> None:
        """Count a step."""
        self._steps += 1

    def read(self) -> tuple[float, float]:
        """Return (share waited, seconds a step), and start anew."""
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        share, each = self._waited / elapsed, elapsed / max(self._steps, 1)
        self._waited, self._steps, self._since = 0.0, 0, now
        return share, each


class Pace:
    """Keeps the host at most one step ahead of a GPU.

    Without it the host, which only queues work, would race ahead and count as "waiting for data" time in which the
    GPU was busy; and batches would pile up in the GPU's memory. Does nothing on a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._previous: torch.cuda.Event | None = None
        self._current: torch.cuda.Event | None = None

    def mark(self) -> None:
        """Note that a step's work has been queued."""
        if self._on_gpu:
            self._previous, self._current = self._current, torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._current.record()

    def wait(self) -> None:
        """Wait until the step before the last one queued is done."""
        if self._previous is not None:
            self._previous.synchronize()
