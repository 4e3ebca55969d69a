"""How long a step takes here: a few steps of a copy of the method, before the run itself begins.

What is trained later is untouched: the copy is thrown away, and so are the numbers that it drew.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from medssl.encoders.contract import lay_channels_last
from medssl.engine.accumulation import parts_of
from medssl.engine.optimiser import build_optimiser, set_learning_rates
from medssl.engine.precision import choose_precision
from medssl.engine.reporter import Loader
from medssl.engine.schedules import learning_rates
from medssl.engine.train_settings import TrainSettings
from medssl.methods.contract import Method

__all__ = ["StepTime", "time_steps"]

_STEPS = 4  # the first of them warms up what later ones find ready
_ENOUGH_S = 3.0  # no further step is tried after this


@dataclass(frozen=True)
class StepTime:
    """What a step took on this machine.

    Attributes:
        seconds: The median of the steps, without the first where there were several.
        steps: How many were tried; 0 where not even one ended in time, and ``seconds`` is how long it was waited for.
    """

    seconds: float
    steps: int


class _Enough(Exception):  # noqa: N818 - no error: the trial is told to stop
    """The step takes longer than the trial may."""


def time_steps(method: Method, loader: Loader, settings: TrainSettings, *, limit_s: float = 10.0) -> StepTime:
    """Try a few steps of a copy of the method on the CPU, as the loop would do them, and say how long one takes.

    Args:
        method: What will be trained; it is not changed.
        loader: Its batches, of one process.
        settings: How it will be trained.
        limit_s: The first forward pass that takes longer is given up.
    """
    device = torch.device("cpu")
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]), _given_up_after(limit_s, began):
        tried = copy.deepcopy(method)
        tried.begin(loader.numbers)
        tried.to(device).train()
        if settings.channels_last:
            lay_channels_last(tried)
        optimizer = build_optimiser(tried, settings)
        rates = learning_rates(settings)
        batches = loader.batches(0, min(_STEPS, settings.steps))
        seconds: list[float] = []
        try:
            at = time.perf_counter()
            for step, batch in enumerate(batches):
                set_learning_rates(optimizer, rates, step)
                _step(tried, batch, settings, step, device)
                nn.utils.clip_grad_norm_(tried.parameters(), settings.clip or float("inf"))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                tried.after_step((step + 1) / settings.steps)
                at, before = time.perf_counter(), at
                seconds.append(at - before)
                if at - began > _ENOUGH_S:
                    break
        except _Enough:
            pass
        finally:
            batches.close()  # type: ignore[attr-defined]
    if not seconds:
        return StepTime(time.perf_counter() - began, 0)
    return StepTime(median(seconds[1:] or seconds), len(seconds))


def _step(method: Method, batch: Any, settings: TrainSettings, step: int, device: torch.device) -> None:
    """Do what the loop does with a batch, but for the optimiser's part."""
    half = choose_precision(settings.precision, device.type) == "bf16-mixed"
    for part in parts_of(method, batch, settings.accumulate, seed=settings.seed, step=step, device=device):
        with torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext():
            total = part.weighed(method(part.views, step / settings.steps))
        total.backward()  # type: ignore[no-untyped-call]


@contextmanager
def _given_up_after(limit_s: float, began: float) -> Iterator[None]:
    """Let a forward pass inside end with `_Enough` between two modules once the time is over."""

    def look(_module: nn.Module, _given: Any) -> None:
        if time.perf_counter() - began > limit_s:
            raise _Enough

    hook = register_module_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()
