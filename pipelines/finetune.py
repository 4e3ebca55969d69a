"""The verb ``finetune``: from an encoder (or from scratch) and a few labels to a segmenter and its predictions."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field

from medssl.encoders.table import ENCODERS, build_encoder
from medssl.encoders.table import settings_class as encoder_settings_class
from medssl.engine.card import Card, load_card, load_weights, save_encoder
from medssl.engine.launch import launch, on_first_rank
from medssl.engine.loop import Interrupted, fit
from medssl.engine.result import RunResult
from medssl.engine.run import Run
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError, did_you_mean
from medssl.loading import WindowLoader, held_out_batches
from medssl.randomness import numpy_generator
from medssl.settings import Auto, Resolved, Settings, flatten, resolve
from medssl.store.read import Store
from medssl.tasks.inference import InferenceSettings, dice_of_store, predict_store
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask
from medssl.tasks.segmenter import describe_segmenter, load_segmenter
from medssl.tasks.transfer import TransferReport, carry_over
from pipelines import console
from pipelines.finetune_scans import LabelledScans, LabelledSettings, choose_scans
from pipelines.pretrain import EncoderSettings, screen_note

__all__ = ["FinetuneResult", "FinetuneSettings", "TransferSettings", "finetune"]

TASKS = ("segmentation",)
_INITIAL = 8  # counter that keeps the draw of fresh weights apart from all others


class TransferSettings(Settings):
    """What the network starts from."""

    run: str = Field(default="", description="The pretraining run whose encoder is used; '' for none.")
    from_scratch: bool = Field(default=False, description="Take the encoder's architecture, but not its weights.")
    minimum_share: float = Field(
        default=0.9, ge=0, le=1, description="Least share of the encoder's weights that must fit."
    )
    adapt_channels: bool = Field(
        default=False, description="Spread kernels over another number of input channels where they differ."
    )
    decoder: bool = Field(
        default=True, description="Carry the decoder over too, as far as it fits, where one was kept."
    )


class FinetuneSettings(Settings):
    """Everything that decides a fine-tuning run."""

    verb: ClassVar[str] = "finetune"

    segmentation: SegmentationSettings = SegmentationSettings()
    encoder: EncoderSettings = Field(default_factory=encoder_settings_class("residual"))  # type: ignore[assignment]
    transfer: TransferSettings = TransferSettings()
    train: TrainSettings = TrainSettings(steps=5000, batch_size=2, lr=1e-3, schedule="poly", warmup=0.05)
    data: LabelledSettings = LabelledSettings()
    inference: InferenceSettings = InferenceSettings()


@dataclass(frozen=True)
class FinetuneResult(RunResult):
    """What ``medssl.finetune(...)`` returns.

    Attributes:
        predictions: The label maps that were written.
        dice: Dice of each structure on the held-out scans, on the store's grid; empty where there are none.
    """

    predictions: tuple[Path, ...] = ()
    dice: dict[str, float] | None = None

    def segmenter(self) -> SegmentationTask:
        """Return the trained segmenter, in evaluation mode, on the CPU."""
        return load_segmenter(self.folder)


def finetune(
    encoder_run: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    task: str = "segmentation",
    from_scratch: bool | None = None,
    labels: int | None = None,
    draw: int | None = None,
    ids: Sequence[str] | None = None,
    predict: Sequence[str] | None = None,
    devices: int | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> FinetuneResult:
    """Train a segmenter on the labelled scans of a store, and segment its test scans.

    Args:
        encoder_run: A pretraining run that has ended. None trains from scratch with the encoder of the settings.
        data: The store, a folder that ``cache`` wrote; else ``data.store`` of the preset.
        out: The run's folder.
        preset: A preset's name or a YAML file; the defaults when None.
        overrides: ``key=value`` settings, such as ``train.steps=500``.
        task: "segmentation".
        from_scratch: Take the encoder's architecture from ``encoder_run`` but fresh weights: the same recipe and
            budget, for comparison.
        labels: Patients whose labels are used; None uses all.
        draw: Which draw of ``labels`` patients; subsets of one draw are nested.
        ids: Scans to train on, whatever their split; None takes the training splits.
        predict: Splits to write label maps of; "test" when None.
        devices: Processes on this machine; sets ``train.devices``.
        resume: Go on with the run in ``out``: training, then the label maps that are lacking.
        overwrite: Move what is in ``out`` aside.
        dry_run: Say what would be done; write nothing.

    Returns:
        The run.

    Raises:
        ConfigError: Settings are wrong; or ``out`` is not empty; or a resumed run's settings differ.
        CacheError, DataError: The store cannot be read, or has no labelled scan to train on.
        CheckpointError: The encoder's run, or what to resume, cannot be read.
        TransferError: Too little of the encoder fits.
        Interrupted: The run was told to stop; it left a checkpoint and the process should exit with 130.
    """
    if task not in TASKS:
        raise ConfigError(f"There is no task '{task}'. {did_you_mean(task, TASKS)}")
    if resume and overwrite:
        raise ConfigError("--resume goes on with a run as it is, and --overwrite starts anew: give one of them.")
    options = {
        "transfer.run": str(encoder_run) if encoder_run is not None else None,
        "transfer.from_scratch": from_scratch,
        "data.store": str(data) if data is not None else None,
        "data.labels": labels,
        "data.draw": draw,
        "data.ids": None if ids is None else tuple(ids),
        "data.predict": None if predict is None else tuple(predict),
        "train.devices": devices,
    }
    out, resolved = Path(out), _resolved(preset, overrides, options)
    settings = resolved.settings
    store = Store.open(settings.data.store)
    scans = choose_scans(store, settings.data)
    method, reports = _build(settings, store)
    lines = _plan_lines(resolved, scans, method, reports, out)
    if dry_run:
        for line in [*lines, *_doubts(settings, scans), *(report.table() for report in reports)]:
            console.say(line)
        console.done(None, "")
        return FinetuneResult(out)

    fabric = launch(settings.train)
    run = on_first_rank(fabric, lambda: _open_run(out, resolved, resume=resume, overwrite=overwrite))
    run = run or Run(out, writes=False)
    if run.writes:
        for line in [*lines, *_doubts(settings, scans)]:
            run.say(line)
        for report in reports:
            run.say(report.table())
        if reports:
            content = {report.part: report.as_dict() for report in reports}
            run.write_text("transfer.json", json.dumps(content, indent=1) + "\n")
    try:
        _train(method, scans, settings, run=run, fabric=fabric, resume=resume)
    except Interrupted as stop:
        if run.writes:
            run.say(f"stopped at step {stop.step:,}; checkpoint {stop.checkpoint}")
            run.say(f"go on with: {_resume_command(resolved, preset, out)}")
        raise
    written = _save(method, settings, scans, store, out) if run.writes else []
    predictions = _predict(method, scans, settings, out, fabric)
    dice = _score(method, scans, settings, run, fabric) if run.writes else None
    if run.writes:
        then = f"medssl evaluate {out} --data {settings.data.store}" if predictions else ""
        folder = [out / "predictions"] if predictions else []
        console.done([*written, *folder], then, run=str(out), dice=_known(dice))
    fabric.barrier()
    return FinetuneResult(out, predictions=predictions, dice=dice)


def _resolved(
    preset: str | Path | None, overrides: Sequence[str], options: Mapping[str, object]
) -> Resolved[FinetuneSettings]:
    """Return the settings; with a pretraining run its encoder's settings, and its window where nothing else says."""
    resolved = resolve(FinetuneSettings, preset=preset, overrides=overrides, command_line=options)
    source = resolved.settings.transfer.run
    if source:
        card = load_card(Path(source))
        if card.window is not None:
            window = {"segmentation.window": Auto(card.window, f"window of {source}")}
            resolved = resolve(
                FinetuneSettings, preset=preset, overrides=overrides, command_line=options, defaults=window
            )
        own = [key for key, at in resolved.origins.items() if key.startswith("encoder.") and at == "command line"]
        if own:
            raise ConfigError(
                f"The encoder is that of {source}, and {', '.join(own)} would change it. Leave that out, or leave the "
                "run out to train this encoder from scratch."
            )
        encoder = encoder_settings_class(str(card.encoder.get("name"))).model_validate(card.encoder)
        origins = {key: at for key, at in resolved.origins.items() if not key.startswith("encoder.")}
        origins |= {f"encoder.{key}": f"auto (card of {source})" for key in flatten(encoder)}
        resolved = Resolved(resolved.settings.model_copy(update={"encoder": encoder}), origins)
    if not resolved.settings.data.store:
        raise ConfigError("There is no store to train on. Give one with --data; `medssl cache` makes it.")
    return resolved


def _build(settings: FinetuneSettings, store: Store) -> tuple[SegmentationTask, list[TransferReport]]:
    """Build the segmenter. Fresh weights are the same whatever is carried over: arms of a comparison differ in that."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(settings.train.seed, 0, 0, _INITIAL).integers(1 << 62)))
        encoder = build_encoder(settings.encoder)
        task = SegmentationTask(settings.segmentation, encoder, store.classes)
    chosen = settings.transfer
    if not chosen.run or chosen.from_scratch:
        return task, []
    folder = Path(chosen.run)
    reports = [
        carry_over(
            load_weights(folder),
            encoder,
            source=chosen.run,
            minimum_share=chosen.minimum_share,
            adapt_channels=chosen.adapt_channels,
        )
    ]
    kept = load_card(folder).weights
    if chosen.decoder and "decoder.safetensors" in kept:
        weights = load_weights(folder, "decoder")
    elif chosen.decoder and "network.safetensors" in kept:
        network = load_weights(folder, "network")
        weights = {k.removeprefix("decoder."): v for k, v in network.items() if k.startswith("decoder.")}
    else:
        return task, reports
    # its head is of other classes, and its width may differ: whatever fits is gain
    reports.append(carry_over(weights, task.decoder, source=chosen.run, part="decoder", minimum_share=0.0))
    return task, reports


def _open_run(out: Path, resolved: Resolved[FinetuneSettings], *, resume: bool, overwrite: bool) -> Run:
    if resume:
        return Run.reopen(out, settings=resolved, say=console.say)
    return Run.create(out, settings=resolved, overwrite=overwrite, say=console.say)


def _train(
    method: SegmentationTask,
    scans: LabelledScans,
    settings: FinetuneSettings,
    *,
    run: Run,
    fabric: Fabric,
    resume: bool,
) -> None:
    train = settings.train
    loader = WindowLoader(
        scans.train,
        method.plan,
        batch_size=train.batch_size,
        seed=train.seed,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        threads=train.threads,
        pin=fabric.device.type == "cuda",
    )
    probes = held_out_batches(scans.held_out, method.plan, train.batch_size, train.seed) if scans.held_out else []
    with console.progress(train.steps, "step") as bar:
        fit(
            method,
            loader,
            train,
            run=run,
            fabric=fabric,
            held_out=probes,
            scans=[entry.id for entry in scans.train.entries],
            resume=resume,
            on_report=lambda report: bar.reach(report.step, screen_note(report)),
        )


def _save(
    method: SegmentationTask, settings: FinetuneSettings, scans: LabelledScans, store: Store, out: Path
) -> list[Path]:
    """Write the network, the encoder by itself, and the card."""
    entries, encoder = scans.train.entries, method.encoder
    z, y, x = np.mean([e.spacing_mm for e in entries], axis=0).tolist()
    start = "" if settings.transfer.from_scratch else settings.transfer.run
    card = Card(
        encoder=settings.encoder.model_dump(mode="json"),
        in_channels=encoder.in_channels,
        channels=encoder.channels,
        strides=encoder.strides,
        spacing_mm=(z, y, x),
        modality="+".join(sorted({e.modality for e in entries})),
        scale=Counter(e.scale for e in entries).most_common(1)[0][0],
        window=settings.segmentation.window,
        method=describe_segmenter(method, store.classes, start=start),
        steps=settings.train.steps,
        batch_size=settings.train.batch_size,
        data={
            "scans": [e.id for e in entries],
            "patients": len({e.patient or e.id for e in entries}),
            "store_settings": store.settings,
        },
        citation=[ENCODERS[settings.encoder.name].paper],
    )
    return save_encoder(encoder, card, out, others={"network": method.network})


def _predict(
    method: SegmentationTask, scans: LabelledScans, settings: FinetuneSettings, out: Path, fabric: Fabric
) -> tuple[Path, ...]:
    """Write the label maps; the ranks share the scans."""
    if scans.predict is None:
        if settings.data.predict and fabric.is_global_zero:
            console.warn(f"no scan is in the splits {list(settings.data.predict)}, so no label map was written")
        return ()
    rank, world = fabric.global_rank, fabric.world_size
    mine = scans.predict.subset([e.id for e in scans.predict.entries[rank::world]])
    with console.progress(len(mine), "scans segmented") as bar, fabric.autocast():
        predictions = predict_store(
            method.network,
            method.table.to_structure,
            mine,
            out / "predictions",
            window=settings.segmentation.window,
            settings=settings.inference,
            device=fabric.device,
            listing="predictions.json" if rank == 0 else f"predictions-{rank}.json",
            progress=lambda prediction: bar.advance(note=prediction.id),
        )
    return tuple(prediction.path for prediction in predictions)


def _score(
    method: SegmentationTask, scans: LabelledScans, settings: FinetuneSettings, run: Run, fabric: Fabric
) -> dict[str, float] | None:
    """Say the Dice on whole held-out scans, and keep it in validation.json."""
    if scans.held_out is None:
        return None
    with console.progress(len(scans.held_out), "held-out scans scored") as bar, fabric.autocast():
        dice = dice_of_store(
            method,
            scans.held_out,
            settings.inference,
            device=fabric.device,
            progress=lambda scan: bar.advance(note=scan),
        )
    content = {"split": settings.data.held_out_split, "scans": len(scans.held_out), "dice": _known(dice)}
    run.write_text("validation.json", json.dumps(content, indent=1) + "\n")
    rows = [[name, "-" if math.isnan(value) else f"{value:.3f}"] for name, value in dice.items()]
    found = [value for value in dice.values() if not math.isnan(value)]
    rows.append(["mean", f"{sum(found) / len(found):.3f}" if found else "-"])
    console.table(
        f"Dice on {len(scans.held_out)} held-out scans, on the store's grid",
        ["Structure", "Dice"],
        rows,
        key="held_out",
    )
    return dice


def _known(dice: Mapping[str, float] | None) -> dict[str, float | None] | None:
    """Return the scores as JSON has them: null where no scan showed a structure."""
    return None if dice is None else {name: None if math.isnan(value) else value for name, value in dice.items()}


def _plan_lines(
    resolved: Resolved[FinetuneSettings],
    scans: LabelledScans,
    method: SegmentationTask,
    reports: Sequence[TransferReport],
    out: Path,
) -> list[str]:
    """Return what the user wants to know before a long run starts."""
    settings, entries = resolved.settings, scans.train.entries
    train = settings.train
    presets = sorted({o for o in resolved.origins.values() if o.startswith(("preset ", "file "))})
    patients = len({e.patient or e.id for e in entries})
    start = f"{', '.join(r.part for r in reports)} of {settings.transfer.run}" if reports else "scratch"
    count = sum(p.numel() for p in method.parameters())
    window = " x ".join(map(str, settings.segmentation.window))
    few = f" (draw {settings.data.draw} of {settings.data.labels} labelled patients)" if settings.data.labels else ""
    watched = f"{len(scans.held_out)} held out" if scans.held_out else "none held out"
    predicted = f"{len(scans.predict)} to segment" if scans.predict else "none to segment"
    left = f"; {scans.left_out} without labels left out" if scans.left_out else ""
    return [
        f"settings: {', '.join(presets) or 'defaults'}",
        f"store: {settings.data.store}: {len(entries)} labelled scans of {patients} patients{few}; {watched}, "
        f"{predicted}{left}",
        f"segmenter: {settings.encoder.name} encoder and U-Net decoder, {count:,} parameters, from {start}; "
        f"structures: {', '.join(method.class_names)}",
        f"plan: {train.steps:,} steps of {train.batch_size} windows of {window}, schedule {train.schedule}; into {out}",
    ]


def _doubts(settings: FinetuneSettings, scans: LabelledScans) -> list[str]:
    """Return how the data differ from what the encoder was pretrained on, where that is worth a thought."""
    if not settings.transfer.run or settings.transfer.from_scratch:
        return []
    card, entries = load_card(Path(settings.transfer.run)), scans.train.entries
    doubts = []
    here = np.mean([e.spacing_mm for e in entries], axis=0)
    if card.spacing_mm is not None:
        ratio = np.maximum(here / np.array(card.spacing_mm), np.array(card.spacing_mm) / here).max()
        if ratio > 1.5:
            theirs, ours = (" x ".join(f"{v:.3g}" for v in s) for s in (card.spacing_mm, here))
            doubts.append(f"doubtful: the encoder was pretrained at {theirs} mm, and the store has {ours} mm")
    modalities = {e.modality for e in entries}
    if card.modality and not modalities & set(card.modality.split("+")):
        doubts.append(f"doubtful: the encoder was pretrained on {card.modality}, the store is {'+'.join(modalities)}")
    return doubts


def _resume_command(resolved: Resolved[FinetuneSettings], preset: str | Path | None, out: Path) -> str:
    """Return the command that goes on with this run."""
    leaves = flatten(resolved.settings)
    given = {key for key, origin in resolved.origins.items() if origin == "command line"}
    words = ["medssl", "finetune", *([str(leaves["transfer.run"])] if leaves["transfer.run"] else [])]
    words += ["--data", str(leaves["data.store"]), "--out", str(out), *(["--preset", str(preset)] if preset else [])]
    for key in sorted(given - {"transfer.run", "data.store"}):
        value = leaves[key]
        words.append(f"{key}={json.dumps(list(value) if isinstance(value, tuple) else value)}")
    return shlex.join([*words, "--resume"])
