"""What the loop says, draws, checks and saves between steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import nn

from medssl.batch import Batch
from medssl.engine.checkpoint import checkpoints_of, save_checkpoint
from medssl.engine.guards import CollapseWatch, DistillationWatch, NonFiniteLossError, StarvationWatch, save_batch
from medssl.engine.held_out import BESIDE, CHANCE, HELD_OUT, probe_line
from medssl.engine.meters import Clock, Meters, Report
from medssl.engine.pictures import draw_progress, draw_views
from medssl.engine.run import Run, read_metrics
from medssl.engine.train_settings import TrainSettings
from medssl.methods.contract import Method
from medssl.randomness import Stream

__all__ = ["Loader", "Reporter"]

_DRAW_EVERY_S = 60.0  # drawing takes a second or so: too much for every checkpoint of a quick run


class Loader(Protocol):
    """What the loop wants of a loader; `medssl.step_loader.StepLoader` is one."""

    @property
    def numbers(self) -> int:
        """How many numbers ``item`` of a batch takes."""
        ...

    def batches(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Yield this rank's batches of the steps, each a pure function of (seed, step)."""
        ...


class Reporter:
    """Everything that happens at a report or a checkpoint.

    Args:
        fabric: The ranks.
        method: What is trained.
        run: Its folder.
        settings: How it is trained.
        held_out: Batches for ``method.probe``.
        probe: Measures more of the method at a probe; what it calls "chance/NAME" and "handmade/NAME" stands beside its
            NAME.
        scans: Ids of the scans by row of the store.
        channels: Names of the channels of images.
        on_report: Told every report, on the first rank.
    """

    def __init__(
        self,
        *,
        fabric: Fabric,
        method: Method,
        run: Run,
        settings: TrainSettings,
        held_out: Sequence[Batch],
        probe: Callable[[Method], Mapping[str, float]] | None,
        scans: Sequence[str],
        channels: Sequence[str],
        on_report: Callable[[Report], None],
    ) -> None:
        self.fabric, self.method, self.run, self.settings = fabric, method, run, settings
        self._held_out, self._probe, self._scans, self._on_report = held_out, probe, scans, on_report
        self._channels = channels
        self._drawn = -math.inf
        self._watches: list[CollapseWatch | DistillationWatch | StarvationWatch] = [
            CollapseWatch(settings),
            DistillationWatch(settings),
            StarvationWatch(settings),
        ]
        self._first: Mapping[str, float] = {}

    def show_views(self, views: Any) -> None:
        """Draw views.png on the first rank; all make the pictures, since a norm over all processes asks every one."""
        if self.run.writes or self.fabric.world_size > 1:
            with torch.no_grad():
                pictures = self.method.pictures(views)
            if self.run.writes:
                draw_views(pictures, self.run.folder / "views.png", self._channels)

    def begin(self, start: int) -> None:
        """Probe the held-out windows before the first step, so that training is seen beside no training."""
        if not self._held_out:
            return
        if start:
            rows = read_metrics(self.run.folder) if self.run.writes else []
            self._first = next((row for row in rows if row.get("step") == 0), {})  # runs of earlier releases have none
            return
        self._first = {name: value for name, value in self.probe().items() if math.isfinite(value)}
        self.run.record(0, self._first | {"time": round(time.time(), 3)})
        if told := probe_line(0, self._first, self._first):
            self.run.say(told)

    def report(self, done: int, meters: Meters, clock: Clock, rates: Mapping[str, float], loader: Loader) -> None:
        """Read the meters, check them, probe the held-out windows when due, and write a row.

        Raises:
            NonFiniteLossError: A step since the last report had a loss or gradient that is NaN or infinite.
        """
        means, first_bad = meters.read(self.fabric)
        if first_bad is not None:
            self._give_up(first_bad, own=meters.own_bad_step, loader=loader)
        data_wait, seconds = clock.read()
        values = {**means, **rates}
        if self._held_out and (done % self.settings.probe_every == 0 or done == self.settings.steps):
            values |= (found := self.probe())
            if told := probe_line(done, found, self._first):
                (self.run.say if done == self.settings.steps else self.run.log)(told)
        memory = 0.0
        if self.fabric.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self.fabric.device) / 2**30
        report = Report(
            step=done,
            steps=self.settings.steps,
            values=values,
            data_wait=data_wait,
            seconds_per_step=seconds,
            memory_gib=memory,
        )
        row = {**values, "data_wait": data_wait, "seconds_per_step": seconds, "time": round(time.time(), 3)}
        self.run.record(done, row | ({"memory_gib": memory} if memory else {}))
        for text in (text for watch in self._watches for text in watch.look(report)):
            self.run.warn(text)
        if self.run.writes:
            self._on_report(report)
        clock.read()  # the time that the report took belongs to no step

    @torch.no_grad()
    def probe(self) -> dict[str, float]:
        """Return the method's signals on the held-out windows, named ``held_out/NAME``, averaged over windows.

        Beside them stands, as ``chance/NAME``, what they are worth to whoever knows nothing of the windows. Every rank
        does the same work, and the views are the same at every probe.
        """
        sums: dict[str, torch.Tensor] = {}
        count = 0
        with _evaluating(self.method):
            for index, batch in enumerate(self._held_out):
                # Negative steps are never trained on, so their streams are free.
                stream = Stream(self.settings.seed, -1 - index, batch.slot.tolist())
                views = self.method.views(batch.to(self.fabric.device), stream)
                torch.manual_seed(self.settings.seed)
                with self.fabric.autocast():
                    found = {f"{HELD_OUT}{name}": value for name, value in self.method.probe(views).items()}
                    guessed = {f"{CHANCE}{name}": value for name, value in self.method.chance(views).items()}
                for name, value in (found | guessed).items():
                    scaled = value.detach().float() * len(batch)
                    sums[name] = sums[name] + scaled if name in sums else scaled
                count += len(batch)
            more = self._probe(self.method) if self._probe is not None else {}
        return {name: float(total) / count for name, total in sums.items()} | {
            name if name.startswith(BESIDE) else f"{HELD_OUT}{name}": value for name, value in more.items()
        }

    def save(self, done: int) -> None:
        """Write a checkpoint on the first rank while the others wait; draw progress.png at the end and now and then."""
        if self.run.writes:
            folder = save_checkpoint(
                self.run.checkpoints,
                step=done,
                model=self.method.state_dict(),
                optimizer=self._optimizer_state(),
                state={
                    "steps": self.settings.steps,
                    "seed": self.settings.seed,
                    "world_size": self.fabric.world_size,
                    "channels": list(self._channels),
                },
                keep_last=self.settings.keep_last,
            )
            self.run.log(f"checkpoint {folder.name}")
            if done == self.settings.steps or time.monotonic() - self._drawn >= _DRAW_EVERY_S:
                draw_progress(read_metrics(self.run.folder), self.run.folder / "progress.png")
                self._drawn = time.monotonic()
        self.fabric.barrier()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Name the optimiser whose state is saved."""
        self._optimizer_state = optimizer.state_dict

    def _give_up(self, step: int, *, own: int | None, loader: Loader) -> None:
        """Make the batch of a bad step again, save it, and raise."""
        batch = next(iter(loader.batches(step, step + 1)))
        rows = batch.item.tolist()
        scans = [self._scans[row] if row < len(self._scans) else f"row {row}" for row in rows]
        path = None
        if own == step:
            name = f"bad-step-{step:07d}-rank{self.fabric.global_rank}.pt"
            path = save_batch(batch, scans, self.run.folder / name)
        kept = checkpoints_of(self.run.checkpoints)
        error = NonFiniteLossError(step, scans=scans, batch=path, checkpoint=kept[0] if kept else None)
        self.run.log(f"error: {error}")
        self.run.close()
        raise error


@contextmanager
def _evaluating(method: nn.Module) -> Iterator[None]:
    """Put a module and all in it in evaluation mode, and afterwards each back in the mode that it had."""
    modes = {module: module.training for module in method.modules()}
    method.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
