"""To nnU-Net: a trained-model folder of a segmenter, or starting weights of a pretrained encoder.

Written for and tested with nnunetv2 2.7.0 and dynamic_network_architectures 0.4.2; neither is needed to export.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medssl.decoder import SegmentationNetwork, UNetDecoder
from medssl.encoders.staged import StagedEncoder
from medssl.errors import DataError
from medssl.exporting.exportable import Exportable, ExportInput, write_json, write_text
from medssl.exporting.nnunet_names import architecture, segmenter_to_nnunet
from medssl.writing import atomic_write

__all__ = ["NNUNET_VERSION", "export_pretrained_weights", "export_trained_model", "plan_architecture"]

NNUNET_VERSION = "2.7.0"  # what the tests ran
CONFIGURATION = "3d_fullres"
_DECODER_CONVS = {"residual": 1, "unet": 2}  # of a stage, in nnU-Net's own plans


def export_trained_model(model: Exportable, folder: Path) -> list[Path]:
    """Write a segmenter as a folder that ``nnUNetv2_predict_from_modelfolder`` takes.

    The plan reorients to RAS+, resamples to the segmenter's spacing and scales CT exactly as training did (nnU-Net's
    ``CTNormalization`` with the window's edges in place of percentiles and of mean and deviation). It resamples with
    its own splines, so that a prediction may differ at borders. For MR the nearest of its schemes is
    ``RescaleTo01Normalization``, which scales by extremes where training scaled by percentiles. Runs on z-scores get
    ``ZScoreNormalization``, over the box of all that is not 0 where training took the body's.

    Args:
        model: A segmenter with a residual or plain U-Net encoder.
        folder: Where ``plans.json``, ``dataset.json`` and ``fold_all/checkpoint_final.pth`` go.

    Returns:
        The files written.

    Raises:
        DataError: The network is no segmenter, or of a kind that nnU-Net has not.
    """
    network = model.network
    if not isinstance(network, SegmentationNetwork):
        raise DataError(f"'{model.name}' is an encoder; a trained nnU-Net model is a segmenter. Fine-tune it first.")
    weights = segmenter_to_nnunet(_on_cpu(network.state_dict()), _kind(model))
    checkpoint = {
        "network_weights": weights,
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION, "fold": "all"},
        "inference_allowed_mirroring_axes": None,  # training may mirror left and right only with its labels
        "current_epoch": 0,
    }
    plans = write_json(folder / "plans.json", _plans(model, convs_of(network.decoder)))
    dataset = write_json(
        folder / "dataset.json",
        {
            "channel_names": _channel_names(model),
            **_labels(model),
            "numTraining": 0,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "NibabelIOWithReorient",
        },
    )
    saved = _save(checkpoint, folder / "fold_all" / "checkpoint_final.pth")
    about = write_json(folder / "medssl.json", _about(model))
    return [plans, dataset, saved, about]


def _labels(model: Exportable) -> dict[str, Any]:
    """Return ``labels``, and of regions ``regions_class_order``, as nnU-Net's dataset.json has them."""
    if not model.regions:
        return {"labels": {name: channel for channel, name in enumerate(model.classes)}}
    return {
        "labels": {"background": 0, **{region.name: list(region.values) for region in model.regions}},
        "regions_class_order": [region.written for region in model.regions],
    }


def export_pretrained_weights(model: Exportable, folder: Path, *, num_classes: int = 2, seed: int = 0) -> list[Path]:
    """Write an encoder as weights that ``nnUNetv2_train -pretrained_weights`` starts from.

    nnU-Net asks for every parameter but the heads, so the decoder is written too: that of a segmenter as it is, fresh
    (drawn as nnU-Net draws it, from ``seed``) beside an encoder. The plan of the new dataset must build the same
    network: its ``architecture`` is written as well, to be put into the configuration that is trained.

    Args:
        model: An encoder or segmenter of the residual or plain U-Net kind.
        folder: Where ``pretrained.pth``, ``architecture.json`` and ``README.md`` go.
        num_classes: Channels of the heads, which nnU-Net leaves out.
        seed: Of the fresh decoder.

    Returns:
        The files written.

    Raises:
        DataError: The encoder is of a kind that nnU-Net has not.
    """
    name = _kind(model)
    network = model.network
    if not isinstance(network, SegmentationNetwork):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = UNetDecoder(model.encoder, num_classes, convs_per_stage=_DECODER_CONVS[name])
        network = SegmentationNetwork(model.encoder, decoder)
    weights = segmenter_to_nnunet(_on_cpu(network.state_dict()), name)
    saved = _save({"network_weights": weights}, folder / "pretrained.pth")
    plan = write_json(folder / "architecture.json", plan_architecture(model, convs_of(network.decoder)))
    about = write_json(folder / "medssl.json", _about(model))
    return [saved, plan, about, write_text(folder / "README.md", _how_to(model))]


def plan_architecture(model: Exportable, decoder_convs: int) -> dict[str, object]:
    """Return the ``architecture`` of an nnU-Net plan that builds the model's network.

    Args:
        model: An encoder or segmenter of the residual or plain U-Net kind.
        decoder_convs: Convolutions of each stage of the decoder.
    """
    name = _kind(model)
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


def convs_of(decoder: UNetDecoder) -> int:
    """Return the convolutions in a stage of ``decoder``."""
    return len(next(iter(decoder.stages)).convs)  # type: ignore[arg-type]


def _kind(model: Exportable) -> str:
    """Return "residual" or "unet"."""
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
    return str(name)


def _channel_names(model: Exportable) -> dict[str, str]:
    """Return the channels as nnU-Net lists them: by name, a single one by the scheme that nnU-Net reads from it."""
    channels = model.channels
    if len(channels) == 1:
        names = {"CTNormalization": channels[0].modality, "RescaleTo01Normalization": "rescale_to_0_1"}
        return {"0": names.get(_scheme(channels[0]), "zscore")}
    return {str(number): channel.name for number, channel in enumerate(channels)}


def _scheme(channel: ExportInput) -> str:
    """Return nnU-Net's normalisation that is nearest to a channel's scaling."""
    if channel.normalise != "unit":
        return "CTNormalization" if channel.modality == "CT" and channel.numbers else "ZScoreNormalization"
    return "RescaleTo01Normalization" if channel.intensity is None else "CTNormalization"


def _properties(channel: ExportInput) -> dict[str, float]:
    """Return the numbers with which nnU-Net's normalisation scales a channel as training did."""
    if channel.numbers is not None:
        low, high, less, over = channel.numbers
        return {
            "percentile_00_5": low,
            "percentile_99_5": high,
            "mean": less,
            "std": over,
            "median": less,
            "min": low,
            "max": high,
        }
    low, high = channel.intensity or (0.0, 1.0)
    ends = {"percentile_00_5": low, "percentile_99_5": high, "mean": low, "std": high - low}
    return {**ends, "median": low, "min": low, "max": high}


def _plans(model: Exportable, decoder_convs: int) -> dict[str, Any]:
    """Return a plan with one configuration, which makes of a scan what the network was trained on."""
    channels = model.channels
    resampling = {"order": 1, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": f"Dataset000_{model.name}",
        "plans_name": "medssl",
        "original_median_spacing_after_transp": list(model.spacing_mm),
        "original_median_shape_after_transp": list(model.window),
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(number): _properties(channel) for number, channel in enumerate(channels)
        },
        "configurations": {
            CONFIGURATION: {
                "data_identifier": f"medssl_{CONFIGURATION}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": list(model.window),
                "median_image_size_in_voxels": list(model.window),
                "spacing": list(model.spacing_mm),
                "normalization_schemes": [_scheme(channel) for channel in channels],
                "use_mask_for_norm": [False for _ in channels],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"is_seg": False, **resampling},
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {"is_seg": True, **resampling},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {"is_seg": False, **resampling},
                "architecture": plan_architecture(model, decoder_convs),
                "batch_dice": True,
            }
        },
    }


def _about(model: Exportable) -> dict[str, Any]:
    return {"tested_with_nnunetv2": NNUNET_VERSION, **model.description()}


def _how_to(model: Exportable) -> str:
    several = len(model.channels) > 1
    intensity = "; ".join(
        (f"of `{channel.name}` " if several else "") + _scheme_in_words(channel) for channel in model.channels
    )
    return f"""# {model.name}: starting weights for nnU-Net

Tested with nnunetv2 {NNUNET_VERSION}.

1. Plan and preprocess the dataset as usual, with `"overwrite_image_reader_writer": "NibabelIOWithReorient"` in its
   `dataset.json` (pretraining saw scans in RAS+).
2. In `nnUNetPlans.json`, in the configuration to be trained, put `architecture.json` in place of `architecture`,
   and set `spacing` to {list(model.spacing_mm)} and `patch_size` to {list(model.window)} (z, y, x)
   or another multiple of {list(model.encoder.size_multiple)}. As the normalisation,
   {intensity} fits what the weights have seen.
3. `nnUNetv2_preprocess -d DATASET -c {CONFIGURATION}`
4. `nnUNetv2_train DATASET {CONFIGURATION} FOLD -pretrained_weights pretrained.pth`
"""


def _scheme_in_words(channel: ExportInput) -> str:
    if channel.normalise != "unit" and not (channel.modality == "CT" and channel.numbers):
        seen = "the mean and deviation over its scans" if channel.numbers else "mean and deviation inside the body"
        return f'`"ZScoreNormalization"` (training took {seen})'
    if channel.numbers is not None:
        low, high, less, over = channel.numbers
        return (
            f'`"CTNormalization"`, with `percentile_00_5` {low:g}, `percentile_99_5` {high:g}, `mean` {less:g} and '
            f"`std` {over:g} in `foreground_intensity_properties_per_channel`"
        )
    if channel.intensity is None:
        return f'`"RescaleTo01Normalization"` (training scaled {channel.ends} to 0 and 1)'
    low, high = channel.intensity
    return (
        f'`"CTNormalization"`, with `percentile_00_5` and `mean` {low:g}, `percentile_99_5` {high:g} and `std` '
        f"{high - low:g} in `foreground_intensity_properties_per_channel`"
    )


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}


def _save(checkpoint: Mapping[str, Any], path: Path) -> Path:
    """Write ``checkpoint`` aside and rename it to ``path``."""
    with atomic_write(path) as aside:
        torch.save(dict(checkpoint), aside)
    return path
