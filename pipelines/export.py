"""The verb ``export``: a run's network for other programs, checked against torch where it can be run here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from medssl.engine.card import Card, load_card, save_encoder
from medssl.errors import ConfigError
from medssl.evaluation.calibration import DECISION, decision_words
from medssl.exporting.exportable import Exportable, write_json, write_text
from medssl.exporting.runs import exportable_of
from medssl.quoting import quoted
from medssl.settings import Settings, resolve
from pipelines import console
from pipelines.export_clouds import export_clouds
from pipelines.export_targets import EXPORTS, check_export

__all__ = ["ExportResult", "ExportSettings", "export"]


class ExportSettings(Settings):
    """How a network is exported."""

    verb: ClassVar[str] = "export"

    encoder_only: bool = Field(default=False, description="Whether to export just the encoder of a fine-tuned network.")
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
    seed: int = Field(default=0, ge=0, description="nnU-Net: seed of the fresh decoder beside an encoder.")


@dataclass(frozen=True)
class ExportResult:
    """What ``export`` wrote.

    Attributes:
        written: The files.
        max_difference: Greatest difference from torch's outputs; None where the target cannot be run here.
    """

    written: tuple[Path, ...]
    max_difference: float | None = None


def export(
    run: str | Path,
    *,
    to: str,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> ExportResult:
    """Write a run's segmenter, classifier or encoder in the form of another program.

    A classifier takes along the temperature and threshold that its run chose.

    Args:
        run: A pretraining or fine-tuning run that has ended.
        to: "onnx", "monai", "nnunet" or "safetensors".
        out: A file for ONNX (``.onnx`` is put behind a name without it), a folder for the others.
        preset: Settings by name or file.
        overrides: Settings as ``key=value``.
        dry_run: Say what would be written; write nothing.

    Returns:
        The files.

    Raises:
        ConfigError: The target is unknown or not for clouds, a setting is wrong, or ``out`` is the run's own folder.
        CheckpointError: The run has no finished network.
        DataError: The network cannot be expressed there, or differs from torch when run.
    """
    check_export(to)
    run, out = Path(run), Path(out)
    if out.resolve() == run.resolve():
        raise ConfigError(f"{out} is the run itself. Give a folder of its own with --out.")
    settings = resolve(ExportSettings, preset=preset, overrides=overrides).settings
    card = load_card(run)
    _say_licence(card)
    if card.kind == "cloud":
        console.say(f"{run}: a run on clouds; to {EXPORTS[to].words}")
        files = () if dry_run else export_clouds(run, card, to, out, encoder_only=settings.encoder_only)
        console.done(list(files))
        return ExportResult(files)
    model = exportable_of(run, encoder_only=settings.encoder_only)
    console.say(f"{run}: {model.kind}, window {' x '.join(map(str, model.window))}; to {EXPORTS[to].words}")
    if model.decision is not None:
        console.say(decision_words(model.decision, model.classes))
    if dry_run:
        console.done(None)
        return ExportResult(())
    if to == "onnx":
        result = _to_onnx(model, out, settings)
    elif to == "monai":
        from medssl.exporting.monai_bundle import export_monai_bundle

        bundle = export_monai_bundle(model, out)
        result = ExportResult(tuple(bundle.written), bundle.max_difference)
        console.say(f"network: {bundle.how}; {bundle.max_difference:.2g} from torch at most")
    elif to == "nnunet":
        result = _to_nnunet(model, out, settings)
    else:
        result = _to_safetensors(run, model, out)
    place = quoted(out)
    next_command = {
        "monai": f'cd {place} && python -c "from monai.bundle import run; '
        "run(config_file='configs/inference.json', bundle_root='.', dataset_dir='SCANS')\"",
        "nnunet": f"nnUNetv2_predict_from_modelfolder -i SCANS -o OUT -m {place} -f all" if model.is_segmenter else "",
    }.get(to, "")
    console.done(list(result.written), next_command, max_difference=result.max_difference)
    return result


def _say_licence(card: Card) -> None:
    """Say where published weights are from, and warn of what their licence does not let be passed on."""
    if card.origin is None:
        return
    console.say(f"from published weights: {card.origin.title} ({card.origin.source}); {card.origin.licence_line}")
    if card.origin.forbids:
        console.warn(
            f"the licence of these weights, or of what they were made from, is {', '.join(card.origin.forbids)}: "
            f"read it before you pass the export on ({card.origin.published})"
        )


def _to_onnx(model: Exportable, out: Path, settings: ExportSettings) -> ExportResult:
    from medssl.exporting.onnx import export_onnx

    path = out if out.suffix == ".onnx" else out.with_name(f"{out.name}.onnx")
    report = export_onnx(
        model, path, dynamic_size=settings.dynamic_size, tolerance=settings.tolerance, opset=settings.opset
    )
    console.say(
        f"opset {report.opset}; input images {report.inputs['images']}; outputs {', '.join(report.outputs)}; "
        f"{report.max_difference:.2g} from torch at most, of outputs up to {report.max_output:.3g}"
    )
    return ExportResult((report.path, report.path.with_suffix(".json")), report.max_difference)


def _to_nnunet(model: Exportable, out: Path, settings: ExportSettings) -> ExportResult:
    from medssl.exporting.nnunet import NNUNET_VERSION, export_pretrained_weights, export_trained_model

    if model.is_segmenter:
        written = export_trained_model(model, out)
    else:
        if model.is_classifier:
            console.warn("nnU-Net has no classifiers: the encoder goes alone, as starting weights")
            model = replace(model, network=model.encoder, classes=(), decision=None, looks=None)
        written = export_pretrained_weights(model, out, num_classes=settings.num_classes, seed=settings.seed)
    console.say(f"tested with nnunetv2 {NNUNET_VERSION}")
    return ExportResult(tuple(written))


_LOADERS = {
    "segmenter": "from medssl.tasks.segmenter import load_segmenter\n\nsegmenter = load_segmenter(FOLDER)",
    "classifier": "import medssl\n\nmodel = medssl.load_model(FOLDER)\nmodel.predict(SCAN).predicted",
    "encoder": "from medssl.engine.card import load_encoder\n\nencoder = load_encoder(FOLDER)",
}


def _to_safetensors(run: Path, model: Exportable, out: Path) -> ExportResult:
    out.mkdir(parents=True, exist_ok=True)
    others = {} if model.kind == "encoder" else {"network": model.network}
    written = [*save_encoder(model.encoder, load_card(run), out, others=others)]
    about = f"# {model.name}\n\n`card.json` says how the input is made.\n\n```python\n{_LOADERS[model.kind]}\n```\n"
    if model.decision is not None:
        written.append(write_json(out / DECISION, asdict(model.decision)))
        about += f"\n{decision_words(model.decision, model.classes)}\n"
    return ExportResult((*written, write_text(out / "README.md", about)))
