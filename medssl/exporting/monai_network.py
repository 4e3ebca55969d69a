"""A network in a form that MONAI builds or loads without this project, over arrays (batch, channel, x, y, z).

A plain U-Net with two convolutions a stage is MONAI's ``DynUNet``; its kernels are turned from (z, y, x) to (x, y, z).
MONAI has no class that equals the residual encoder (its residual blocks stride by a 1x1x1 convolution where nnU-Net's
pool) nor this decoder over a Swin encoder, so those are written as TorchScript. torch calls TorchScript deprecated in
favour of ``torch.export``, but an exported program refuses ``eval()``, which MONAI's evaluators call.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl.decoder import SegmentationNetwork
from medssl.encoders.unet import UNetEncoder
from medssl.exporting.classifying import CalibratedClassifier
from medssl.exporting.exportable import Exportable, example_input
from medssl.writing import atomic_write

__all__ = ["FromPatientAxes", "dynunet_arguments", "dynunet_state", "write_torchscript"]


class FromPatientAxes(nn.Module):
    """A network over (batch, channel, x, y, z): logits in the same axes, probabilities of classes, or an embedding.

    Args:
        model: The network over (batch, channel, z, y, x).
    """

    def __init__(self, model: Exportable) -> None:
        super().__init__()
        self.network = CalibratedClassifier(model) if model.is_classifier else model.network
        self.encoder = model.encoder if model.kind == "encoder" else None

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes, x, y, z), probabilities or the embedding (B, dim) of images (B, C, x, y, z)."""
        turned = images.permute(0, 1, 4, 3, 2)
        if isinstance(self.network, CalibratedClassifier):
            probability: Tensor = self.network(turned)[1]
            return probability
        if self.encoder is not None:
            return self.encoder.embed(turned)
        logits: Tensor = self.network(turned)
        return logits.permute(0, 1, 4, 3, 2)


def dynunet_arguments(model: Exportable) -> dict[str, Any] | None:
    """Return the arguments with which ``monai.networks.nets.DynUNet`` is this network, or None where none are."""
    network = model.network
    if not isinstance(network, SegmentationNetwork) or not isinstance(network.encoder, UNetEncoder):
        return None
    settings = network.encoder.settings
    decoder_convs = {len(stage.convs) for stage in network.decoder.stages}  # type: ignore[arg-type]
    kernels, strides = settings.stage_kernels, settings.stage_strides
    fits = (
        set(settings.stage_blocks) == {2}
        and decoder_convs == {2}
        and len(set(kernels)) == 1  # DynUNet's decoder takes the kernel of the coarser level, nnU-Net's the finer's
        and len(kernels) >= 3
        and strides[0] == (1, 1, 1)
    )
    if not fits:
        return None
    turned = [list(stride[::-1]) for stride in strides]
    return {
        "spatial_dims": 3,
        "in_channels": network.encoder.in_channels,
        "out_channels": len(model.classes),
        "kernel_size": [list(kernel[::-1]) for kernel in kernels],
        "strides": turned,
        "upsample_kernel_size": turned[1:],
        "filters": list(settings.channels),
        "res_block": False,
        "trans_bias": True,
    }


def dynunet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a plain U-Net segmenter's parameters under the names, and in the axes, of MONAI's ``DynUNet``.

    Args:
        state: State dict of a ``SegmentationNetwork`` for which ``dynunet_arguments`` found some.
    """
    last_stage = max(int(key.split(".")[2]) for key in state if key.startswith("encoder.stages."))
    last_head = max(int(key.split(".")[2]) for key in state if key.startswith("decoder.seg_layers."))
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        part, kind, *rest = key.split(".")
        if part == "encoder" and kind == "pooling":
            continue  # a segmenter takes the pyramid
        if part == "encoder":
            stage, block, module, leaf = int(rest[0]), int(rest[1]), rest[2], rest[3]
            owner = {0: "input_block", last_stage: "bottleneck"}.get(stage, f"downsamples.{stage - 1}")
            name = f"{owner}.{_layer(module, block)}.{leaf}"
        elif kind == "transpconvs":
            name = f"upsamples.{rest[0]}.transp_conv.conv.{rest[1]}"
        elif kind == "stages":
            name = f"upsamples.{rest[0]}.conv_block.{_layer(rest[3], int(rest[2]))}.{rest[4]}"
        elif int(rest[0]) == last_head:
            name = f"output_block.conv.conv.{rest[1]}"
        else:
            continue  # a head that only deep supervision uses
        turned = value.detach().cpu()
        renamed[name] = (turned.permute(0, 1, 4, 3, 2) if turned.dim() == 5 else turned).contiguous().clone()
    return renamed


def write_torchscript(model: Exportable, path: Path) -> Path:
    """Trace the network over (batch, channel, x, y, z) at its window and write it to ``path``."""
    wrapped = FromPatientAxes(model).eval()
    images = example_input(model).permute(0, 1, 4, 3, 2).contiguous()
    with warnings.catch_warnings(), torch.no_grad(), atomic_write(path) as aside:
        warnings.simplefilter("ignore")  # of its deprecation, and of sizes that the trace fixes: the window is fixed
        traced: Any = torch.jit.trace(wrapped, images, check_trace=False)  # type: ignore[no-untyped-call]
        held = io.BytesIO()
        torch.jit.save(traced, held)  # type: ignore[no-untyped-call]
        aside.write_bytes(held.getbuffer())  # torch's own writer ends the process where the disk is full
    return path


def _layer(module: str, block: int) -> str:
    """Return ``conv1.conv``, ``norm1``, ``conv2.conv`` or ``norm2``."""
    return f"conv{block + 1}.conv" if module == "conv" else f"norm{block + 1}"
