"""The verb ``finetune``: from an encoder (or from scratch) and a few labels to a segmenter or classifier."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from medssl.command import Command
from medssl.domains.domain import Domain, domain_named, domains, store_for
from medssl.domains.labels import check_task
from medssl.domains.learning import Learning
from medssl.engine.card import save_encoder
from medssl.engine.kept_paths import kept_value
from medssl.engine.launch import launch, on_first_rank
from medssl.engine.loop import Interrupted, fit
from medssl.engine.origins import keep_origin, kept_origin
from medssl.engine.processes import launcher_words
from medssl.engine.run import Run, begins_here, recorded_settings
from medssl.engine.transfer_settings import TransferSettings
from medssl.engine.trial import StepTime
from medssl.errors import ConfigError
from medssl.evaluation.metrics import known_scores
from medssl.locking import holds
from medssl.quoting import quoted
from medssl.settings import Resolved, flatten
from medssl.tasks.classification import ClassificationTask
from medssl.tasks.classifier import load_classifier
from medssl.tasks.segmentation import SegmentationTask
from medssl.tasks.segmenter import load_segmenter
from medssl.workflows import events
from medssl.workflows.finetune_settings import FinetuneSettings, resolved_settings
from medssl.workflows.plan_end import left_off, whole_plan
from medssl.workflows.plan_time import fewer_steps, free_beside, small_preset, time_lines
from medssl.workflows.predict_command import predict_command
from medssl.workflows.pretrain import screen_note
from medssl.workflows.run_result import RunResult
from medssl.workflows.taking import takes_places
from medssl.writing import folder_for

__all__ = ["FinetuneResult", "FinetuneSettings", "TransferSettings", "finetune"]


@dataclass(frozen=True)
class FinetuneResult(RunResult):
    """What ``medssl.finetune(...)`` returns.

    Attributes:
        predictions: The files that were written: label maps, parts of points, or the table of classes.
        dice: Of a segmenter, Dice of each structure on the held-out scans, on the store's grid; None where there are
            none.
        scores: Of either, scores on the held-out scans; None where there are none.
    """

    predictions: tuple[Path, ...] = ()
    dice: dict[str, float] | None = None
    scores: dict[str, float] | None = None

    def cloud_task(self) -> Any:
        """Return the trained task on clouds, in evaluation mode, on the CPU."""
        return domain_named("points").task("segmentation").load(self.folder)  # it reads either

    def segmenter(self) -> SegmentationTask:
        """Return the trained segmenter, in evaluation mode, on the CPU."""
        return load_segmenter(self.folder)

    def classifier(self) -> ClassificationTask:
        """Return the trained classifier, in evaluation mode, on the CPU."""
        return load_classifier(self.folder)


@takes_places
@holds("medssl finetune", lambda given: Path(given["out"]))
def finetune(
    encoder_run: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    task: str | None = None,
    from_scratch: bool | None = None,
    labels: int | None = None,
    draw: int | None = None,
    ids: Sequence[str] | None = None,
    predict: Sequence[str] | None = None,
    devices: int | str | None = None,
    resume: bool = False,
    finish: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> FinetuneResult:
    """Train a segmenter or a classifier on a store's labelled scans or clouds, and predict its test split.

    Args:
        encoder_run: A pretraining run that has ended. None trains from scratch with the encoder of the settings.
        data: The store, a folder that ``cache`` wrote; else ``data.store`` of the preset.
        out: The run's folder.
        preset: A preset's name or a YAML file; the defaults when None.
        overrides: ``key=value`` settings, such as ``train.steps=500``.
        task: "segmentation" or "classification"; when None what the preset says, else what the store's labels are for:
            segmentation where there are label maps or labels of points, classification where there are classes alone.
        from_scratch: Use the encoder's architecture of ``encoder_run`` with random weights: the same recipe and
            budget, for comparison.
        labels: Patients whose labels are used; None uses all.
        draw: Which draw of ``labels`` patients; subsets of one draw are nested.
        ids: Scans to train on, whatever their split; None takes the training splits.
        predict: Splits to predict; "test" when None.
        devices: Processes on this machine; sets ``train.devices``.
        resume: Go on with the run in ``out``: training, then the predictions that are lacking; or begin it where data
            and what to start from are given and nothing is there. Without a preset, data and an encoder's run, with
            the settings it was given.
        finish: Close the run in ``out`` at the step that it reached, and predict with that; train no more.
        overwrite: Move what is in ``out`` aside.
        dry_run: Only say what would be done.

    Returns:
        The run.

    Raises:
        ConfigError: Settings are wrong; or ``out`` is not empty; or a resumed run's settings differ.
        CacheError, DataError: The store cannot be read, or has no labelled scan to train on.
        CheckpointError: The encoder's run, or what to resume, cannot be read.
        TransferError: Too little of the encoder fits.
        Interrupted: The run was told to stop; it left a checkpoint and the process should exit with 130.
    """
    if task is not None:
        next((domain for domain in domains() if task in domain.tasks), domains()[0]).tasks.row(task)
    resume = resume or finish
    if resume and overwrite:
        raise ConfigError("--resume continues a run, and --overwrite starts again: give only one of them.")
    out = folder_for(out)
    given = data is not None and (encoder_run is not None or preset is not None or bool(from_scratch))
    if resume and not finish and given and begins_here(out):  # a job is put in the queue again as it is
        resume = False
        events.message(f"{out}: no run here yet; starting a new one")
    nothing_said = preset is None and encoder_run is None and data is None
    preset = recorded_settings(out) if resume and nothing_said else preset
    options = {
        "task": task,
        "transfer.run": str(encoder_run) if encoder_run is not None else None,
        "transfer.from_scratch": from_scratch,
        "data.store": str(data) if data is not None else None,
        "data.labels": labels,
        "data.draw": draw,
        "data.ids": None if ids is None else tuple(ids),
        "data.predict": None if predict is None else tuple(predict),
        "train.devices": devices,
    }
    asked = resolved_settings(preset, overrides, options)
    whole, until = whole_plan(asked, out, resume=resume)
    resolved, learning, more = _learning(whole, out if resume else None)
    settings = resolved.settings
    lines = [*_plan_lines(resolved, learning, out), *more, *learning.doubts()]
    if dry_run:
        for line in [*lines, *_carried(learning), *_time_lines(resolved, learning, out)]:
            events.message(line)
        return events.written(FinetuneResult(out))

    fabric = launch(settings.train, learning.method)
    run = on_first_rank(fabric, lambda: _open_run(out, resolved, resume=resume, overwrite=overwrite))
    run = run or Run(out, writes=False)
    if run.writes:
        keep_origin(run, None if resume else _start(settings))
        learning.domain.training.record(run, learning.entries)  # again where it is resumed: it may have stopped before
        for line in [*lines, *_carried(learning)]:
            run.say(line)
        _keep_reports(run, learning)
        reached = left_off(run.checkpoints, resume=resume, finish=finish)
        for line in _time_lines(resolved, learning, out, done=reached, until=until):
            run.say(line)
    try:
        done = _train(learning, settings, run=run, fabric=fabric, resume=resume, finish=finish, until=until)
    except Interrupted as stop:
        if run.writes:
            run.say(f"stopped at step {stop.step:,}; checkpoint {stop.checkpoint}")
            run.say(f"to continue: {_command(asked, preset, out)} --resume")
            run.say(f"or close it at this step with: medssl finetune --out {quoted(out)} --finish")
        raise
    written = _save(learning, settings, out, done) if run.writes else []
    ended = learning.finish(out, run, fabric, events)
    result = FinetuneResult(
        out,
        predictions=ended.predictions,
        dice=ended.scores if ended.named == "dice" else None,
        scores=ended.scores,
    )
    if run.writes:
        result = events.written(
            replace(
                result,
                written=(*written, *([ended.shown] if ended.shown else [])),
                next=Command("evaluate", out, "--data", settings.data.store) if ended.predictions else Command(),
                on_new=predict_command(out),
                figures={"run": str(out), ended.named: known_scores(ended.scores)},
            )
        )
    fabric.barrier()
    return result


def _learning(
    resolved: Resolved[FinetuneSettings], resumed: Path | None = None
) -> tuple[Resolved[FinetuneSettings], Learning, list[str]]:
    """Return the settings and the task on a store's items; and what to say of its labels."""
    settings = resolved.settings
    domain, data = settings.domain, settings.data
    store = store_for(domain, Path(data.store), chosen=f"the encoder '{settings.encoder.name}'", instead=_instead)
    said = check_task(settings.task, domain.labels_of(store), shows=settings.classification.shows is not None)
    resolved = domain.training.fitted(resolved, store)
    settings = resolved.settings
    train = [e.id for e in store.entries if (e.id in data.ids if data.ids is not None else e.split in data.splits)]
    start = settings.transfer.run or None
    store = domain.training.as_input(store, train, settings, start=start, resumed=resumed)
    domain.tasks.row(settings.task)
    return resolved, domain.task(settings.task).learning(domain, settings, store), [said] if said else []


def _instead(held: Domain) -> str:
    """Return what to take for a store of another kind of data."""
    presets = " or ".join(sorted(found for found in held.recipes.values() if found))
    scratch = f", or --preset {presets} to train from scratch" if presets else ""
    return f"Give a pretraining run on {held.noun}s{scratch}."


def _open_run(out: Path, resolved: Resolved[FinetuneSettings], *, resume: bool, overwrite: bool) -> Run:
    if resume:
        return Run.reopen(out, settings=resolved, say=events.message, trackers=resolved.settings.train.trackers)
    return Run.create(
        out, settings=resolved, overwrite=overwrite, say=events.message, trackers=resolved.settings.train.trackers
    )


def _train(
    learning: Learning,
    settings: FinetuneSettings,
    *,
    run: Run,
    fabric: Fabric,
    resume: bool,
    finish: bool,
    until: int | None,
) -> int:
    train = settings.train
    loader = learning.loader(rank=fabric.global_rank, world_size=fabric.world_size, pin=fabric.device.type == "cuda")
    with events.progress(until or train.steps, "step") as bar:
        return fit(
            learning.method,
            loader,
            train,
            run=run,
            fabric=fabric,
            held_out=learning.held_out(),
            scans=[entry.id for entry in learning.entries],
            channels=getattr(learning.entries[0], "channel_names", ()),  # clouds have none
            resume=resume,
            finish=finish,
            until=until,
            on_report=lambda report: bar.reach(report.step, screen_note(report)),
        )


def _start(settings: FinetuneSettings) -> Path | None:
    """Return the run whose weights are taken."""
    chosen = settings.transfer
    return Path(chosen.run) if chosen.run and not chosen.from_scratch else None


def _keep_reports(run: Run, learning: Learning) -> None:
    """Write what became of the pretrained weights."""
    if learning.reports:
        content = {report.part: report.as_dict() for report in learning.reports}
        run.write_text("transfer.json", json.dumps(kept_value(content, run.folder), indent=1) + "\n")


def _carried(learning: Learning) -> list[str]:
    """Return the lines of the tables of what was carried over."""
    return [line for report in learning.reports for line in report.table().splitlines()]


def _save(learning: Learning, settings: FinetuneSettings, out: Path, done: int) -> list[Path]:
    """Write the network, the encoder by itself, and the card, which says how many steps were done."""
    card = learning.card("" if settings.transfer.from_scratch else kept_value(settings.transfer.run, out))
    card = card.model_copy(update={"steps": done, "origin": kept_origin(out)})
    return save_encoder(learning.method.encoder, card, out, others=learning.exported_modules())


def _plan_lines(resolved: Resolved[FinetuneSettings], learning: Learning, out: Path) -> list[str]:
    """Return what the user wants to know before a long run starts."""
    train, chosen = resolved.settings.train, resolved.origins["task"]
    presets = sorted({o for o in resolved.origins.values() if o.startswith(("preset ", "file "))})
    return [
        f"settings: {', '.join(presets) or 'defaults'}",
        *([f"task: {resolved.settings.task}, {chosen}"] if chosen.startswith("auto") else []),
        *learning.lines(),
        f"plan: {train.steps:,} steps of {train.batch_size} {learning.seen}, schedule {train.schedule}; into {out}",
    ]


def _time_lines(
    resolved: Resolved[FinetuneSettings],
    learning: Learning,
    out: Path,
    **told: Any,
) -> list[str]:
    """Return what is said of the time that training takes here; ``told`` is more of `time_lines`."""
    settings, aside = resolved.settings, free_beside(out)

    def smaller(step: StepTime) -> str:
        domain, task = learning.domain, learning.task
        name = (domain.recipes.get(settings.task) or settings.task).removesuffix("_small")
        small = small_preset("finetune", name, list(resolved.origins.values()))
        if not small:
            presets = [o for o in resolved.origins.values() if o.startswith(("preset ", "file "))]
            named = presets[0].partition(" ")[2] if presets else None
            return _command(resolved, named, aside, changed={"train.steps": fewer_steps(step)})
        # What the encoder saw stays what the network sees; else a preset's own window would replace it.
        seen = {task.sees: flatten(settings)[task.sees]} if settings.transfer.run else {}
        kept = ("data.", "transfer.", "train.seed", "task", f"{settings.task}.", f"{task.sees.partition('.')[0]}.")
        return _command(resolved, small, aside, only=kept, changed=seen)

    return time_lines(
        learning.method,
        lambda: learning.loader(rank=0, world_size=1, pin=False),
        resolved,
        smaller=smaller,
        **told,
    )


def _command(
    resolved: Resolved[FinetuneSettings],
    preset: str | Path | None,
    out: Path,
    *,
    only: tuple[str, ...] = ("",),
    changed: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that makes this run, with the settings that it was given.

    Args:
        resolved: The settings.
        preset: The preset; None for none.
        out: The run.
        only: Beginnings of the settings that are kept.
        changed: Settings that are to be others.
    """
    leaves = flatten(resolved.settings)
    given = {key for key, origin in resolved.origins.items() if origin == "command line" and key.startswith(only)}
    words = [*launcher_words(), "finetune", *([str(leaves["transfer.run"])] if leaves["transfer.run"] else [])]
    words += ["--data", str(leaves["data.store"]), "--out", str(out), *(["--preset", str(preset)] if preset else [])]
    values = {key: leaves[key] for key in given - {"transfer.run", "data.store"}} | dict(changed or {})
    for key, value in sorted(values.items()):
        words.append(f"{key}={json.dumps(list(value) if isinstance(value, tuple) else value)}")
    return shlex.join(words)
