"""Plans of nnU-Net (v2 of any age) and of nnssl: the network, its spacing, its axes and how its input is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medssl.engine.card import CardInput
from medssl.errors import DataError
from medssl.weights.staged_names import Staged

__all__ = ["Planned", "planned", "planned_inputs", "planned_network", "turning"]

Triple = tuple[int, int, int]
_NETWORKS = {
    "ResidualEncoderUNet": "residual",
    "PlainConvUNet": "unet",
}
_MOST_STAGES = 32
_NEAREST = "Nearest: a network of PlainConvUNet or ResidualEncoderUNet, or medssl pretrain with encoder.name=residual"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a plan says, in this project's axes.

    Attributes:
        network: The sizes as the plan has them, with its axes.
        axes: Axis i of the network is axis ``axes[i]`` of the file's (z, y, x).
        spacing_mm: (z, y, x).
        window: Patch, (z, y, x).
        configuration: Such as 3d_fullres.
        dataset: Name of the data.
        reoriented: Whether scans were turned to RAS before.
    """

    network: Staged
    axes: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    window: Triple | None
    configuration: str
    dataset: str
    reoriented: bool


def planned(plans: Mapping[str, Any], configuration: str, *, in_channels: int, heads: int, shown: str) -> Planned:
    """Return what nnU-Net's plans say of a configuration.

    Raises:
        DataError: It has no such configuration, or a network that is none of ours, with what is and the nearest.
    """
    config = _configuration(plans, configuration, shown)
    if config.get("previous_stage"):
        raise DataError(
            f"{shown}: '{configuration}' is the second stage of a cascade, whose input holds the first one's masks. "
            "Nearest: the configuration 3d_fullres or 3d_lowres of the same data."
        )
    axes = turning(plans, shown)
    spacing, patch = config.get("spacing"), config.get("patch_size")
    network = planned_network(_architecture(config, shown), in_channels=in_channels, heads=heads, shown=shown)
    back = [axes.index(axis) for axis in range(3)]
    return Planned(
        network=network,
        axes=axes,
        spacing_mm=None if spacing is None else _spacing(spacing, back, shown),
        window=_ints([patch[i] for i in back]) if patch is not None and len(patch) == 3 else None,
        configuration=configuration,
        dataset=str(plans.get("dataset_name", "")),
        reoriented="Reorient" in str(plans.get("image_reader_writer", "")),
    )


def turning(plans: Mapping[str, Any], shown: str) -> tuple[int, int, int]:
    """Return the axes that a plan gives its arrays: axis i of the network is axis [i] of the file's (z, y, x)."""
    axes = plans.get("transpose_forward", [0, 1, 2])
    try:
        found = _ints(axes)
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"{shown}: transpose_forward of its plans is not an order of three axes: {axes}.") from error
    if sorted(found) != [0, 1, 2]:
        raise DataError(f"{shown}: transpose_forward of its plans is not an order of three axes: {axes}.")
    return found


def planned_network(said: Mapping[str, Any], *, in_channels: int, heads: int, shown: str) -> Staged:
    """Return the sizes of a network from its ``network_class_name`` and ``arch_kwargs``.

    Raises:
        DataError: It is another network, or one with parts that ours lack.
    """
    kind, kwargs = str(said["network_class_name"]).rpartition(".")[2], said["arch_kwargs"]
    if kind not in _NETWORKS:
        raise DataError(f"{shown}: its network is {kind}, which no encoder here is. {_NEAREST}.")
    residual = _NETWORKS[kind] == "residual"
    stages = int(kwargs["n_stages"])
    if not 1 < stages <= _MOST_STAGES:
        raise DataError(f"{shown}: its plans say {stages} stages.")
    counted = kwargs["n_blocks_per_stage" if residual else "n_conv_per_stage"]
    wrong = _foreign(kwargs)
    if wrong:
        raise DataError(f"{shown}: its network has {wrong}, which ours has not. {_NEAREST}.")
    convs = set(_each(kwargs.get("n_conv_per_stage_decoder", 0), stages - 1))
    if len(convs) > 1:
        raise DataError(f"{shown}: stages of its decoder have different numbers of convolutions, {sorted(convs)}.")
    return Staged(
        name=_NETWORKS[kind],
        channels=tuple(_each(kwargs["features_per_stage"], stages)),
        blocks=tuple(_each(counted, stages)),
        kernels=tuple(_triple(one) for one in _list(kwargs["kernel_sizes"], stages)),
        strides=tuple(_triple(one) for one in _list(kwargs["strides"], stages)),
        in_channels=in_channels,
        decoder_convs=convs.pop(),
        heads=heads,
    )


def planned_inputs(
    plans: Mapping[str, Any], config: str, names: Mapping[str, str], shown: str
) -> tuple[tuple[CardInput, ...], tuple[str, ...]]:
    """Return what the card says of each channel, and what was guessed.

    Args:
        plans: The plans.
        config: The configuration.
        names: Channel number -> name, as dataset.json has them.
        shown: For messages.

    Raises:
        DataError: A scheme of normalisation is none that can be followed.
    """
    found = _configuration(plans, config, shown)
    schemes, masked = found.get("normalization_schemes", []), found.get("use_mask_for_norm", [])
    properties = plans.get("foreground_intensity_properties_per_channel") or {}
    inputs, guesses = [], []
    for place, scheme in enumerate(schemes):
        name = str(names.get(str(place), f"channel {place}"))
        if scheme == "CTNormalization":
            own = properties.get(str(place)) or properties.get(place)
            if not own:
                raise DataError(f"{shown}: its plans say no intensities of channel {place} ({name}).")
            low, high, mean, std = (float(own[key]) for key in ("percentile_00_5", "percentile_99_5", "mean", "std"))
            if not all(math.isfinite(one) for one in (low, high, mean, std)) or low >= high or std <= 0:
                raise DataError(f"{shown}: its plans' intensities of channel {place} ({name}) are none: {dict(own)}.")
            inputs.append(CardInput(name=name, modality="CT", normalise="nnunet", numbers=(low, high, mean, std)))
        elif scheme == "ZScoreNormalization":
            inputs.append(CardInput(name=name, modality="", normalise="nonzero"))
            if masked and masked[place]:
                guesses.append(
                    f"{name}: the network's z-score is of the voxels that are not 0; here it is of the box of these"
                )
        else:
            raise DataError(
                f"{shown}: channel {place} ({name}) is normalised by {scheme}; CTNormalization and "
                "ZScoreNormalization can be followed."
            )
    return tuple(inputs), tuple(guesses)


def _configuration(plans: Mapping[str, Any], name: str, shown: str) -> dict[str, Any]:
    """Return a configuration with what it inherits."""
    known = plans.get("configurations") or {}
    if name not in known:
        raise DataError(f"{shown}: its plans have no configuration '{name}'. They have: {', '.join(known) or 'none'}.")
    merged: dict[str, Any] = {}
    seen: list[str] = []
    while name:
        if name in seen or name not in known:
            raise DataError(f"{shown}: configurations of its plans inherit from each other in a circle ({name}).")
        seen.append(name)
        merged = {**known[name], **merged}
        name = str(known[name].get("inherits_from", ""))
    return merged


def _architecture(config: Mapping[str, Any], shown: str) -> dict[str, Any]:
    """Return the architecture of a configuration; plans before 2.4 say it otherwise."""
    if "architecture" in config:
        return dict(config["architecture"])
    try:
        kernels, features = config["conv_kernel_sizes"], int(config["UNet_base_num_features"])
        stages, most = len(kernels), int(config["unet_max_num_features"])
        residual = str(config.get("UNet_class_name", "PlainConvUNet")) == "ResidualEncoderUNet"
        return {
            "network_class_name": config.get("UNet_class_name", "PlainConvUNet"),
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": [min(features * 2**stage, most) for stage in range(stages)],
                "kernel_sizes": kernels,
                "strides": config["pool_op_kernel_sizes"],
                "n_blocks_per_stage" if residual else "n_conv_per_stage": config["n_conv_per_stage_encoder"],
                "n_conv_per_stage_decoder": config["n_conv_per_stage_decoder"],
            },
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{shown}: its plans say no architecture ({error!r} is lacking).") from error


def _foreign(kwargs: Mapping[str, Any]) -> str:
    """Return what a network has that ours have not."""
    norm, slope = str(kwargs.get("norm_op", "InstanceNorm3d")), kwargs.get("nonlin_kwargs") or {}
    own = kwargs.get("norm_op_kwargs") or {}
    conv = str(kwargs.get("conv_op", "Conv3d"))
    if conv.rpartition(".")[2] != "Conv3d":
        return f"convolutions of {conv.rpartition('.')[2]}"
    if norm.rpartition(".")[2] != "InstanceNorm3d" or not own.get("affine", True) or own.get("eps", 1e-5) != 1e-5:
        return f"norms of {norm.rpartition('.')[2]} {own or ''}".strip()
    if kwargs.get("dropout_op"):
        return f"dropout ({kwargs['dropout_op']})"
    nonlin = str(kwargs.get("nonlin", "LeakyReLU")).rpartition(".")[2]
    if nonlin != "LeakyReLU" or slope.get("negative_slope", 0.01) != 0.01:
        return f"the non-linearity {nonlin} {slope}"
    first = kwargs["strides"][0] if isinstance(kwargs["strides"], list | tuple) else kwargs["strides"]
    if _triple(first) != (1, 1, 1):
        return f"a first stage that strides by {first}"
    return ""


def _list(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * count


def _each(value: Any, count: int) -> list[int]:
    return [int(one) for one in _list(value, count)]


def _triple(value: Any) -> Triple:
    return _ints(value if isinstance(value, list | tuple) else [value] * 3)


def _ints(values: Any) -> Triple:
    a, b, c = (int(one) for one in values)
    return a, b, c


def _spacing(said: Any, back: Sequence[int], shown: str) -> tuple[float, float, float]:
    """Return a voxel size in this project's axes."""
    whole = isinstance(said, list | tuple) and len(said) == 3
    if not whole or not all(isinstance(one, int | float) and 0 < one < math.inf for one in said):
        raise DataError(f"{shown}: spacing of its plans is not a voxel size: {said}.")
    a, b, c = (float(said[axis]) for axis in back)
    return a, b, c
