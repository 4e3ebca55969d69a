"""From a published file of weights to a run's folder: encoder, decoder where it is exact, card and report."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medssl.decoder import DecoderBlocks
from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, Origin, save_encoder
from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.quoting import quoted
from medssl.store.write import CT_SCALE, MR_SCALE
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask
from medssl.tasks.segmenter import describe_segmenter
from medssl.weights.finding import Found, Wanted, found_at
from medssl.weights.refused import refused_by_name, refused_by_tensors
from medssl.weights.renaming import ImportReport, fill, rename
from medssl.weights.source import Source
from medssl.weights.table import SOURCES
from medssl.writing import atomic_write

__all__ = ["REPORT", "Ready", "ready", "recognised", "write_run"]

REPORT = "import.json"
_SEED = 0  # of parts that a file does not hold
_SHOWN = 10
_CLOUD_ENCODERS = "pointcloud.encoders.table.CLOUD_ENCODERS"


@dataclass(frozen=True)
class Ready:
    """Weights that were read, renamed and loaded, before anything is written.

    Attributes:
        source: Row of the table.
        wanted: What was recognised.
        modules: What is written, by the names of their files: encoder, and decoder or network.
        card: The card.
        report: What became of every tensor.
    """

    source: Source
    wanted: Wanted
    modules: Mapping[str, nn.Module]
    card: Card
    report: ImportReport


def ready(path: Path, *, named: str = "") -> Ready:
    """Read a file or folder of published weights, recognise it, and load all of it that has a place here.

    Args:
        path: The file, or the folder that holds it and its plans.
        named: Row of the table; "" recognises it.

    Raises:
        FormatError: The file cannot be read, or would execute something.
        ConfigError: There is no such row; or it is recognised as none, or as several.
        DataError: A tensor has no place, is lacking, differs in shape or is not finite; or its network is none of ours.
    """
    found = found_at(Path(path))
    source, wanted = recognised(found, named=named)
    try:
        renamed = rename(wanted.state, wanted.rules, source=found.shown)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            network, modules, more = _built(wanted)
        report = fill(network, renamed, part_of=wanted.part_of, may_be_fresh=wanted.may_be_fresh, source=found.shown)
    except DataError as error:
        raise DataError(f"{error} {_whole(source)}") from error
    report = ImportReport(report.rows, report.shares, found.other_places(wanted.place))
    origin = _origin(source, found, wanted)
    card = _card(source, wanted, modules["encoder"], origin).model_copy(update=more)
    return Ready(source, wanted, modules, card, report)


def recognised(found: Found, *, named: str = "") -> tuple[Source, Wanted]:
    """Return the row that a file is of.

    Raises:
        ConfigError: None or several are; the message has what is near, and what the file holds.
    """
    if named:
        if (refused_row := refused_by_name(named)) is not None:
            raise ConfigError(f"{found.shown}: {refused_row.words}.")
        source = SOURCES.row(named)
        wanted = _taken_by(source, found)
        if wanted is None:
            raise ConfigError(f"{found.shown}: is not of '{named}' ({source.title}). {_holds(found)}")
        return source, wanted
    taken: list[tuple[Source, Wanted]] = []
    refused: list[DataError] = []
    for row in SOURCES.values():
        try:
            wanted = _taken_by(row, found)
        except DataError as error:
            refused.append(error)
            continue
        if wanted is not None:
            taken.append((row, wanted))
    sure = [each for each in taken if each[1].sure]
    if len(sure) == 1:
        return sure[0]
    if taken:
        several = ", ".join(row.name for row, _ in sure or taken)
        first = (sure or taken)[0][0].name
        raise ConfigError(
            f"{found.shown}: its tensors may be of {several}, which differ in how their input is made and not in their "
            f"tensors. Say which it is: --as {first}. See them with: medssl list weights"
        )
    for state in found.container.states.values():
        if (refused_row := refused_by_tensors(state)) is not None:
            raise ConfigError(f"{found.shown}: {refused_row.words}.")
    if refused:
        raise refused[0]
    raise ConfigError(f"{found.shown}: is none of the published weights that are known. {_holds(found)}")


def write_run(made: Ready, folder: Path) -> list[Path]:
    """Write the run into a folder that exists: weights, report, and the card last.

    Returns:
        The files.
    """
    report = folder / REPORT
    content = {
        "source": made.source.name,
        "sha256": made.card.origin.sha256 if made.card.origin else "",
        "evidence": list(made.wanted.evidence),
        "guesses": list(made.wanted.guesses),
        "encoder": made.card.encoder,
        **made.report.as_dict(),
    }
    with atomic_write(report) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    others = {name: module for name, module in made.modules.items() if name != "encoder"}
    return [report, *save_encoder(made.modules["encoder"], made.card, folder, others=others)]


def _built(wanted: Wanted) -> tuple[nn.Module, dict[str, nn.Module], dict[str, Any]]:
    """Return the fresh network with "encoder." and "decoder.", what is kept of it, and more of the card."""
    if wanted.kind == "cloud":
        encoder: nn.Module = pkgutil.resolve_name(_CLOUD_ENCODERS).build(dict(wanted.encoder))
        return nn.ModuleDict({"encoder": encoder}), {"encoder": encoder}, {}
    encoder = build_encoder(dict(wanted.encoder))
    said = wanted.decoder
    if said is None:
        return nn.ModuleDict({"encoder": encoder}), {"encoder": encoder}, {}
    convs = {"decoder_convs": said.convs}
    if said.classes is None:
        decoder = DecoderBlocks(encoder, convs_per_stage=said.convs)
        return nn.ModuleDict({"encoder": encoder, "decoder": decoder}), {"encoder": encoder, "decoder": decoder}, convs
    settings = SegmentationSettings(window=said.window, convs_per_stage=said.convs, deep_supervision=True)
    task = SegmentationTask(settings, encoder, said.classes)
    more = {"method": describe_segmenter(task, said.classes, start=""), **convs}
    return task.network, {"encoder": encoder, "network": task.network}, more


def _taken_by(row: Source, found: Found) -> Wanted | None:
    """Ask a row whether a file is of it. Plans are others' text: where they lack or mix up something, it is said."""
    try:
        wanted: Wanted | None = pkgutil.resolve_name(row.target)(found)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        lacking = error.args[0] if isinstance(error, KeyError) and error.args else None
        if isinstance(lacking, str) and lacking.endswith((".weight", ".bias")):
            raise DataError(f"{found.shown}: '{lacking}' is missing. {_whole(row)}") from error
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        where = ", ".join(found.beside) or "within the file"
        raise DataError(
            f"{found.shown}: what it says of itself ({where}) is not as {row.name} writes it ({said}). Take it from "
            "where the weights are from."
        ) from error
    return wanted


def _whole(source: Source) -> str:
    """Return what to do about a file whose tensors are not those of its kind."""
    return (
        f"A file of '{source.name}' must hold all of its tensors, as published ({source.published}): take the complete "
        f"file, unchanged. See: medssl show {quoted(source.name)}"
    )


def _origin(source: Source, found: Found, wanted: Wanted) -> Origin:
    return Origin(
        source=source.name,
        title=source.title,
        published=source.published,
        code=source.code.name,
        weights=source.weights.name,
        limits=tuple(dict.fromkeys((*source.code.limits, *source.weights.limits))),
        sha256=found.container.sha256,
        input=source.input,
        guesses=wanted.guesses,
        facts={name: value for name, value in wanted.facts.items() if name != "card"},
    )


def _card(source: Source, wanted: Wanted, encoder: Any, origin: Origin) -> Card:
    """Return the card; where the voxel size is known, as a store that was made for the network would have it."""
    if wanted.kind == "cloud":
        return Card(
            kind="cloud",
            encoder=encoder.settings.model_dump(mode="json"),
            in_channels=3,
            channels=encoder.channels,
            method={"name": source.name},
            citation=[source.paper],
            origin=origin,
            **wanted.facts.get("card", {}),
        )
    modalities = sorted({one.modality for one in wanted.inputs if one.modality})
    stored: dict[str, Any] = {}
    if wanted.spacing_mm is not None:
        spacing = list(wanted.spacing_mm)
        stored = {"spacing_mm": spacing, "spacings_mm": dict.fromkeys(modalities or ["MR"], spacing)}
    settings = encoder.settings.model_dump(mode="json")
    inputs = tuple(
        one
        if one.normalise == "unit"
        else one.model_copy(update={"scale": CT_SCALE if one.modality == "CT" else MR_SCALE})
        for one in wanted.inputs
    )
    return Card(
        encoder={**settings, "in_channels": encoder.in_channels},
        in_channels=encoder.in_channels,
        inputs=inputs,
        scale=inputs[0].scale,
        channels=encoder.channels,
        strides=encoder.strides,
        spacing_mm=wanted.spacing_mm,
        modality="+".join(modalities),
        window=wanted.window,
        method={"name": source.name},
        data={"store_settings": stored},
        citation=[source.paper],
        origin=origin,
    )


def _holds(found: Found) -> str:
    """Return what a file holds, and the rows that are near, for a refusal."""
    keys = [f"{place}: {name}" if place else name for place, names in found.container.states.items() for name in names]
    shown = ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
    stem = found.container.path.stem.lower()
    near = [row.name for row in SOURCES.values() if any(word in stem for word in row.name.split("-"))]
    hint = f"By its name it is near {', '.join(near)}. " if near else f"{did_you_mean(stem, SOURCES)} "
    if any("encoder.stages.0." in key for key in keys):
        hint = (
            "Its names are those of nnU-Net, and no plans are there: give the folder TRAINER__PLANS__CONFIGURATION "
            "with plans.json, or the checkpoint as nnU-Net wrote it. "
        )
    return f"{hint}It holds {len(keys)} tensors: {shown}. See what is known with: medssl list weights"
