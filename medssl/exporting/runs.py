"""From the folder of a run to what an export needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from medssl.engine.card import Card, load_card, load_encoder, load_weights
from medssl.engine.predicts import predicts_as
from medssl.errors import DataError
from medssl.evaluation.calibration import read_decision
from medssl.exporting.exportable import Exportable, ExportInput
from medssl.quoting import quoted
from medssl.store.resample import same_spacing
from medssl.tasks.classifier import load_classifier
from medssl.tasks.segmenter import load_segmenter
from medssl.tasks.settings.inference import InferenceSettings

__all__ = ["exportable_of"]

Spacing = tuple[float, float, float]
_SMALLEST = 64  # voxels along an axis of the window that is assumed where the card names none


def exportable_of(
    run: Path, *, encoder_only: bool = False, spacing_mm: Spacing | None = None, sized: bool = True
) -> Exportable:
    """Load a run's segmenter or classifier, or its encoder where it is a pretraining run or ``encoder_only`` is set.

    Args:
        run: The folder of a run that has ended.
        encoder_only: Take the encoder out of a segmenter or classifier.
        spacing_mm: Voxel size of the input, (z, y, x), where the card names none.
        sized: Whether the input's voxel size must be known. Weights and card alone go without, as they came.

    Raises:
        CheckpointError: Card or weights are missing or damaged.
        DataError: The card says too little to export the network (no voxel size).
    """
    card = load_card(run)
    own = card.spacing_mm or spacing_mm
    if own is None and sized:
        raise DataError(
            f"{run}: the card names no spacing_mm, so nobody could prepare the exported network's input. Say it, as "
            f"its makers did: medssl export {quoted(run)} ... spacing_mm=[Z,Y,X]. Or train it on a store, whose size "
            f"it then has: medssl finetune {quoted(run)} --data STORE --out TUNED; or medssl "
            f"pretrain METHOD --data STORE --init-from {quoted(run)} --out ON."
        )
    if spacing_mm is not None and own is not None and not same_spacing(own, spacing_mm):
        raise DataError(
            f"{run}: the card says {own} mm, and spacing_mm={list(spacing_mm)} something else. Leave it out."
        )
    intensity = card.scale if card.modality == "CT" else None
    stored = dict(card.data.get("store_settings", {}))
    kept, (low, high) = stored.get("hu_range"), stored.get("percentiles") or (0.5, 99.5)
    inputs = tuple(
        ExportInput(
            c.name,
            c.modality,
            c.scale if c.modality == "CT" else None,
            c.normalise,
            c.numbers,
            None if kept is None or c.modality != "CT" else (float(kept[0]), float(kept[1])),
            (float(low), float(high)),
        )
        for c in card.inputs
    )
    notes = {
        "method": card.method,
        "steps": card.steps,
        "data": card.data,
        "citation": card.citation,
        "medssl": card.medssl,
        **({} if card.origin is None else {"origin": card.origin.model_dump(mode="json")}),
    }
    exportable = partial(
        Exportable,
        name=run.resolve().name,
        spacing_mm=None if own is None else _spacing(own, stored.get("spacings_mm")),
        modality=card.modality,
        intensity=intensity,
        notes=notes,
        inputs=inputs,
        interpolation=str(stored.get("interpolation", "cubic")),
        grid=str(stored.get("grid", "spacing")),
        kept_voxels=stored.get("spacing_mm") == "keep",
        crop_mm=float(stored.get("crop_margin_mm", 10.0)) if stored.get("crop") else None,
    )
    if "network.safetensors" in card.weights and not encoder_only and card.method.get("name") == "classification":
        classifier = load_classifier(run)
        return exportable(
            network=classifier.network.eval(),
            window=classifier.settings.window,
            classes=classifier.class_names,
            decision=read_decision(run, classifier.class_names),
            looks=classifier.settings,
        )
    if "network.safetensors" in card.weights and not encoder_only:
        task = load_segmenter(run)
        said = InferenceSettings.model_validate(predicts_as(run, card)["inference"])
        return exportable(
            overlap=said.overlap,
            mirror=said.mirror,
            steps=said.steps,
            network=task.network.eval(),
            window=task.settings.window,
            classes=task.class_names if task.regions else ("background", *task.class_names),
            structures=task.output.numbers[1:] if task.regions else task.output.numbers,
            regions=task.regions,
        )
    encoder = load_encoder(run)
    return exportable(
        network=encoder,
        decoder=load_weights(run, "decoder") if "decoder.safetensors" in card.weights else None,
        window=_fitting(card, encoder.size_multiple),
    )


def _spacing(mean: Spacing, of_modalities: Mapping[str, Sequence[float]] | None) -> Spacing:
    """Return the voxel size that the store was made with, to the last bit: half a voxel decides on a whole one.

    Args:
        mean: What the card says, the mean over the store's scans.
        of_modalities: What the store gave to each modality.
    """
    for z, y, x in (of_modalities or {}).values():
        if same_spacing(mean, (float(z), float(y), float(x))):
            return float(z), float(y), float(x)
    return mean


def _fitting(card: Card, multiple: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the training window cut to a size the encoder takes; methods cut smaller views from larger windows."""
    wanted = card.window or (_SMALLEST, _SMALLEST, _SMALLEST)
    steps = [max(1, length // step) for length, step in zip(wanted, multiple, strict=True)]
    if max(steps) == 1:  # an encoder takes no window that shrinks to a single place
        steps = [2] * 3
    z, y, x = (count * step for count, step in zip(steps, multiple, strict=True))
    return z, y, x
