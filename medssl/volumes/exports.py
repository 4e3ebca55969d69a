"""Networks on scans for other programs: ONNX, MONAI bundles, nnU-Net, and weights with their card."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medssl.domains.exports import Exported, Exports, Form
from medssl.engine.card import load_card, save_encoder
from medssl.evaluation.calibration import DECISION, decision_words
from medssl.exporting.exportable import Exportable, write_json, write_text
from medssl.exporting.runs import exportable_of
from medssl.quoting import quoted

__all__ = ["EXPORTS", "ScanExports", "renumbered"]


class ScanExports(Exports):
    """Networks on scans."""

    def ready(self, run: Path, to: str, out: Path, settings: Any) -> Form:
        """Return a segmenter, a classifier with its temperature and threshold, or an encoder."""
        sized = to not in ("hub", "safetensors")  # those are read back here, and whoever trains on says the size
        model = exportable_of(run, encoder_only=settings.encoder_only, spacing_mm=settings.spacing_mm, sized=sized)
        ways = {
            "onnx": lambda: _to_onnx(model, out, settings),
            "monai": lambda: _to_monai(model, out),
            "nnunet": lambda: _to_nnunet(model, out, settings),
            "torchscript": lambda: _to_torchscript(model, out),
            "hub": lambda: _to_hub(run, model, out),
            "safetensors": lambda: _to_safetensors(run, model, out),
        }
        decided = "" if model.decision is None else decision_words(model.decision, model.classes)
        return Form(f"{model.kind}, window {' x '.join(map(str, model.window))}", decided, ways[to])


def _to_onnx(model: Exportable, out: Path, settings: Any) -> Exported:
    from medssl.exporting.onnx import STANDING_ALONE, export_onnx

    path = out if out.suffix == ".onnx" else out.with_name(f"{out.name}.onnx")
    report = export_onnx(
        model, path, dynamic_size=settings.dynamic_size, tolerance=settings.tolerance, opset=settings.opset
    )
    said = (
        f"opset {report.opset}; input images {report.inputs['images']}; outputs {', '.join(report.outputs)}; "
        f"{report.max_difference:.2g} from torch at most, of outputs up to {report.max_output:.3g}"
    )
    beside = [report.path.with_name(name) for name in STANDING_ALONE]
    names = [channel.name for channel in model.inputs]
    scan = quoted(",".join(f"{name.upper()}.nii.gz" for name in names)) if len(names) > 1 else "SCAN.nii.gz"
    following = f"python {quoted(beside[-1])} {quoted(report.path)} OUT {scan}"
    files = (report.path, report.path.with_suffix(".json"), *beside)
    return Exported(files, report.max_difference, (said,), following=following)


def _to_nnunet(model: Exportable, out: Path, settings: Any) -> Exported:
    import torch

    from medssl.exporting.nnunet import (
        NNUNET_VERSION,
        export_pretrained_weights,
        export_trained_model,
        starting_network,
    )
    from medssl.exporting.nnunet_plans import CONFIGURATION, PLANS, kind_of
    from medssl.exporting.nnunet_scheme import must_be_held

    tested = f"tested with nnunetv2 {NNUNET_VERSION}"
    dataset = None if settings.dataset is None else Path(settings.dataset)
    if model.is_segmenter and dataset is None and not settings.weights_only:
        kind_of(model)  # no other input would make another network fit
        warned = [*must_be_held(model, nearest=settings.nearest)]
        written = export_trained_model(model, out)
        step = "" if model.overlap == 0.5 else f" -step_size {1 - model.overlap:g}"
        names = ", ".join(f"CASE_{n:04d}.nii.gz ({c.name})" for n, c in enumerate(model.channels))
        said = (f"{tested}; it reads {names} from a folder",)
        warned += renumbered(model)
        device = "" if torch.cuda.is_available() else " -device cpu"
        command = f"nnUNetv2_predict_from_modelfolder -i SCANS -o OUT -m {quoted(out)} -f all{step}{device}"
        return Exported(tuple(written), said=said, warned=tuple(warned), following=command)
    warned = []
    if model.is_classifier:
        warned = ["nnU-Net has no classifiers: the encoder goes alone, as starting weights"]
        model = replace(model, network=model.encoder, classes=(), decision=None, looks=None)
    start = starting_network(model, num_classes=settings.num_classes, seed=settings.seed)
    warned += [start.words] if start.fresh else []
    written = export_pretrained_weights(model, out, start=start, dataset=dataset)
    number = "DATASET" if dataset is None else dataset.resolve().name.removeprefix("Dataset").split("_")[0]
    following = (
        f"nnUNetv2_preprocess -d {number} -plans_name {PLANS} -c {CONFIGURATION} && nnUNetv2_train {number} "
        f"{CONFIGURATION} 0 -p {PLANS} -pretrained_weights {quoted(out / 'pretrained.pth')}"
        + ("" if torch.cuda.is_available() else " -device cpu")
    )
    if dataset is None:
        following = f"{quoted(out / 'README.md')} says how: give dataset=FOLDER, and nnU-Net's plan is written too"
    more = (tested,) if start.fresh else (tested, start.words)
    return Exported(tuple(written), said=more, warned=tuple(warned), following="" if dataset is None else following)


def renumbered(model: Exportable) -> list[str]:
    """Return what is said where nnU-Net, whose labels have no gaps, writes other numbers than the run."""
    if model.regions:
        return []
    moved = [
        f"{number} ({name}) is {channel}"
        for channel, (number, name) in enumerate(zip(model.structures, model.classes, strict=True))
        if number != channel
    ]
    if not moved:
        return []
    return [f"nnU-Net numbers labels without gaps, so its maps have other numbers than the run's: {', '.join(moved)}"]


def _to_monai(model: Exportable, out: Path) -> Exported:
    from medssl.exporting.monai_bundle import export_monai_bundle

    bundle = export_monai_bundle(model, out)
    following = (
        f'cd {quoted(out)} && python -c "from monai.bundle import run; '
        "run(config_file='configs/inference.json', bundle_root='.', dataset_dir='SCANS')\""
    )
    said = (f"network: {bundle.how}; {bundle.max_difference:.2g} from torch at most",)
    return Exported(tuple(bundle.written), bundle.max_difference, said, following=following)


def _to_torchscript(model: Exportable, out: Path) -> Exported:
    from medssl.exporting.torchscript import export_torchscript

    path = out if out.suffix in (".pt", ".ts") else out.with_name(f"{out.name}.pt")
    files, difference = export_torchscript(model, path)
    return Exported(tuple(files), difference, (f"{difference:.2g} from torch at most",))


def _to_hub(run: Path, model: Exportable, out: Path) -> Exported:
    from medssl.exporting.hub import write_hub_files

    plain = _to_safetensors(run, model, out)
    written = dict.fromkeys((*plain.files, *write_hub_files(model, load_card(run), out)))
    said = ("nothing was uploaded: hf upload NAME FOLDER does; choose the licence in README.md first",)
    following = f"medssl import {quoted(out)} --out runs/{quoted(run.resolve().name)}-again"
    return Exported(tuple(written), said=said, following=following)


_LOADERS = {
    "segmenter": "from medssl.tasks.segmenter import load_segmenter\n\nsegmenter = load_segmenter(FOLDER)",
    "classifier": "import medssl\n\nmodel = medssl.load_model(FOLDER)\nmodel.predict(SCAN).predicted",
    "encoder": "from medssl.engine.card import load_encoder\n\nencoder = load_encoder(FOLDER)",
}


def _to_safetensors(run: Path, model: Exportable, out: Path) -> Exported:
    out.mkdir(parents=True, exist_ok=True)
    others = {} if model.kind == "encoder" else {"network": model.network}
    card = load_card(run)
    card = card.model_copy(update={"spacing_mm": card.spacing_mm or model.spacing_mm})
    written = [*save_encoder(model.encoder, card, out, others=others)]
    about = f"# {model.name}\n\n`card.json` says how the input is made.\n\n```python\n{_LOADERS[model.kind]}\n```\n"
    if model.decision is not None:
        written.append(write_json(out / DECISION, asdict(model.decision)))
        about += f"\n{decision_words(model.decision, model.classes)}\n"
    return Exported((*written, write_text(out / "README.md", about)))


EXPORTS = ScanExports()
