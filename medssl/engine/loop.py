"""The training loop: the one place where data, a method, an optimiser and a run's folder meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from medssl.batch import Batch
from medssl.encoders.contract import lay_channels_last
from medssl.engine.accumulation import Part, check_parts, differs, parts_of
from medssl.engine.checkpoint import checkpoints_of, load_latest
from medssl.engine.launch import launch, peers, stop_signals
from medssl.engine.meters import Clock, Meters, Pace, Report
from medssl.engine.optimiser import build_optimiser, set_learning_rates, set_weight_decay
from medssl.engine.reporter import Loader, Reporter
from medssl.engine.run import Run
from medssl.engine.schedules import learning_rates, weight_decays
from medssl.engine.train_settings import TrainSettings
from medssl.errors import CheckpointError, ConfigError
from medssl.methods.contract import Method
from medssl.quoting import quoted
from medssl.randomness import numpy_generator
from medssl.synchronised_norm import synchronise_norms

__all__ = ["Interrupted", "Loader", "check_processes", "fit"]

_TORCH = 4  # a counter that keeps these draws apart from those of the views and of the loader


class Interrupted(SystemExit):
    """The run was told to stop (SIGTERM or SIGINT) and left a checkpoint. Unhandled, the process exits with 130."""

    def __init__(self, step: int, checkpoint: Path | None) -> None:
        super().__init__(130)
        self.step, self.checkpoint = step, checkpoint


def fit(
    method: Method,
    loader: Loader,
    settings: TrainSettings,
    *,
    run: Run,
    fabric: Fabric | None = None,
    held_out: Sequence[Batch] = (),
    probe: Callable[[Method], Mapping[str, float]] | None = None,
    scans: Sequence[str] = (),
    channels: Sequence[str] = (),
    resume: bool = False,
    finish: bool = False,
    until: int | None = None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> int:
    """Train ``method`` in place, to the last step; return the number of steps that it has trained.

    A run that is killed and resumed ends with the weights (on a CPU bit for bit) of one that never was: batches,
    views, dropout and learning rates are pure functions of the step, and all other state is in the checkpoint.

    Several processes train what one does, but for the rounding of sums: losses, statistics and batch norms are of the
    whole batch on each (`medssl.gathering`). Dropout alone draws other numbers in each process.

    Args:
        method: What is trained.
        loader: This rank's batches.
        settings: How.
        run: Its folder; ranks other than the first hold one that does not write.
        fabric: From `launch`; made here when None. A caller whose loader depends on the rank launches first.
        held_out: Batches for ``method.probe``, the same at every probe.
        probe: Measures more of the method at every probe, in evaluation mode and without gradients; what it names
            "chance/NAME" is what NAME is worth to whoever knows nothing, "handmade/NAME" to features without training.
        scans: The ids of scans or clouds by row of the store, for messages.
        channels: Names of the channels of images, for pictures.
        resume: Go on from the newest whole checkpoint of ``run``, or from the start where there is none yet.
        finish: Take what the newest whole checkpoint of ``run`` holds as the end, and train no more.
        until: Close the run at this step, or at the one that it reached where that is later; the schedule stays that
            of ``settings.steps``.
        on_report: Told every ``log_every`` steps, on the first rank.

    Raises:
        Interrupted: SIGTERM or SIGINT came; a checkpoint was written.
        NonFiniteLossError: The loss or its gradient became NaN or infinite.
        CheckpointError: The checkpoint does not belong to this method; or there is none to finish with.
        ConfigError: A process has fewer items than the batch is to have parts, or the method trains with one process
            alone.
    """
    fabric = fabric or launch(settings, method)
    check_processes(method, fabric.world_size)
    device = fabric.device
    method.begin(loader.numbers)
    method = _on_device(method, settings, fabric)
    if settings.compile and run.writes:
        run.say("train.compile: the first step compiles the encoder, which takes a minute or more")
    optimizer = build_optimiser(method, settings)
    start = _restore(method, optimizer, run, fabric, channels) if resume or finish else 0
    last = settings.steps if until is None else min(until, settings.steps)
    if finish or (start >= last and last < settings.steps):
        return _closed(start, settings, run)
    module, stepper = fabric.setup(_Step(method), optimizer)
    module.train()
    _tell(method, settings, run, fabric)

    rates, decays = learning_rates(settings), weight_decays(settings)
    meters, clock, pace = Meters(device), Clock(), Pace(device)
    reporter = Reporter(
        fabric=fabric,
        method=method,
        run=run,
        settings=settings,
        held_out=held_out,
        probe=probe,
        scans=scans,
        channels=channels,
        on_report=on_report,
    )
    reporter.attach(optimizer)
    reporter.begin(start)
    clock.read()  # the time of that probe belongs to no step
    batches = loader.batches(start, last)
    cuts = settings.accumulate

    with stop_signals() as told_to_stop, peers(fabric):
        for step in range(start, last):
            torch.manual_seed(int(numpy_generator(settings.seed, step, fabric.global_rank, _TORCH).integers(1 << 62)))
            progress = step / settings.steps
            rate = set_learning_rates(optimizer, rates, step)
            set_weight_decay(optimizer, float(decays[step]))

            pace.wait()
            with clock.waiting():
                batch = next(batches)
            if step == start and cuts > 1:
                check_parts(batch, cuts, fabric)

            parts = parts_of(method, batch, cuts, seed=settings.seed, step=step, device=device)
            for index, part in enumerate(parts):
                if step == 0 and index == 0:
                    reporter.show_views(part.views)
                with _without_sync(fabric, module, unless=index == cuts - 1):
                    total, values = module(_Sealed(part), progress)
                    fabric.backward(total)
                meters.add(values, weight=1 / cuts)
                meters.add({"loss": total.detach() * cuts}, weight=1 / cuts)
                meters.watch(step, total)

            norm = fabric.clip_gradients(module, stepper, max_norm=settings.clip or math.inf, error_if_nonfinite=False)
            meters.add({"grad_norm": norm})
            meters.watch(step, norm)
            stepper.step()
            stepper.zero_grad(set_to_none=True)
            done = step + 1
            method.after_step(done / settings.steps)
            pace.mark()
            clock.stepped()

            stopping = told_to_stop(fabric, done)
            saves = stopping or done == last or done % settings.checkpoint_every == 0
            if saves or done % settings.log_every == 0 or done % settings.probe_every == 0:
                reporter.report(done, meters, clock, rate, loader)
            if saves:
                reporter.save(done)
            if stopping and done < last:
                run.close()
                raise Interrupted(done, next(iter(checkpoints_of(run.checkpoints)), None))
    if last < settings.steps:
        return _closed(last, settings, run)
    run.close()
    return settings.steps


def check_processes(method: Method, world_size: int) -> None:
    """See that so many processes train a method as one does.

    Raises:
        ConfigError: They do not; the message says why, and what to do.
    """
    if world_size > 1 and method.alone:
        raise ConfigError(f"{_counted(world_size)} would not train what one does: {method.alone}")


class _Sealed:
    """Views on their way through Fabric and DDP, which would else take them apart and copy them."""

    def __init__(self, part: Part) -> None:
        self.part = part


class _Step(nn.Module):
    """A method as DDP wants it: a forward pass that returns plain tensors."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, sealed: _Sealed, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self.method(sealed.part.views, progress)
        values = {f"part/{name}": value for name, value in losses.parts.items()}
        values |= {f"signal/{name}": value for name, value in losses.signals.items()}
        return sealed.part.weighed(losses), values


def _on_device(method: Method, settings: TrainSettings, fabric: Fabric) -> Method:
    """Move the method to the device, lay its kernels out channels last, compile its encoders."""
    if fabric.world_size > 1:
        synchronise_norms(method, fabric.device.type)
    method.to(fabric.device)
    if settings.channels_last:
        lay_channels_last(method)
    if settings.compile:
        for module in method.modules():
            if getattr(module, "compiles", False):  # an encoder, or the part of one that methods call
                module.compile()
    return method


def _tell(method: Method, settings: TrainSettings, run: Run, fabric: Fabric) -> None:
    """Say where the steps are not those of one process with the whole batch at once."""
    if settings.accumulate > 1 and run.writes:
        why = differs(method)
        outcome = f"not quite the step of the whole batch: {why}" if why else "the step of the whole batch"
        run.say(f"train.accumulate: {settings.accumulate} parts a batch, {outcome}")
    if fabric.world_size > 1 and run.writes and _drops(method):
        run.say(f"{fabric.world_size} processes: each draws its own dropout; all else is as in one process")


def _drops(method: Method) -> bool:
    """Return whether anything in a method is left out at random while training."""
    for module in method.modules():
        rates = [getattr(module, name, 0.0) for name in ("drop_path", "drop_prob")]
        rates += [module.p] if isinstance(module, _DropoutNd) else []
        rates += [getattr(getattr(module, "settings", None), "feature_dropout", 0.0)]
        if any(isinstance(rate, float) and rate > 0.0 for rate in rates):
            return True
    return False


def _restore(
    method: Method, optimizer: torch.optim.Optimizer, run: Run, fabric: Fabric, channels: Sequence[str]
) -> int:
    """Load the newest whole checkpoint into the method and the optimiser; return the steps that are done.

    Any number of processes may go on with a run: they train the same, so it is said and no more.
    """
    if not checkpoints_of(run.checkpoints):
        run.rewind(-1)
        run.say("no checkpoint yet: starting from the first step")
        return 0
    checkpoint = load_latest(run.checkpoints, warn=run.warn)
    known = tuple(checkpoint.state.get("channels", ()))  # empty in checkpoints of earlier releases
    if len(known) > 1 and known != tuple(channels):
        raise CheckpointError(
            f"{checkpoint.folder}: it was trained on the channels {', '.join(known)}, and the store now has "
            f"{', '.join(channels)}. Resume on a store of the same channels in the same order, which medssl cache "
            f"writes with {quoted('channels=' + ','.join(known))}."
        )
    try:
        method.load_state_dict(checkpoint.model, strict=True)
        optimizer.load_state_dict(checkpoint.optimizer)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{checkpoint.folder}: it belongs to another method or encoder. {error}") from error
    run.rewind(checkpoint.step)
    run.say(f"resumed from {checkpoint.folder}")
    before = checkpoint.state.get("world_size", fabric.world_size)
    if before != fabric.world_size:
        run.say(
            f"going on with {_counted(fabric.world_size)} in place of {_counted(before)}: the same batches "
            "and steps, equal but for rounding (and dropout)"
        )
    return checkpoint.step


def _closed(done: int, settings: TrainSettings, run: Run) -> int:
    """Say at which step a run is closed, and return it.

    Raises:
        CheckpointError: It has no checkpoint.
    """
    if done == 0:
        raise CheckpointError(
            f"{run.folder}: no step of this run was kept, so there is nothing to finish with. Continue with --resume."
        )
    if done < settings.steps:
        share = float(learning_rates(settings).rest[done] / settings.lr) if settings.lr else 0.0
        run.say(
            f"closed at step {done:,} of {settings.steps:,}; the learning rate stood at {share:.0%} of its peak, so a "
            "run planned for that many steps may do better. --resume can still continue from here"
        )
    run.close()
    return done


def _counted(processes: int) -> str:
    return f"{processes} process{'es' * (processes != 1)}"


def _without_sync(fabric: Fabric, module: nn.Module, *, unless: bool) -> AbstractContextManager[Any]:
    """Let DDP leave gradients unshared, for all parts of a batch but the last."""
    if unless or fabric.world_size == 1:
        return nullcontext()
    found: AbstractContextManager[Any] = fabric.no_backward_sync(module)
    return found
