"""The verb ``export``: a run's network for other programs, checked against torch where it can be run here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from medssl.domains.domain import domain_of_card
from medssl.domains.exports import Exported
from medssl.engine.card import Card, load_card
from medssl.errors import ConfigError
from medssl.settings import Settings, resolve
from medssl.workflows import events
from medssl.workflows.export_targets import EXPORTS, check_export, export_to
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places

__all__ = ["ExportResult", "ExportSettings", "export"]


class ExportSettings(Settings):
    """How a network is exported."""

    verb: ClassVar[str] = "export"

    encoder_only: bool = Field(default=False, description="Whether to export just the encoder of a fine-tuned network.")
    spacing_mm: tuple[float, float, float] | None = Field(
        default=None, description="Voxel size (z, y, x) in mm of the network's input, where the run's card names none."
    )
    dynamic_size: bool = Field(
        default=False, description="ONNX: whether z, y, x may be any multiple of the encoder's, instead of the window."
    )
    tolerance: float = Field(
        default=1e-3, gt=0, description="ONNX: greatest difference from torch, relative to the greatest output."
    )
    opset: int = Field(default=20, ge=18, le=25, description="ONNX: version of the operator set.")
    num_classes: int = Field(
        default=2, ge=2, description="nnU-Net: heads of the fresh decoder beside an encoder; nnU-Net replaces them."
    )
    nearest: bool = Field(
        default=False,
        description="nnU-Net: whether the nearest normalisation will do where it has not the network's own.",
    )
    dataset: str | None = Field(
        default=None,
        description="nnU-Net: a dataset's folder in nnUNet_preprocessed, to be trained from these weights; it gains "
        "medsslPlans.json.",
    )
    weights_only: bool = Field(
        default=False, description="nnU-Net: whether a segmenter is exported as starting weights, to be trained on."
    )
    seed: int = Field(default=0, ge=0, description="nnU-Net: seed of the fresh decoder beside an encoder.")


@dataclass(frozen=True, kw_only=True)
class ExportResult(Result):
    """What ``export`` wrote.

    Attributes:
        max_difference: Greatest difference from torch's outputs; None where the target cannot be run here.
        use: A line for the shell that has the other program use it; "" where there is none.
    """

    max_difference: float | None = None
    use: str = ""


@takes_places
def export(
    run: str | Path,
    *,
    to: str,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> ExportResult:
    """Export a run's segmenter, classifier or encoder for another program.

    The export of a classifier includes the temperature and threshold that its run chose.

    Args:
        run: A pretraining or fine-tuning run that has ended.
        to: "onnx", "monai", "nnunet", "torchscript", "hub" or "safetensors".
        out: A file for ONNX (``.onnx`` is added if it is missing), a folder for the others.
        preset: Settings by name or file.
        overrides: Settings as ``key=value``.
        dry_run: Only say what would be written.

    Returns:
        The files.

    Raises:
        ConfigError: The target is unknown or not for clouds, a setting is wrong, or ``out`` is the run's own folder.
        CheckpointError: The run has no finished network.
        DataError: The network cannot be expressed there, or differs from torch when run.
    """
    check_export(to)
    run, out = Path(run), export_to(to, out)
    if out.resolve() == run.resolve():
        raise ConfigError(f"{out} is the run itself. Give a folder of its own with --out.")
    settings = resolve(ExportSettings, preset=preset, overrides=overrides).settings
    card = load_card(run)
    _say_licence(card)
    domain = domain_of_card(card)
    check_export(to, what=str(run), domain=domain)
    form = domain.exporting.ready(run, to, out, settings)
    events.message(f"{run}: {form.words}; to {EXPORTS[to].words}")
    if form.more:
        events.message(form.more)
    if dry_run:
        return events.written(ExportResult())
    found: Exported = form.write()
    for line in found.warned:
        events.warning(line)
    for line in found.said:
        events.message(line)
    done = events.written(
        ExportResult(
            written=tuple(found.files),
            max_difference=found.max_difference,
            use=found.following,
            figures={"max_difference": found.max_difference, "use": found.following or None},
        )
    )
    if done.use:
        events.message(f"to use it there: {done.use}")
    return done


def _say_licence(card: Card) -> None:
    """Say where published weights are from, and warn of what their licence does not let be passed on."""
    if card.origin is None:
        return
    events.message(f"from published weights: {card.origin.title} ({card.origin.source}); {card.origin.licence_line}")
    if card.origin.forbids:
        events.warning(
            f"the licence of these weights, or of what they were made from, is {', '.join(card.origin.forbids)}: "
            f"read it before you pass the export on ({card.origin.published})"
        )
