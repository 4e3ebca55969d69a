"""The verb ``pretrain``: from a store of scans to an encoder, its card and the record of how it was made."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from medssl.encoders.contract import Encoder
from medssl.encoders.table import ENCODERS, build_encoder
from medssl.encoders.table import settings_class as encoder_settings_class
from medssl.encoders.table import settings_union as encoder_settings_union
from medssl.engine.card import Card, load_card, load_weights, save_encoder
from medssl.engine.launch import launch, on_first_rank
from medssl.engine.loop import Interrupted, fit
from medssl.engine.meters import Report
from medssl.engine.result import RunResult
from medssl.engine.run import Run, differences
from medssl.engine.train_settings import TrainSettings
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.loading import WindowLoader, held_out_batches
from medssl.methods.contract import Method
from medssl.methods.table import METHODS, build_method
from medssl.methods.table import settings_class as method_settings_class
from medssl.methods.table import settings_union as method_settings_union
from medssl.randomness import numpy_generator
from medssl.settings import Resolved, Settings, list_presets, resolve
from medssl.store.read import Store
from pipelines import console

if TYPE_CHECKING:

    class MethodSettings(Settings):
        """Any row of the methods' table, told apart by its name."""

        name: str

    class EncoderSettings(Settings):
        """Any row of the encoders' table, told apart by its name."""

        name: str
else:
    MethodSettings = method_settings_union()
    EncoderSettings = encoder_settings_union()

__all__ = ["DataSettings", "PretrainSettings", "pretrain", "screen_note"]

_INITIAL, _HELD_OUT = 6, 7  # counters that keep these draws apart from all others


class DataSettings(Settings):
    """Which scans of the store are used."""

    store: str = Field("", description="The folder that `medssl cache` wrote.")
    splits: tuple[str, ...] = Field(("train", ""), description="Splits that are trained on; '' is unassigned scans.")
    slices: str = Field(
        "", description="The slices that `medssl reduce --unit slice` chose (kept.slices.parquet); '' takes all."
    )
    held_out_split: str = Field("val", description="Split whose scans are only probed.")
    held_out_share: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.05, description="Share of patients held out where no scan is in that split and there are 20 or more."
    )
    held_out_scans: Annotated[int, Field(ge=0)] = Field(32, description="Most scans that a probe looks at.")


class PretrainSettings(Settings):
    """Everything that decides a pretraining run."""

    verb: ClassVar[str] = "pretrain"

    method: MethodSettings = Field(default_factory=method_settings_class("voco"))  # type: ignore[assignment]
    encoder: EncoderSettings = Field(default_factory=encoder_settings_class("residual"))  # type: ignore[assignment]
    train: TrainSettings = TrainSettings()
    data: DataSettings = DataSettings()


def pretrain(
    preset: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    overrides: Sequence[str] = (),
    method: str | None = None,
    devices: int | str | None = None,
    resume: bool = False,
    init_from: str | Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> RunResult:
    """Pretrain an encoder on the scans of a store.

    Args:
        preset: A preset's name, a YAML file, or a method's name.
        data: The store, a folder that ``cache`` wrote; else ``data.store`` of the preset.
        out: The run's folder.
        overrides: ``key=value`` settings, such as ``train.steps=500``.
        method: A method's name, where no preset is given.
        devices: Processes on this machine; sets ``train.devices``.
        resume: Go on with the run in ``out``.
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
    if resume and (overwrite or init_from):
        raise ConfigError("--resume goes on with a run as it is: it allows neither --overwrite nor --init-from.")
    resolved = _resolved(preset, method=method, data=data, devices=devices, overrides=overrides)
    settings = resolved.settings
    scans = _choose_scans(Store.open(settings.data.store), settings)
    allowed = _chosen_slices(settings.data.slices, scans.train) if settings.data.slices else None
    network = _build(settings, init_from=Path(init_from) if init_from else None)
    if dry_run:
        for line in _plan_lines(resolved, scans, network, out, world_size=None):
            console.say(line)
        console.done(None, "")
        return RunResult(out)

    fabric = launch(settings.train)
    run = on_first_rank(fabric, lambda: _open_run(out, resolved, resume=resume, overwrite=overwrite))
    run = run or Run(out, writes=False)
    if run.writes:
        for line in _plan_lines(resolved, scans, network, out, world_size=fabric.world_size):
            run.say(line)
        if init_from:
            run.say(f"encoder weights from {init_from}")
    loader = WindowLoader(
        scans.train,
        network.plan,
        batch_size=settings.train.batch_size,
        seed=settings.train.seed,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        threads=settings.train.threads,
        pin=fabric.device.type == "cuda",
        allowed=allowed,
    )
    probes = []
    if scans.held_out is not None:
        probes = held_out_batches(scans.held_out, network.plan, settings.train.batch_size, settings.train.seed)
    shown = console.progress(settings.train.steps, "step") if run.writes else nullcontext()
    with shown as bar:
        try:
            fit(
                network,
                loader,
                settings.train,
                run=run,
                fabric=fabric,
                held_out=probes,
                scans=[entry.id for entry in scans.train.entries],
                resume=resume,
                on_report=lambda report: bar.reach(report.step, screen_note(report)) if bar else None,
            )
        except Interrupted as stop:
            if run.writes:
                run.say(f"stopped at step {stop.step:,}; checkpoint {stop.checkpoint}")
                run.say(f"go on with: {_resume_command(resolved, preset or method, out)}")
            raise
    if run.writes:
        card = _card(settings, scans, network)
        others = {name: module for name, module in network.kept().items() if name != "encoder"}
        written = save_encoder(network.encoder, card, out, others=others)
        pictures = [path for name in ("progress.png", "views.png") if (path := out / name).exists()]
        console.done(
            [*written, *pictures],
            f"medssl finetune {out} --data {settings.data.store} --task segmentation --out {out}-segmentation",
            run=str(out),
        )
    fabric.barrier()
    return RunResult(out)


def screen_note(report: Report) -> str:
    """Return the line that the screen shows beside the step: loss, signals, learning rate, data wait, memory."""
    values = report.values
    parts = [f"loss {values['loss']:.3g}"]
    parts += [f"{name} {values[key]:.3g}" for name in ("spread", "dice") if (key := f"signal/{name}") in values]
    parts += [f"lr {values['lr']:.1e}".replace("e-0", "e-"), f"data-wait {report.data_wait:.0%}"]
    if report.memory_gib:
        parts.append(f"{report.memory_gib:.1f} GiB")
    return " | ".join(parts)


@dataclass(frozen=True)
class _Scans:
    """The scans of a run: those that are trained on, and those that are only probed."""

    train: Store
    held_out: Store | None


def _resolved(
    preset: str | Path | None,
    *,
    method: str | None,
    data: str | Path | None,
    devices: int | str | None,
    overrides: Sequence[str],
) -> Resolved[PretrainSettings]:
    """Return the settings; a bare method's name takes the preset of that name, or the method's own defaults."""
    if preset is not None and method is not None:
        raise ConfigError(f"Both a preset ({preset}) and a method ({method}) were given. A preset names its method.")
    if preset is None and method is None:
        raise ConfigError("Nothing says what to train. Give a preset's name; see them with: medssl list presets")
    name = str(preset if preset is not None else method)
    shipped = {known.name for known in list_presets("pretrain")}
    options = {"data.store": str(data) if data is not None else None, "train.devices": devices}
    if name in METHODS and name not in shipped:
        preset, options = None, {**options, "method.name": name}
    else:
        preset = name
    resolved = resolve(PretrainSettings, preset=preset, overrides=overrides, command_line=options)
    if not resolved.settings.data.store:
        raise ConfigError("There is no store to train on. Give one with --data; `medssl cache` makes it.")
    return resolved


def _choose_scans(store: Store, settings: PretrainSettings) -> _Scans:
    """Return what is trained on and what is held out; no patient is in both."""
    data = settings.data
    train = [e for e in store.entries if e.split in data.splits]
    held_out = [e for e in store.entries if e.split == data.held_out_split and e.split not in data.splits]
    if not held_out and data.held_out_share:
        patients = sorted({e.patient or e.id for e in train})
        if len(patients) >= 20:
            order = numpy_generator(settings.train.seed, 0, 0, _HELD_OUT).permutation(len(patients))
            chosen = {patients[i] for i in order[: max(1, round(data.held_out_share * len(patients)))]}
            held_out = [e for e in train if (e.patient or e.id) in chosen]
            train = [e for e in train if (e.patient or e.id) not in chosen]
    if not train:
        counts = dict(Counter(e.split or "unassigned" for e in store.entries))
        raise DataError(
            f"{store.folder}: no scan is in the splits {list(data.splits)} (data.splits); the store has {counts}."
        )
    if data.held_out_scans < len(held_out):
        order = numpy_generator(settings.train.seed, 1, 0, _HELD_OUT).permutation(len(held_out))
        held_out = [held_out[i] for i in sorted(order[: data.held_out_scans])]
    return _Scans(
        train=store.subset([e.id for e in train]),
        held_out=store.subset([e.id for e in held_out]) if held_out else None,
    )


def _chosen_slices(path: str, store: Store) -> dict[str, list[int]]:
    """Return the chosen slices of each scan along z, counted in the store, whose voxels may have another size."""
    from medssl.reduction.parts import kept_slices

    table = kept_slices(path)
    lacking = [entry.id for entry in store.entries if entry.id not in table]
    if lacking:
        raise DataError(
            f"{path}: says nothing about {len(lacking)} of the {len(store)} scans to train on, such as {lacking[0]}. "
            "Choose slices of this store's own manifest with: medssl reduce MANIFEST --unit slice"
        )
    chosen = {}
    for entry in store.entries:
        kept, depth = table[entry.id]
        chosen[entry.id] = sorted({int((place + 0.5) * entry.shape[0] / depth) for place in kept.tolist()})
    return chosen


def _build(settings: PretrainSettings, *, init_from: Path | None) -> Method:
    """Build the method; weights to start from go into the encoder first, so that a teacher copies them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(numpy_generator(settings.train.seed, 0, 0, _INITIAL).integers(1 << 62)))
        encoder: Encoder = build_encoder(settings.encoder)
        if init_from is not None:
            wanted = settings.encoder.model_dump(mode="json")
            changed = differences(load_card(init_from).encoder, wanted)
            if changed:
                listed = ", ".join(f"{key}: {theirs} there, {ours} here" for key, theirs, ours in changed)
                raise CheckpointError(f"{init_from}: its encoder is another than this run's ({listed}).")
            try:
                encoder.load_state_dict(load_weights(init_from), strict=True)
            except RuntimeError as error:
                raise CheckpointError(f"{init_from}: its weights do not fit this run's encoder. {error}") from error
        try:
            return build_method(settings.method, encoder)
        except ValueError as error:
            raise ConfigError(f"The method and the encoder do not fit each other: {error}") from error


def _open_run(out: Path, resolved: Resolved[PretrainSettings], *, resume: bool, overwrite: bool) -> Run:
    if resume:
        return Run.reopen(out, settings=resolved, say=console.say)
    return Run.create(out, settings=resolved, overwrite=overwrite, say=console.say)


def _plan_lines(
    resolved: Resolved[PretrainSettings], scans: _Scans, method: Method, out: Path, *, world_size: int | None
) -> list[str]:
    """Return what the user wants to know before a long run starts."""
    settings = resolved.settings
    train = settings.train
    presets = sorted({o for o in resolved.origins.values() if o.startswith(("preset ", "file "))})
    entries = scans.train.entries
    patients = len({e.patient or e.id for e in entries})
    kinds = "+".join(sorted({e.modality for e in entries}))
    spacing = " x ".join(f"{v:.3g}" for v in np.mean([e.spacing_mm for e in entries], axis=0))
    held = f"{len(scans.held_out)} held out for probes" if scans.held_out is not None else "none held out"
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    of_encoder = sum(p.numel() for p in method.encoder.parameters())
    window = " x ".join(map(str, method.plan.size))
    epochs = train.steps * train.batch_size / len(entries)
    slices = f" on the slices of {settings.data.slices}" if settings.data.slices else ""
    processes = f" on {world_size} processes" if world_size and world_size > 1 else ""
    return [
        f"settings: {', '.join(presets) or 'defaults'}",
        f"store: {settings.data.store}: {len(entries)} scans of {patients} patients ({kinds}, {spacing} mm); {held}",
        f"method: {settings.method.name}; encoder: {settings.encoder.name}, {of_encoder:,} of {trained:,} trained "
        "parameters",
        f"plan: {train.steps:,} steps of {train.batch_size} windows of {window}{processes}{slices}, "
        f"{epochs:,.1f} times through the scans; into {out}",
    ]


def _card(settings: PretrainSettings, scans: _Scans, method: Method) -> Card:
    entries = scans.train.entries
    encoder = method.encoder
    assert isinstance(encoder, Encoder)
    stored = "\n".join(sorted(f"{e.id} {e.file}" for e in entries))
    z, y, x = np.mean([e.spacing_mm for e in entries], axis=0).tolist()
    scales = Counter(e.scale for e in entries)
    return Card(
        encoder=settings.encoder.model_dump(mode="json"),
        in_channels=encoder.in_channels,
        channels=encoder.channels,
        strides=encoder.strides,
        spacing_mm=(z, y, x),
        modality="+".join(sorted({e.modality for e in entries})),
        scale=scales.most_common(1)[0][0],
        window=method.plan.size,
        method=settings.method.model_dump(mode="json"),
        steps=settings.train.steps,
        batch_size=settings.train.batch_size,
        data={
            "scans": len(entries),
            "patients": len({e.patient or e.id for e in entries}),
            "held_out": 0 if scans.held_out is None else len(scans.held_out),
            "store_settings": scans.train.settings,
            "fingerprint": hashlib.sha256(stored.encode()).hexdigest(),
        },
        citation=[METHODS[settings.method.name].paper, ENCODERS[settings.encoder.name].paper],
    )


def _resume_command(resolved: Resolved[PretrainSettings], preset: str | Path | None, out: Path) -> str:
    """Return the command that goes on with this run, with the settings that it was given."""
    import shlex

    from medssl.settings import flatten

    leaves = flatten(resolved.settings)
    named = {"data.store": "--data", "train.devices": "--devices"}
    words = ["medssl", "pretrain", str(preset)]
    for key, origin in resolved.origins.items():
        if origin == "command line" and key not in named and key != "method.name":
            value = leaves[key]
            words.append(f"{key}={'null' if value is None else list(value) if isinstance(value, tuple) else value}")
    words += ["--data", str(leaves["data.store"])]
    if resolved.origins.get("train.devices") == "command line":
        words += ["--devices", str(leaves["train.devices"])]
    return shlex.join([*words, "--out", str(out), "--resume"])
