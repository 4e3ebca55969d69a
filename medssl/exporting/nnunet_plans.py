"""nnU-Net's plans: of a trained model, and of a dataset that is to be trained from weights of ours.

Resampling is that of the training store: splines of the third order (or linear) over all three axes at once, and label
probabilities linearly. nnU-Net's own plans treat a coarse axis apart, which ours never did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.encoders.staged import StagedEncoder
from medssl.errors import DataError
from medssl.exporting.exportable import Exportable, write_json
from medssl.exporting.nnunet_names import architecture
from medssl.exporting.nnunet_scheme import held

__all__ = ["CONFIGURATION", "PLANS", "kind_of", "plan_architecture", "plan_for", "plans_of", "read_dataset"]

CONFIGURATION = "3d_fullres"
PLANS = "medsslPlans"
_DECODER_CONVS = {"residual": 1, "unet": 2}  # of a stage, in nnU-Net's own plans


def kind_of(model: Exportable) -> tuple[str, int]:
    """Return "residual" or "unet", and how many convolutions a stage of nnU-Net's own decoder has beside it.

    Raises:
        DataError: nnU-Net has no such network.
    """
    encoder = model.encoder
    name = getattr(getattr(encoder, "settings", None), "name", type(encoder).__name__)
    if name not in _DECODER_CONVS or not isinstance(encoder, StagedEncoder):
        raise DataError(
            f"nnU-Net has no network like the encoder '{name}' of '{model.name}'. It has those of "
            f"{', '.join(_DECODER_CONVS)}; export to ONNX or MONAI instead."
        )
    if encoder.strides[0] != (1, 1, 1):
        raise DataError(
            f"The first stage of '{model.name}' strides by {encoder.strides[0]}; nnU-Net's decoder ends at the first "
            "stage, below full resolution. Export to ONNX or MONAI instead."
        )
    return str(name), _DECODER_CONVS[name]


def plan_architecture(model: Exportable, decoder_convs: int) -> dict[str, object]:
    """Return the ``architecture`` of an nnU-Net plan that builds the model's network.

    Args:
        model: An encoder or segmenter of the residual or plain U-Net kind.
        decoder_convs: Convolutions of each stage of the decoder.
    """
    name, _ = kind_of(model)
    encoder = model.encoder
    assert isinstance(encoder, StagedEncoder)
    settings = encoder.settings
    return architecture(
        name,
        channels=settings.channels,
        blocks=settings.stage_blocks,
        strides=settings.stage_strides,
        kernels=settings.stage_kernels,
        decoder_convs=decoder_convs,
    )


def plans_of(model: Exportable, decoder_convs: int) -> dict[str, Any]:
    """Return a plan with one configuration, which makes of a scan what the network was trained on."""
    return {
        "dataset_name": f"Dataset000_{model.name}",
        "plans_name": PLANS,
        "original_median_spacing_after_transp": list(model.voxels_mm),
        "original_median_shape_after_transp": list(model.window),
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(number): held(channel).properties for number, channel in enumerate(model.channels)
        },
        "configurations": {CONFIGURATION: _configuration(model, decoder_convs)},
    }


def plan_for(model: Exportable, decoder_convs: int, dataset: Path) -> Path:
    """Write the plan by which nnU-Net trains a dataset from the model's weights, beside the dataset's own plans.

    What is the dataset's stays: its name, label manager, batch size where it has a 3D plan, and the intensities of its
    scans. A channel whose input nnU-Net cannot make gets the scheme of the dataset's own plan.

    Args:
        model: The weights' encoder or segmenter.
        decoder_convs: Convolutions of each stage of the decoder.
        dataset: Folder of the dataset in nnUNet_preprocessed, as ``nnUNetv2_plan_experiment`` left it.

    Returns:
        ``medsslPlans.json``.

    Raises:
        DataError: There are no plans in it, or it has another number of channels.
    """
    own, described = read_dataset(dataset)
    channels = len(described["channel_names"])
    if channels != model.encoder.in_channels:
        raise DataError(
            f"{dataset}: its scans have {channels} channels, and '{model.name}' takes {model.encoder.in_channels}. "
            "Pretrain on as many, or fine-tune here with transfer.channels and export that."
        )
    theirs = own["configurations"].get(CONFIGURATION) or next(iter(own["configurations"].values()))
    plans = plans_of(model, decoder_convs)
    configuration = plans["configurations"][CONFIGURATION]
    schemes, properties = [], {}
    for number, channel in enumerate(model.channels):
        exact = held(channel)
        taken = not exact.instead
        schemes.append(exact.scheme if taken else theirs["normalization_schemes"][number])
        known = own["foreground_intensity_properties_per_channel"][str(number)]
        properties[str(number)] = exact.properties if taken and exact.scheme == "CTNormalization" else known
    configuration |= {
        "normalization_schemes": schemes,
        "batch_size": max(2, int(theirs.get("batch_size", 2))),
        "median_image_size_in_voxels": theirs.get("median_image_size_in_voxels", list(model.window)),
    }
    plans |= {
        "dataset_name": own["dataset_name"],
        "label_manager": own["label_manager"],
        "foreground_intensity_properties_per_channel": properties,
    }
    return write_json(dataset / f"{PLANS}.json", plans)


def read_dataset(dataset: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the plans and the ``dataset.json`` that nnU-Net left in a folder of nnUNet_preprocessed.

    Raises:
        DataError: They are not there, or are no such files.
    """
    try:
        plans = sorted(path for path in dataset.glob("*Plans*.json") if path.stem != PLANS)
        own = json.loads(plans[0].read_text(encoding="utf-8"))
        described = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
        known = {"dataset_name", "label_manager", "configurations", "foreground_intensity_properties_per_channel"}
        if known <= set(own) and own["configurations"] and described["channel_names"]:
            return own, described
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise DataError(
        f"{dataset}: there are no plans of nnU-Net here. Give the dataset's folder in nnUNet_preprocessed, after: "
        "nnUNetv2_plan_and_preprocess -d NUMBER --no_pp"
    )


def _configuration(model: Exportable, decoder_convs: int) -> dict[str, Any]:
    order = 3 if model.interpolation == "cubic" else 1
    images = {"order": order, "order_z": order, "force_separate_z": False}
    labels = {"order": 1, "order_z": 1, "force_separate_z": False}
    channels = model.channels
    return {
        "data_identifier": f"{PLANS}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(model.window),
        "median_image_size_in_voxels": list(model.window),
        "spacing": list(model.voxels_mm),
        "normalization_schemes": [held(channel).scheme for channel in channels],
        "use_mask_for_norm": [False for _ in channels],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, **images},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, **labels},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, **labels},
        "architecture": plan_architecture(model, decoder_convs),
        "batch_dice": True,
    }
