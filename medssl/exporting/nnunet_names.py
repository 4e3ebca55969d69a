"""From this project's parameter names to those of nnU-Net's networks (dynamic_network_architectures 0.4), and back.

Three things differ beside the names. nnU-Net registers each convolution and norm twice (``conv`` and
``all_modules.0``) and the encoder twice (``encoder`` and ``decoder.encoder``); its convolutions have a bias, which the
norm behind them removes, so a zero is written; and it builds a head for every stage, used or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medssl.errors import DataError

__all__ = ["architecture", "encoder_to_nnunet", "segmenter_to_nnunet"]

_NETWORKS = {
    "residual": ("dynamic_network_architectures.architectures.unet.ResidualEncoderUNet", "n_blocks_per_stage"),
    "unet": ("dynamic_network_architectures.architectures.unet.PlainConvUNet", "n_conv_per_stage"),
}
_RESIDUAL = (
    (r"stem\.(conv|norm)", r"stem.convs.0.\1"),
    (r"stages\.(\d+)\.(\d+)\.(conv1|conv2|skip\.\d+)\.(conv|norm)", r"stages.\1.blocks.\2.\3.\4"),
)
_UNET = ((r"stages\.(\d+)\.(\d+)\.(conv|norm)", r"stages.\1.0.convs.\2.\3"),)
_RULES = {"residual": _RESIDUAL, "unet": _UNET}


def architecture(
    name: str,
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]],
    decoder_convs: int,
) -> dict[str, object]:
    """Return the ``architecture`` of an nnU-Net plan that builds the same network.

    Args:
        name: "residual" or "unet".
        channels: Channels of each stage.
        blocks: Blocks (or convolutions) of each stage.
        strides: Stride of each stage against the one before.
        kernels: Kernel size of each stage.
        decoder_convs: Convolutions of each stage of the decoder.

    Raises:
        DataError: nnU-Net has no such network.
    """
    _must_be_known(name)
    network, blocks_key = _NETWORKS[name]
    return {
        "network_class_name": network,
        "arch_kwargs": {
            "n_stages": len(channels),
            "features_per_stage": list(channels),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [list(kernel) for kernel in kernels],
            "strides": [list(stride) for stride in strides],
            blocks_key: list(blocks),
            "n_conv_per_stage_decoder": [decoder_convs] * (len(channels) - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def encoder_to_nnunet(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return an encoder's parameters under the names of nnU-Net's ``ResidualEncoder`` or ``PlainConvEncoder``.

    Args:
        state: State dict of the encoder.
        name: "residual" or "unet".

    Raises:
        DataError: The encoder is of another kind, or a parameter has no counterpart.
    """
    _must_be_known(name)
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("pooling."):
            continue  # of the embedding, which nnU-Net does not have
        path, _, leaf = key.rpartition(".")
        renamed |= _block(_rename(path, _RULES[name], key), leaf, value)
    return renamed


def segmenter_to_nnunet(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return a segmenter's parameters under the names of ``ResidualEncoderUNet`` or ``PlainConvUNet``.

    Args:
        state: State dict of a ``SegmentationNetwork`` whose encoder keeps full resolution.
        name: "residual" or "unet".

    Raises:
        DataError: The encoder is of another kind, or a parameter has no counterpart.
    """
    inner = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    encoder = encoder_to_nnunet(inner, name)
    renamed = {f"encoder.{key}": value for key, value in encoder.items()}
    renamed |= {f"decoder.encoder.{key}": value for key, value in encoder.items()}
    for key, value in state.items():
        if key.startswith("encoder."):
            continue
        path, _, leaf = key.rpartition(".")
        if re.fullmatch(r"decoder\.(transpconvs|seg_layers)\.\d+", path):
            renamed[key] = value
        elif re.fullmatch(r"decoder\.stages\.\d+\.convs\.\d+\.(conv|norm)", path):
            renamed |= _block(path, leaf, value)
        else:
            raise DataError(f"nnU-Net has no counterpart of the parameter '{key}'. Export to ONNX instead.")
    return renamed | _idle_heads(renamed)


def _block(path: str, leaf: str, value: Tensor) -> dict[str, Tensor]:
    """Return the two names of a parameter of a convolution block, with the zero bias that nnU-Net wants beside it."""
    owner, _, part = path.rpartition(".")
    twin = f"{owner}.all_modules.{0 if part == 'conv' else 1}"
    entries = {f"{path}.{leaf}": value, f"{twin}.{leaf}": value}
    if part == "conv" and ".skip." not in path:
        bias = torch.zeros(value.shape[0], dtype=value.dtype)
        entries |= {f"{path}.bias": bias, f"{twin}.bias": bias}
    return entries


def _idle_heads(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return zero heads for the stages that have none; nnU-Net uses them for deep supervision only."""
    last = max(int(key.split(".")[2]) for key in state if key.startswith("decoder.transpconvs."))
    head = state[f"decoder.seg_layers.{last}.weight"]
    heads: dict[str, Tensor] = {}
    for stage in range(last):
        if f"decoder.seg_layers.{stage}.weight" not in state:
            width = state[f"decoder.transpconvs.{stage}.weight"].shape[1]
            heads[f"decoder.seg_layers.{stage}.weight"] = head.new_zeros(head.shape[0], width, 1, 1, 1)
            heads[f"decoder.seg_layers.{stage}.bias"] = head.new_zeros(head.shape[0])
    return heads


def _rename(path: str, rules: Sequence[tuple[str, str]], key: str) -> str:
    for pattern, replacement in rules:
        if re.fullmatch(pattern, path):
            return re.sub(pattern, replacement, path)
    raise DataError(f"nnU-Net has no counterpart of the parameter '{key}'. Export to ONNX instead.")


def _must_be_known(name: str) -> None:
    if name not in _NETWORKS:
        raise DataError(
            f"nnU-Net has no network of the kind '{name}'. It has {', '.join(_NETWORKS)}; export to ONNX or "
            "safetensors instead."
        )
