"""The verb ``pretrain``: from a store to an encoder, its card and the record of how it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from medssl.domains.choosing import Chosen, choose_items, data_facts
from medssl.domains.domain import domain_of_card, store_for
from medssl.domains.groups import group_lines, keep_groups
from medssl.domains.kept_tables import keep_tables
from medssl.domains.training import Trained
from medssl.encoders.contract import Encoder
from medssl.engine.card import Card, load_card, load_weights, save_encoder
from medssl.engine.launch import launch, on_first_rank
from medssl.engine.loop import Interrupted, check_processes, fit
from medssl.engine.meters import Report
from medssl.engine.origins import keep_origin, kept_origin
from medssl.engine.run import AS_BEGUN, Run, begins_here, differences, recorded_settings
from medssl.errors import CheckpointError, ConfigError
from medssl.locking import holds
from medssl.methods.contract import Method
from medssl.methods.former import former_settings
from medssl.quoting import quoted
from medssl.randomness import Stream, numpy_generator
from medssl.settings import Resolved, load_yaml
from medssl.workflows import events
from medssl.workflows.load import load
from medssl.workflows.plan_end import left_off, whole_plan
from medssl.workflows.pretrain_plan import loader_of, plan_lines, plan_time_lines, pretrain_command
from medssl.workflows.pretrain_settings import PretrainSettings, resolved_settings
from medssl.workflows.run_result import RunResult
from medssl.workflows.start_encoder import with_encoder_of
from medssl.workflows.taking import takes_places
from medssl.writing import folder_for

__all__ = ["PretrainSettings", "as_input", "build", "pretrain", "screen_note"]

_OF_TRAINING = ("checkpointing", "drop_path", "statistics")  # of an encoder: how it trains, and nothing else
_INITIAL = 6  # a counter that keeps these draws apart from all others


@takes_places
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
        method: A method's name, if no preset is given.
        devices: Processes on this machine; sets ``train.devices``.
        resume: Continue the run in ``out``, or start it if a preset or method is given and there is no run yet;
            without a preset, a method and data, with the settings it was given.
        finish: End the run in ``out`` at the step that it reached: write its encoder and card, train no more.
        init_from: A run whose encoder's weights this one starts from.
        overwrite: Move what is in ``out`` aside.
        dry_run: Only say what would be done.

    Returns:
        The run.

    Raises:
        ConfigError: Settings are wrong; or ``out`` is not empty; or a resumed run's settings differ.
        CacheError, DataError: The store cannot be read, or holds nothing to train on.
        CheckpointError: What to resume or start from is not there, or does not fit.
        Interrupted: The run was told to stop; it left a checkpoint and the process should exit with 130.
    """
    out = folder_for(out)
    resume = resume or finish
    given = preset is not None or method is not None
    if resume and not (finish or overwrite) and given and begins_here(out):  # a job is put in the queue again as it is
        resume = False
        events.message(f"{out}: no run here yet; starting a new one")
    if resume and (overwrite or init_from):
        raise ConfigError("--resume continues a run as it is: it allows neither --overwrite nor --init-from.")
    if resume and preset is None and method is None:
        preset = recorded_settings(out)
    asked = resolved_settings(preset, method=method, data=data, devices=devices, overrides=overrides)
    asked = _as_begun(asked, out) if resume else asked
    asked = with_encoder_of(asked, Path(init_from)) if init_from else asked
    resolved, until = whole_plan(asked, out, resume=resume)
    settings = resolved.settings
    domain = settings.domain
    store = store_for(
        domain,
        Path(settings.data.store),
        chosen=f"the method '{settings.method.name}'",
        instead=lambda held: (
            f"Take one for {held.noun}s, such as {next(iter(held.methods))}; see them with: medssl list methods"
        ),
    )
    training = domain.training
    resolved = training.fitted(resolved, store)
    settings = resolved.settings
    chosen = choose_items(store, settings.data, seed=settings.train.seed, noun=domain.noun)
    start = Path(init_from) if init_from else None
    chosen = as_input(chosen, store, settings, start=start, resumed=out if resume else None)
    network = build(settings, init_from=start)
    training.shown(network, chosen.train)
    started = group_lines(settings, chosen.train, getattr(network.plan, "count", 1))
    started += [] if start is None else _start_lines(start, store, chosen)
    if dry_run:
        _say_plan(resolved, chosen, network, preset or method, out, started)
        return events.written(RunResult(out, read=load))

    fabric = launch(settings.train, network)
    check_processes(network, fabric.world_size)
    run = on_first_rank(fabric, lambda: _open_run(out, resolved, chosen, resume=resume, overwrite=overwrite))
    run = run or Run(out, writes=False)
    keep_origin(run, start)
    if run.writes:
        for line in [*plan_lines(resolved, chosen, network, out, world_size=fabric.world_size), *started]:
            run.say(line)
        _doubt_frozen(run, settings, network, fresh=not (init_from or resume))
        reached = left_off(run.checkpoints, resume=resume, finish=finish)
        named = preset or method
        for line in plan_time_lines(resolved, chosen, network, named, out, fabric, done=reached, until=until):
            run.say(line)
    loader = loader_of(settings, chosen, network.plan, fabric)
    probes = training.held_out(chosen.held_out, network.plan, settings) if chosen.held_out is not None else []
    shown = events.progress(until or settings.train.steps, "step") if run.writes else nullcontext()
    with shown as bar:
        try:
            done = fit(
                network,
                loader,
                settings.train,
                run=run,
                fabric=fabric,
                held_out=probes,
                probe=training.probe(chosen, network.plan, settings),
                scans=[entry.id for entry in chosen.train.entries],
                channels=getattr(store, "channels", ()),  # clouds have none
                resume=resume,
                finish=finish,
                until=until,
                on_report=lambda report: bar.reach(report.step, screen_note(report)) if bar else None,
            )
        except Interrupted as stop:
            if run.writes:
                run.say(f"stopped at step {stop.step:,}; checkpoint {stop.checkpoint}")
                run.say(f"to continue: {pretrain_command(asked, preset or method, out)} --resume")
                run.say(f"or close it at this step with: medssl pretrain --out {quoted(out)} --finish")
            raise
    result = RunResult(out, read=load)
    if run.writes:
        card = _card(settings, chosen, network).model_copy(update={"steps": done, "origin": kept_origin(out)})
        others = {name: module for name, module in network.exported_modules().items() if name != "encoder"}
        written = save_encoder(network.encoder, card, out, others=others)
        pictures = [path for name in ("progress.png", "views.png") if (path := out / name).exists()]
        pictures += training.pictures(network, probes, out)
        following, later = training.following(str(out), store.entries, network.plan, settings)
        made = (*written, *pictures)
        result = events.written(RunResult(out, read=load, written=made, next=following, figures={"run": str(out)}))
        if later:
            events.message(later)
    fabric.barrier()
    return result


def _doubt_frozen(run: Run, settings: PretrainSettings, network: Method, *, fresh: bool) -> None:
    if fresh and not any(p.requires_grad for p in network.encoder.parameters()):
        run.say(
            f"doubtful: {settings.method.name} freezes the encoder, and its weights are random. Start from a "
            "pretrained one with --init-from RUN."
        )


def _say_plan(
    resolved: Resolved[PretrainSettings],
    chosen: Chosen[Any],
    network: Method,
    named: str | Path | None,
    out: Path,
    started: Sequence[str],
) -> None:
    """Say what a run would do, and try its first step: once, be it for the time that it takes or by itself."""
    steps: list[Any] = []
    lines = plan_lines(resolved, chosen, network, out, world_size=None)
    times = plan_time_lines(resolved, chosen, network, named, out, None, tried=steps.append)
    for line in [*lines, *started, *times]:
        events.message(line)
    if not steps:
        events.message(_tried(resolved.settings, chosen, network))


_TRIED = 5_000_000  # parameters of an encoder up to which a dry run takes the first step; it then lasts a second or two


def _tried(settings: PretrainSettings, chosen: Chosen[Any], method: Method) -> str:
    """Read the first batch and cut its views; where the encoder is small, take the first step on two items of it.

    Raises:
        ConfigError: The step fails.
        CacheError: The store cannot be read.
    """
    seed, alone = settings.train.seed, Fabric(accelerator="cpu", devices=1)
    loader = loader_of(settings, chosen, method.plan, alone)
    method.begin(loader.numbers)
    batch = next(iter(loader.batches(0, 1)))
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


def as_input(
    chosen: Chosen[Any], store: Any, settings: PretrainSettings, *, start: Path | None, resumed: Path | None
) -> Chosen[Any]:
    """Return the items as the network's input, which the run it starts from or goes on with may decide."""
    ids = [entry.id for entry in chosen.train.entries]
    more = [] if chosen.held_out is None else [entry.id for entry in chosen.held_out.entries]
    made = settings.domain.training.as_input(store.subset([*ids, *more]), ids, settings, start=start, resumed=resumed)
    return Chosen(train=made.subset(ids), held_out=made.subset(more) if more else None)


def _card(settings: PretrainSettings, chosen: Chosen[Any], network: Method) -> Card:
    domain = settings.domain
    trained = Trained(
        encoder=network.encoder,
        entries=chosen.train.entries,
        settings=settings,
        plan=network.plan,
        method=settings.method.model_dump(mode="json"),
        data=data_facts(chosen, domain.noun),
        citation=[domain.methods[settings.method.name].paper, domain.encoders[settings.encoder.name].paper],
    )
    return domain.training.card(trained)


def _start_lines(start: Path, store: Any, chosen: Chosen[Any]) -> list[str]:
    """Return which weights the run starts from, and how its data differ from what those were trained on.

    Args:
        start: The run whose weights are taken.
        store: All that it holds.
        chosen: What is trained on, as the network's input.
    """
    card = load_card(start)
    domain = domain_of_card(card)
    doubt = domain.start_words(card, store, start)
    return [f"encoder weights from {start}{doubt}", *domain.doubts(card, chosen.train.entries)]


def build(settings: PretrainSettings, *, init_from: Path | None) -> Method:
    """Build the method; weights to start from go into the encoder first, so that a teacher copies them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(settings.train.seed, 0, 0, _INITIAL).integers(1 << 62)))
        training = settings.domain.training
        encoder = training.encoder(settings.encoder)
        if init_from is not None:
            wanted = settings.encoder.model_dump(mode="json")
            card = load_card(init_from)
            theirs = _as_now(card)
            if isinstance(encoder, Encoder):  # 'follow' says no number
                wanted["in_channels"], theirs["in_channels"] = encoder.in_channels, card.in_channels
            free = list(_OF_TRAINING)
            if "attention" not in (wanted.get("pool"), theirs.get("pool")):
                free.append("pool")  # the others have no weights, so that one may be changed for another
            for name in free:
                wanted.pop(name, None)
                theirs.pop(name, None)
            changed = differences(theirs, wanted)
            if changed:
                listed = ", ".join(f"{key}: {theirs} there, {ours} here" for key, theirs, ours in changed)
                raise CheckpointError(f"{init_from}: its encoder is another than this run's ({listed}).")
            try:
                encoder.load_state_dict(load_weights(init_from), strict=True)
            except RuntimeError as error:
                raise CheckpointError(f"{init_from}: its weights do not fit this run's encoder. {error}") from error
        try:
            method = training.method(settings, encoder)
            method.check()
        except ValueError as error:
            raise ConfigError(f"The method and the encoder do not fit each other: {error}") from error
        return method


def _as_now(card: Card) -> dict[str, Any]:
    """Return the encoder's settings on a card, with what later releases may say besides, which is what it did then."""
    if card.kind != "volume":
        return dict(card.encoder)
    return {
        **domain_of_card(card).encoders.settings_of(card.encoder).model_dump(mode="json"),
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
        events.message(f"an earlier release started this run, so it continues with its settings of then: {said}")
    return resolved


def _open_run(
    out: Path, resolved: Resolved[PretrainSettings], chosen: Chosen[Any], *, resume: bool, overwrite: bool
) -> Run:
    if resume:
        run = Run.reopen(out, settings=resolved, say=events.message, trackers=resolved.settings.train.trackers)
    else:
        run = Run.create(
            out, settings=resolved, overwrite=overwrite, say=events.message, trackers=resolved.settings.train.trackers
        )
    resolved.settings.domain.training.record(
        run, chosen.train.entries
    )  # again where it is resumed: it may have stopped before
    keep_groups(run, resolved.settings.data, chosen.train, resume=resume)
    keep_tables(run, resolved.settings.data, resume=resume)
    return run
