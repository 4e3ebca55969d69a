"""To a MONAI bundle: a folder that ``monai.bundle.run`` takes, on a machine without this project."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medssl import __version__
from medssl.errors import DataError
from medssl.evaluation.calibration import decision_words
from medssl.exporting.bundle_schema import SCHEMA_URL, metadata_schema
from medssl.exporting.classifying import bundle_of_classes, fitting_transforms
from medssl.exporting.exportable import Exportable, example_input, write_json, write_text
from medssl.exporting.inert import inert
from medssl.exporting.monai_network import FromPatientAxes, dynunet_arguments, dynunet_state, write_torchscript
from medssl.exporting.monai_training import training_config
from medssl.exporting.standing_alone import standing_alone
from medssl.writing import atomic_write

__all__ = ["Bundle", "export_monai_bundle"]

_TOLERANCE = 1e-3  # of the greatest output
_RESAMPLED: dict[str, Any] = {"spacing_mm": None, "crop_mm": None, "grid": "spacing"}  # by MONAI, before


@dataclass(frozen=True)
class Bundle:
    """What was written.

    Attributes:
        folder: The bundle.
        how: What MONAI builds the network from.
        written: The files.
        max_difference: Greatest difference of the loaded network's output from torch's.
    """

    folder: Path
    how: str
    written: tuple[Path, ...]
    max_difference: float


def export_monai_bundle(model: Exportable, folder: Path) -> Bundle:
    """Write a bundle, load its network back through MONAI's own parser and compare the outputs.

    A classifier's writes ``eval/classes.json``: calibrated probabilities, and the class by the run's threshold. A
    segmenter's ``configs/inference.json`` reorients, resamples and scales each scan of ``dataset_dir``, segments it
    by sliding windows and writes a label map on the scan's own grid. An encoder's writes one vector a scan, of the
    window at its centre. Neither needs pytorch-ignite.

    Args:
        model: An encoder, a segmenter, or a classifier of whole scans.
        folder: Where the bundle goes.

    Raises:
        DataError: The loaded network differs from torch, or is a classifier of slices.
    """
    device = next(model.network.parameters()).device
    model.network.eval().to("cpu")
    try:
        arguments = dynunet_arguments(model)
        if arguments is not None:
            how = "monai.networks.nets.DynUNet"
            weights = _save(dynunet_state(model.network.state_dict()), folder / "models" / "model.pt")
        else:
            how = "TorchScript"
            weights = write_torchscript(model, folder / "models" / "model.ts")
        inference = _inference(model, arguments)
        config = write_json(folder / "configs" / "inference.json", inference)
        more = [write_json(folder / "configs" / "schema.json", metadata_schema())]
        if model.is_segmenter and len(model.channels) == 1:
            more.append(write_json(folder / "configs" / "train.json", training_config(model, inference)))
        metadata = write_json(folder / "configs" / "metadata.json", inert(_metadata(model, how)))
        about = write_text(folder / "docs" / "README.md", _readme(model, how))
        script = write_text(folder / "scripts" / "medssl_input.py", standing_alone("medssl_input.py"))
        difference, greatest = _compare(model, config, folder)
    finally:
        model.network.to(device)
    if not difference <= _TOLERANCE * max(greatest, 1.0):
        raise DataError(
            f"{folder}: the bundle's network differs from torch by {difference:.2g} (greatest output {greatest:.2g}); "
            "do not use it."
        )
    return Bundle(folder, how, (weights, config, metadata, about, script, *more), difference)


def _inference(model: Exportable, arguments: dict[str, Any] | None) -> dict[str, Any]:
    """Return ``configs/inference.json``."""
    config: dict[str, Any] = {
        "imports": [
            "$import functools",
            "$import glob",
            "$import os",
            "$import runpy",
            "$import numpy",
            "$import torch",
        ],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/scans'",
        "output_dir": "$@bundle_root + '/eval'",
        **_datalist(model),
        "preparing": inert({**model.preparing(), **_RESAMPLED}),
        "seen": "$runpy.run_path(os.path.join(@bundle_root, 'scripts', 'medssl_input.py'))['seen']",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    }
    if arguments is not None:
        config["network_def"] = {"_target_": "DynUNet", **arguments}
        config["weights"] = "$torch.load(@bundle_root + '/models/model.pt', map_location='cpu', weights_only=True)"
        # DynUNet registers its blocks a second time under skip_layers; those names are not in the file
        config["load"] = "$@network_def.load_state_dict(@weights, strict=False)"
        config["network"] = "$(@load, @network_def.to(@device).eval())[1]"
    else:
        config["network_def"] = "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)"
        config["network"] = "$@network_def.to(@device).eval()"
    config["preprocessing"] = {"_target_": "Compose", "transforms": _preprocessing(model)}
    ask = [
        {"_target_": "CopyItemsd", "keys": "image", "names": "pred"},
        {"_target_": "EnsureTyped", "keys": "pred", "device": "@device"},
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda image: image[None]"},
        {
            "_target_": "Lambdad",
            "keys": "pred",
            "func": "$functools.partial(torch.no_grad()(@inferer), network=@network)",
        },
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda batch: batch[0]"},
    ]
    config["predicting"] = {"_target_": "Compose", "transforms": ask}
    several = len(model.channels) > 1
    if model.is_classifier:
        config["imports"] += ["$import json", "$import monai"]
        return config | bundle_of_classes(model, several=several)
    return config | (_segmenting(model) if model.is_segmenter else _embedding(several=several))


def _datalist(model: Exportable) -> dict[str, Any]:
    """Return which files are a case: one, or of several channels one each, CASE_NAME.nii.gz."""
    names = [channel.name for channel in model.channels]
    if len(names) == 1:
        return {"datalist": "$[{'image': p} for p in sorted(glob.glob(os.path.join(@dataset_dir, '*.nii*')))]"}
    first = f"_{names[0]}.nii"
    return {
        "channels": names,
        "first": first,
        "cases": "$sorted(glob.glob(os.path.join(@dataset_dir, '*' + @first + '*')))",
        "datalist": "$[{'image': [('_' + c + '.nii').join(p.rsplit(@first, 1)) for c in @channels]} for p in @cases]",
    }


def _scaling(model: Exportable) -> dict[str, Any]:
    """Return the transform that scales intensities as training did: a window in HU, or what the body's box holds."""
    made = "torch.as_tensor(@seen(numpy.asarray(image.cpu()), @preparing))"
    return {"_target_": "Lambdad", "keys": "image", "func": f"$lambda image: image.float().copy_({made})"}


def _preprocessing(model: Exportable) -> list[dict[str, Any]]:
    """Return the transforms that make of a scan what the network was trained on."""
    transforms: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {
            "_target_": "Spacingd",
            "keys": "image",
            "pixdim": list(model.voxels_mm[::-1]),
            "mode": 3 if model.interpolation == "cubic" else 1,
            "padding_mode": "nearest",
        },
        _scaling(model),
    ]
    if model.is_classifier:
        transforms += fitting_transforms(model)
    elif not model.is_segmenter:
        size = list(model.window[::-1])
        transforms.append({"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": size})
    return [*transforms, {"_target_": "EnsureTyped", "keys": "image"}]


def _segmenting(model: Exportable) -> dict[str, Any]:
    """Return the entries of a segmenter: sliding windows, and label maps on the grid of the scan."""
    post: list[dict[str, Any]] = [
        {"_target_": "Activationsd", "keys": "pred", **({"sigmoid": True} if model.regions else {"softmax": True})},
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        _writing(model) if model.regions else {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    ]
    if not model.regions and model.structures != tuple(range(len(model.structures))):
        channels, numbers = list(range(len(model.structures))), list(model.structures)
        post.append({"_target_": "MapLabelValued", "keys": "pred", "orig_labels": channels, "target_labels": numbers})
    post.append(
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "seg",
            "output_dtype": "$numpy.int16",
            "separate_folder": False,
            "resample": False,
        }
    )
    return {
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(model.window[::-1]),
            "sw_batch_size": 1,
            "overlap": model.overlap,
            "mode": "gaussian",
        },
        "postprocessing": {"_target_": "Compose", "transforms": post},
        "pipeline": {"_target_": "Compose", "transforms": ["@preprocessing", "@predicting", "@postprocessing"]},
        "run": ["$[None for _ in map(@pipeline, @datalist)]"],
    }


def _writing(model: Exportable) -> dict[str, Any]:
    """Return the transform that writes regions one after the other, a later one over an earlier."""
    steps = [[channel, region.written] for channel, region in enumerate(model.regions)]
    func = (
        "$lambda p: functools.reduce(lambda done, step: done.masked_fill(p[step[0]:step[0] + 1] > 0.5, step[1]), "
        f"{steps}, p[:1] * 0)"
    )
    return {"_target_": "Lambdad", "keys": "pred", "func": func}


def _embedding(*, several: bool) -> dict[str, Any]:
    """Return the entries of an encoder: one vector a scan, all in one file."""
    return {
        "inferer": {"_target_": "SimpleInferer"},
        "pipeline": {"_target_": "Compose", "transforms": ["@preprocessing", "@predicting"]},
        "vectors": "$[item['pred'].cpu().numpy() for item in map(@pipeline, @datalist)]",
        "files": f"$[os.path.basename(item['image']{'[0]' if several else ''}) for item in @datalist]",
        "run": [
            "$os.makedirs(@output_dir, exist_ok=True)",
            "$numpy.savez(os.path.join(@output_dir, 'embeddings.npz'), vectors=numpy.stack(@vectors), files=@files)",
        ],
    }


def _metadata(model: Exportable, how: str) -> dict[str, Any]:
    """Return ``configs/metadata.json`` in MONAI's schema."""
    import monai

    channels = model.encoder.in_channels
    window = list(model.window[::-1])
    image = {
        "type": "image",
        "format": "hounsfield" if model.modality == "CT" else "magnitude",
        "modality": model.modality,
        "num_channels": channels,
        "spatial_shape": window,
        "dtype": "float32",
        "value_range": [0, 1] if all(channel.normalise == "unit" for channel in model.channels) else [],
        "is_patch_data": model.is_segmenter,
        "channel_def": {str(number): channel.name for number, channel in enumerate(model.channels)},
    }
    if model.is_segmenter:
        output: dict[str, Any] = {
            "type": "image",
            "format": "classes" if model.regions else "labels",
            "num_channels": len(model.classes),
            "spatial_shape": window,
            "dtype": "float32",
            "value_range": [],
            "is_patch_data": True,
            "channel_def": {str(channel): name for channel, name in enumerate(model.classes)},
        }
    elif model.is_classifier:
        output = {
            "type": "probabilities",
            "format": "classes",
            "num_channels": len(model.classes),
            "spatial_shape": [],
            "dtype": "float32",
            "value_range": [0, 1],
            "is_patch_data": False,
            "channel_def": {str(channel): name for channel, name in enumerate(model.classes)},
        }
    else:
        output = {
            "type": "tuples",
            "format": "latent",
            "num_channels": model.encoder.embedding_dim,
            "spatial_shape": [],
            "dtype": "float32",
            "value_range": [],
            "is_patch_data": False,
            "channel_def": {},
        }
    return {
        "schema": SCHEMA_URL,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by medssl {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": "5.2.0"},
        "task": {"segmenter": "segmentation", "classifier": "classification"}.get(model.kind, "embedding"),
        "description": f"{model.name}; the network is {how}.",
        "authors": "see notes",
        "copyright": "see notes",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": output}},
        "medssl": model.description(),
    }


def _readme(model: Exportable, how: str) -> str:
    makes = {
        "segmenter": "label maps `eval/NAME_seg.nii.gz`",
        "classifier": "`eval/classes.json`, the class of each scan and the probability of every class",
    }.get(model.kind, "`eval/embeddings.npz`, one vector a scan")
    scaling = (
        "\nIntensities are scaled as in training, by `scripts/medssl_input.py`: what is taken of the body is taken of "
        "the body's box, and a CT whose values are no HU is scaled by its percentiles.\n"
    )
    ends = [f"{one.name}: {one.ends} become 0 and 1" for one in model.channels if one.scaled_by_percentiles]
    if ends:
        scaling += f"\n{'; '.join(ends)}.\n"
    if model.decision is not None:
        scaling += (
            f"\n{decision_words(model.decision, model.classes)}\n\nTraining looked for the body and fitted its box "
        )
        scaling += "to the window; this bundle fits the whole scan. Crop wide margins of air first.\n"
    names = [channel.name for channel in model.channels]
    read = "reads every NIfTI file in SCANS"
    if len(names) > 1:
        read = f"reads the cases in SCANS, the channels {', '.join(names)} of each on one grid, as CASE_NAME.nii.gz,"
    if model.is_segmenter and len(names) == 1:
        scaling += (
            "\n`configs/train.json` fine-tunes (with pytorch-ignite): scans in DATA/images, labels named alike in "
            "DATA/labels.\n\n```\npython -m monai.bundle run --config_file configs/train.json --bundle_root . "
            "--dataset_dir DATA\n```\n"
        )
    scaling += (
        "\n`configs/schema.json` is MONAI's specification of the metadata, so that no network is needed:\n\n```\n"
        "python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath configs/schema.json\n```\n"
    )
    return f"""# {model.name}

The network is {how}. It needs MONAI and nibabel, and nothing else.

```
python -c "from monai.bundle import run
run(config_file='configs/inference.json', bundle_root='.', dataset_dir='SCANS')"
```

(or `python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir SCANS`, with fire)
{read} and writes {makes}.
{scaling}"""


def _compare(model: Exportable, config: Path, folder: Path) -> tuple[float, float]:
    """Return (greatest difference, greatest output) of the bundle's network, as MONAI loads it, from torch's."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(config))
    parser["bundle_root"] = str(folder)
    parser["device"] = "$torch.device('cpu')"
    images = example_input(model, batch=1, seed=1).permute(0, 1, 4, 3, 2).contiguous()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        loaded: Tensor = parser.get_parsed_content("network")(images)
        expected = FromPatientAxes(model).eval()(images)
    return float((loaded - expected).abs().max()), float(expected.abs().max())


def _save(state: dict[str, Tensor], path: Path) -> Path:
    """Write a state dict aside and rename it."""
    with atomic_write(path) as aside:
        torch.save(state, aside)
    return path
