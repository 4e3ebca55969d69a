"""The verb ``pretrain``: from a store of scans or clouds to an encoder, its card and the record of how it was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from medssl.domains.domain import domain_of_card
from medssl.encoders.contract import Encoder
from medssl.encoders.table import ENCODERS
from medssl.engine.card import Card, load_card, load_weights, save_encoder
from medssl.engine.launch import launch, launcher_words, on_first_rank
from medssl.engine.loop import Interrupted, check_processes, fit
from medssl.engine.meters import Report
from medssl.engine.origins import keep_origin, kept_origin
from medssl.engine.result import RunResult
from medssl.engine.run import AS_BEGUN, Run, differences, recorded_settings
from medssl.engine.trial import StepTime
from medssl.errors import CheckpointError, ConfigError
from medssl.locking import holds
from medssl.methods.contract import Method
from medssl.methods.former import former_settings
from medssl.quoting import quoted
from medssl.randomness import Stream, numpy_generator
from medssl.reporting.prose import counted_of
from medssl.settings import Resolved, flatten, load_yaml
from pipelines import console
from pipelines.load import load
from pipelines.plan_end import left_off, whole_plan
from pipelines.plan_time import fewer_steps, free_beside, small_preset, time_lines
from pipelines.pretrain_clouds import Clouds
from pipelines.pretrain_kind import Chosen, Kind, choose_items
from pipelines.pretrain_scans import Scans
from pipelines.pretrain_settings import PretrainSettings, resolved_settings
from pipelines.start_encoder import with_encoder_of
from pipelines.store_channels import start_channels

__all__ = ["PretrainSettings", "build", "pretrain", "screen_note"]

_INITIAL = 6  # a counter that keeps these draws apart from all others


@holds("medssl pretrain", lambda given: Path(given["out"]))
def pretrain(
    preset: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    overrides: Sequence[str] = (),
    method: str | None = None,
    devices: int | str | None = None,
    resume: bool = False,
    finish: bool = False,
    init_from: str | Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> RunResult:
    """Pretrain an encoder on the scans of a store, or with a method for clouds on its clouds.

    Args:
        preset: A preset's name, a YAML file, or a method's name.
        data: The store, a folder that ``cache`` wrote; else ``data.store`` of the preset.
        out: The run's folder.
        overrides: ``key=value`` settings, such as ``train.steps=500``.
        method: A method's name, where no preset is given.
        devices: Processes on this machine; sets ``train.devices``.
        resume: Go on with the run in ``out``; without a preset, a method and data, with the settings it was given.
        finish: Close the run in ``out`` at the step that it reached: write its encoder and card, train no more.
        init_from: A run whose encoder's weights this one starts from.
        overwrite: Move what is in ``out`` aside.
        dry_run: Say what would be done; write nothing.

    Returns:
        The run.

    Raises:
        ConfigError: Settings are wrong; or ``out`` is not empty; or a resumed run's settings differ.
        CacheError, DataError: The store cannot be read, or holds nothing to train on.
        CheckpointError: What to resume or start from is not there, or does not fit.
        Interrupted: The run was told to stop; it left a checkpoint and the process should exit with 130.
    """
    out = Path(out)
    resume = resume or finish
    if resume and (overwrite or init_from):
        raise ConfigError("--resume goes on with a run as it is: it allows neither --overwrite nor --init-from.")
    if resume and preset is None and method is None:
        preset = recorded_settings(out)
    asked = resolved_settings(preset, method=method, data=data, devices=devices, overrides=overrides)
    asked = _as_begun(asked, out) if resume else asked
    asked = with_encoder_of(asked, Path(init_from)) if init_from else asked
    resolved, until = whole_plan(asked, out, resume=resume)
    settings = resolved.settings
    kind = Clouds(settings) if settings.of_clouds else Scans(settings)
    store = kind.open()
    resolved = kind.fitted(resolved, store)
    settings = resolved.settings
    chosen = choose_items(store, settings.data, seed=settings.train.seed, noun=kind.noun)
    start = Path(init_from) if init_from else None
    chosen = kind.as_input(chosen, start=start, resumed=out if resume else None)
    network = build(kind, init_from=start)
    kind.shown(network, chosen.train)
    here = getattr(store, "channels", ())  # clouds have none
    started = [] if start is None else _start_lines(start, here, chosen)
    if dry_run:
        lines = _plan_lines(resolved, kind, chosen, network, out, world_size=None)
        for line in [*lines, *started, *_time_lines(resolved, kind, chosen, network, preset or method, out, None)]:
            console.say(line)
        console.say(_tried(kind, chosen, network))
        console.done(None, "")
        return RunResult(out, read=load)

    fabric = launch(settings.train)
    check_processes(network, fabric.world_size)
    run = on_first_rank(fabric, lambda: _open_run(out, resolved, kind, chosen, resume=resume, overwrite=overwrite))
    run = run or Run(out, writes=False)
    keep_origin(run, start)
    if run.writes:
        for line in [*_plan_lines(resolved, kind, chosen, network, out, world_size=fabric.world_size), *started]:
            run.say(line)
        _doubt_frozen(run, settings, network, fresh=not (init_from or resume))
        reached = left_off(run.checkpoints, resume=resume, finish=finish)
        named = preset or method
        for line in _time_lines(resolved, kind, chosen, network, named, out, fabric, done=reached, until=until):
            run.say(line)
    loader = kind.loader(chosen.train, network.plan, fabric)
    probes = kind.held_out(chosen.held_out, network.plan) if chosen.held_out is not None else []
    shown = console.progress(until or settings.train.steps, "step") if run.writes else nullcontext()
    with shown as bar:
        try:
            done = fit(
                network,
                loader,
                settings.train,
                run=run,
                fabric=fabric,
                held_out=probes,
                probe=kind.probe(chosen, network.plan),
                scans=[entry.id for entry in chosen.train.entries],
                channels=here,
                resume=resume,
                finish=finish,
                until=until,
                on_report=lambda report: bar.reach(report.step, screen_note(report)) if bar else None,
            )
        except Interrupted as stop:
            if run.writes:
                run.say(f"stopped at step {stop.step:,}; checkpoint {stop.checkpoint}")
                run.say(f"go on with: {_command(asked, preset or method, out)} --resume")
                run.say(f"or close it at this step with: medssl pretrain --out {quoted(out)} --finish")
            raise
    if run.writes:
        card = kind.card(chosen, network).model_copy(update={"steps": done, "origin": kept_origin(out)})
        others = {name: module for name, module in network.exported_modules().items() if name != "encoder"}
        written = save_encoder(network.encoder, card, out, others=others)
        pictures = [path for name in ("progress.png", "views.png") if (path := out / name).exists()]
        pictures += kind.pictures(network, probes, out)
        _close([*written, *pictures], str(out), *kind.next_command(str(out), store.entries, network.plan))
    fabric.barrier()
    return RunResult(out, read=load)


def _doubt_frozen(run: Run, settings: PretrainSettings, network: Method, *, fresh: bool) -> None:
    if fresh and not any(p.requires_grad for p in network.encoder.parameters()):
        run.say(
            f"doubtful: {settings.method.name} freezes the encoder, and its weights are random. Start from a "
            "pretrained one with --init-from RUN."
        )


def _close(written: Sequence[Path], out: str, command: str, later: str) -> None:
    console.done(written, command, run=out)
    if later:
        console.say(later)


_TRIED = 5_000_000  # parameters of an encoder up to which a dry run takes the first step; it then lasts a second or two


def _tried(kind: Kind, chosen: Chosen, method: Method) -> str:
    """Read the first batch and cut its views; where the encoder is small, take the first step on two items of it.

    Raises:
        ConfigError: The step fails.
        CacheError: The store cannot be read.
    """
    seed = kind.settings.train.seed
    batch = next(iter(kind.loader(chosen.train, method.plan, Fabric(accelerator="cpu", devices=1)).batches(0, 1)))
    starts = [*batch.starts(), len(batch)]
    rows = batch.rows(0, starts[min(2, len(starts) - 1)])
    if sum(p.numel() for p in method.encoder.parameters()) > _TRIED:
        return f"tried: the first batch, {len(batch)} rows, can be read; sizes of its views fit the encoder"
    try:
        with torch.no_grad():
            losses = method(method.views(rows, Stream(seed, 0, rows.slot.tolist())), 0.0)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"The first step fails: {error}") from error
    loss = float(losses.total)
    return f"tried: the first batch can be read, and its first step runs (loss {loss:.3g} of {len(rows)} rows)"


def screen_note(report: Report) -> str:
    """Return the line that the screen shows beside the step: loss, signals, learning rate, data wait, memory."""
    values = report.values
    parts = [f"loss {values['loss']:.3g}"]
    parts += [f"{name} {values[key]:.3g}" for name in ("spread", "dice") if (key := f"signal/{name}") in values]
    parts += [f"lr {values['lr']:.1e}".replace("e-0", "e-"), f"data-wait {report.data_wait:.0%}"]
    if report.memory_gib:
        parts.append(f"{report.memory_gib:.1f} GiB")
    return " | ".join(parts)


def _start_lines(start: Path, here: Sequence[str], chosen: Chosen) -> list[str]:
    """Return which weights the run starts from, and how its data differ from what those were trained on.

    Args:
        start: The run whose weights are taken.
        here: Channels of the store; none of clouds.
        chosen: What is trained on, as the network's input.
    """
    card = load_card(start)
    doubt = start_channels(card, here, run=start) if here else ""
    return [f"encoder weights from {start}{doubt}", *domain_of_card(card).doubts(card, chosen.train.entries)]


def build(kind: Kind, *, init_from: Path | None) -> Method:
    """Build the method; weights to start from go into the encoder first, so that a teacher copies them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(kind.settings.train.seed, 0, 0, _INITIAL).integers(1 << 62)))
        encoder = kind.encoder()
        if init_from is not None:
            wanted = kind.settings.encoder.model_dump(mode="json")
            card = load_card(init_from)
            theirs = _as_now(card)
            if isinstance(encoder, Encoder):  # 'follow' says no number
                wanted["in_channels"], theirs["in_channels"] = encoder.in_channels, card.in_channels
            if "attention" not in (wanted.get("pool"), theirs.get("pool")):
                wanted.pop("pool", None)  # the others have no weights, so that one may be changed for another
                theirs.pop("pool", None)
            changed = differences(theirs, wanted)
            if changed:
                listed = ", ".join(f"{key}: {theirs} there, {ours} here" for key, theirs, ours in changed)
                raise CheckpointError(f"{init_from}: its encoder is another than this run's ({listed}).")
            try:
                encoder.load_state_dict(load_weights(init_from), strict=True)
            except RuntimeError as error:
                raise CheckpointError(f"{init_from}: its weights do not fit this run's encoder. {error}") from error
        try:
            method = kind.method(encoder)
            method.check()
        except ValueError as error:
            raise ConfigError(f"The method and the encoder do not fit each other: {error}") from error
        return method


def _as_now(card: Card) -> dict[str, Any]:
    """Return the encoder's settings on a card, with what later releases may say besides, which is what it did then."""
    if card.kind != "volume":
        return dict(card.encoder)
    return {
        **ENCODERS.settings_of(card.encoder).model_dump(mode="json"),
        "in_channels": card.encoder.get("in_channels"),
    }


def _as_begun(resolved: Resolved[PretrainSettings], out: Path) -> Resolved[PretrainSettings]:
    """Return settings with what the method did when the run was begun, where a later release does something else."""
    recorded = load_yaml(recorded_settings(out))
    former = former_settings(recorded.get("method") or {})
    for key, value in former.items():
        resolved = resolved.with_auto(f"method.{key}", value, AS_BEGUN)
    if former:
        said = ", ".join(f"method.{key}={json.dumps(value)}" for key, value in former.items())
        console.say(f"an earlier release began this run: it goes on as it was begun, with {said}")
    return resolved


def _open_run(
    out: Path, resolved: Resolved[PretrainSettings], kind: Kind, chosen: Chosen, *, resume: bool, overwrite: bool
) -> Run:
    if resume:
        run = Run.reopen(out, settings=resolved, say=console.say)
    else:
        run = Run.create(out, settings=resolved, overwrite=overwrite, say=console.say)
    kind.record(run, chosen)  # again where it is resumed: it may have stopped before
    return run


def _plan_lines(
    resolved: Resolved[PretrainSettings],
    kind: Kind,
    chosen: Chosen,
    method: Method,
    out: Path,
    *,
    world_size: int | None,
) -> list[str]:
    """Return what the user wants to know before a long run starts."""
    settings = resolved.settings
    train = settings.train
    presets = sorted({o for o in resolved.origins.values() if o.startswith(("preset ", "file "))})
    entries = chosen.train.entries
    patients = len({e.patient or e.id for e in entries})
    held = f"{len(chosen.held_out)} held out for probes" if chosen.held_out is not None else "none held out"
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    of_encoder = sum(p.numel() for p in method.encoder.parameters() if p.requires_grad)
    count, things = kind.things(chosen.train, method.plan)
    epochs = train.steps * train.batch_size / count
    processes = f" on {world_size} processes" if world_size and world_size > 1 else ""
    return [
        f"settings: {', '.join(presets) or 'defaults'}",
        f"store: {settings.data.store}: {counted_of(len(entries), kind.noun.removesuffix('s'), patients)} "
        f"({kind.data_words(chosen.train)}); {held}",
        f"method: {settings.method.name}; encoder: {settings.encoder.name}, "
        + (
            f"{of_encoder:,} of {trained:,} trained parameters"
            if of_encoder
            else f"frozen; {trained:,} parameters train"
        ),
        f"plan: {train.steps:,} steps of {train.batch_size} {kind.window_words(method.plan)}{processes}, "
        f"{epochs:,.1f} times through the {things}; into {out}",
        *kind.doubts(chosen.train, method.plan),
    ]


def _time_lines(
    resolved: Resolved[PretrainSettings],
    kind: Kind,
    chosen: Chosen,
    method: Method,
    preset: str | Path | None,
    out: Path,
    fabric: Fabric | None,
    *,
    done: int | None = 0,
    until: int | None = None,
) -> list[str]:
    """Return what is said of the time that the plan takes here; nothing where no step is left to train."""
    train = resolved.settings.train
    aside = free_beside(out)

    def smaller(step: StepTime) -> str:
        small = small_preset("pretrain", resolved.settings.method.name, list(resolved.origins.values()))
        if small:
            return _command(resolved, small, aside, only=("data.", "train.seed"))
        return _command(resolved, preset, aside, changed={"train.steps": fewer_steps(step)})

    return time_lines(
        method,
        lambda: kind.loader(chosen.train, method.plan, fabric or launch(train)),
        train,
        done=done,
        until=until,
        by_default=resolved.origins.get("train.steps") == "default",
        smaller=smaller,
    )


def _command(
    resolved: Resolved[PretrainSettings],
    preset: str | Path | None,
    out: Path,
    *,
    only: tuple[str, ...] = ("",),
    changed: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that makes this run, with the settings that it was given.

    Args:
        resolved: The settings.
        preset: What was named first.
        out: The run.
        only: Beginnings of the settings that are kept.
        changed: Settings that are to be others.
    """
    leaves = flatten(resolved.settings)
    named = {"data.store": "--data", "train.devices": "--devices"}
    given = {key: leaves[key] for key, origin in resolved.origins.items() if origin == "command line"}
    given = {key: value for key, value in given.items() if key.startswith(only) and key != "method.name"}
    words = [*launcher_words(), "pretrain", str(preset)]
    for key, value in {**given, **(changed or {})}.items():
        if key not in named:
            words.append(f"{key}={'null' if value is None else list(value) if isinstance(value, tuple) else value}")
    words += ["--data", str(leaves["data.store"])]
    if "train.devices" in given:
        words += ["--devices", str(leaves["train.devices"])]
    return shlex.join([*words, "--out", str(out)])
