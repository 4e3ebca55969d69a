"""A convolutional encoder run on the visible voxels of masked images, as a sparse convolution would run.

Reference:
    Tian et al., "Designing BERT for convolutional networks: sparse and hierarchical masked modeling", ICLR 2023,
    arXiv:2301.03580 (SparK). As there, sparsity is simulated on dense tensors: what a convolution or a pooling writes
    to hidden places is set to zero again, and normalisations take their statistics from visible places alone.

The weights are those of the dense encoder, under their own names; nothing of the encoder is replaced. Differs from the
published code: the image itself is masked first (the 3D port in nnssl lets hidden voxels into the first convolution);
the mask belongs to one pass instead of being global; hidden places are filled with zeros rather than multiplied by
zero, so that not even a NaN gets through; group and instance normalisation are covered, each over one image at a time;
a layer through which hidden places could be seen is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from medssl.encoders.batch_norm import FixedBatchNorm
from medssl.encoders.blocks import NORM_EPS, InstanceNorm, check_input_size, run_stage
from medssl.encoders.pooling import Pooling
from medssl.encoders.staged import StagedEncoder
from medssl.synchronised_norm import SynchronisedBatchNorm

__all__ = ["active_only", "active_places", "sparse_pyramid"]

_SPREADING = (nn.Conv3d, nn.AvgPool3d, nn.MaxPool3d, FixedBatchNorm)  # the last shifts zeros away from zero
_BATCH_NORMS = (nn.BatchNorm3d, nn.SyncBatchNorm, SynchronisedBatchNorm)
# These see one place at a time, and leave zero at zero.
_POINTWISE = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.GELU, nn.SiLU, nn.PReLU, nn.Dropout)


def sparse_pyramid(encoder: StagedEncoder, images: Tensor, visible: Tensor) -> list[Tensor]:
    """Return the encoder's pyramid of the visible patches; zeros where nothing is visible.

    Args:
        encoder: The encoder.
        images: (B, C, z, y, x).
        visible: True for visible patches, (B, z', y', x'); each image has at least one.

    Returns:
        One (B, channels[i], ...) tensor a level, finest first.

    Raises:
        ConfigError: The encoder does not take images of that size.
        ValueError: The patches do not fit a level, or the encoder has a layer that cannot be run sparsely.
    """
    check_input_size(images, in_channels=encoder.in_channels, size_multiple=encoder.size_multiple)
    checkpointing = encoder.settings.checkpointing and encoder.training
    features = images.masked_fill(~active_places(visible, images.shape[2:]), 0.0)
    if not checkpointing:
        with active_only(encoder, visible):  # the encoder as a whole, which may be compiled
            levels: list[Tensor] = encoder(features)
        return levels
    features = _sparsely(encoder.stem, visible, features)
    pyramid = []
    for stage in encoder.stages:
        # the context is entered inside what is checkpointed, so that computing it again is sparse too
        features = run_stage(partial(_sparsely, stage, visible), features, checkpointing=True)
        pyramid.append(features)
    return pyramid


@contextmanager
def active_only(network: nn.Module, visible: Tensor) -> Iterator[None]:
    """Let every layer of ``network`` see and write visible places only, while the context lasts.

    Args:
        network: Any network of 3D convolutions, poolings, batch, group or instance normalisations and activations.
        visible: True for visible patches, (B, z', y', x').

    Raises:
        ValueError: If the network has another kind of layer.
    """
    replaced: list[nn.Module] = []
    try:
        pooling = {part for module in network.modules() if isinstance(module, Pooling) for part in module.modules()}
        for name, layer in network.named_modules():
            if layer in pooling:
                continue  # it makes the embedding, which no sparse pass has
            if isinstance(layer, _SPREADING):
                forward = _bound(_hide, layer, visible)
            elif isinstance(layer, _BATCH_NORMS):
                forward = _bound(_batch_norm, layer, visible)
            elif (groups := _groups(layer)) is not None:
                forward = _bound(_group_norm, layer, visible, groups)
            elif list(layer.children()) or isinstance(layer, _POINTWISE) or _is_empty(layer):
                continue
            else:
                raise ValueError(
                    f"The layer '{name}' ({type(layer).__name__}) cannot be kept from hidden voxels. Take an encoder "
                    "of convolutions ('residual', 'unet'), or another method for this one ('mae', 'simmim')."
                )
            layer.forward = forward
            replaced.append(layer)
        yield
    finally:
        for layer in replaced:
            del layer.forward  # the class's own comes to light again


def active_places(visible: Tensor, size: Sequence[int]) -> Tensor:
    """Return which places of a level are active, bool, (B, 1, *size).

    A place is active where any voxel under it is visible: patches are repeated where the level is finer than they are,
    and joined where it is coarser.

    Raises:
        ValueError: If neither the level's size nor the number of patches is a multiple of the other.
    """
    active = visible
    for axis, (length, patches) in enumerate(zip(size, visible.shape[1:], strict=True), start=1):
        if length % patches == 0:
            active = torch.repeat_interleave(active, length // patches, dim=axis)
        elif patches % length == 0:
            split = (*active.shape[:axis], length, patches // length, *active.shape[axis + 1 :])
            active = active.reshape(split).any(dim=axis + 1)
        else:
            raise ValueError(
                f"{tuple(visible.shape[1:])} patches do not fit a level of {tuple(size)} places: on each axis the "
                "patch must be a multiple of the level's stride, or the stride one of the patch."
            )
    return active[:, None]


def _sparsely(network: nn.Module, visible: Tensor, features: Tensor) -> Tensor:
    with active_only(network, visible):
        output: Tensor = network(features)
    return output


def _bound(run: Callable[..., Tensor], layer: nn.Module, visible: Tensor, *more: int) -> Callable[[Tensor], Tensor]:
    # A closure, since what it holds is an input to a compiled encoder, which would be compiled anew for every partial;
    # and in the place of ``forward``, since a compiled encoder does not notice hooks that come and go.
    def forward(features: Tensor) -> Tensor:
        return run(layer, visible, *more, features)

    return forward


def _hide(layer: nn.Module, visible: Tensor, features: Tensor) -> Tensor:
    output: Tensor = type(layer).forward(layer, features)
    return output.masked_fill(~active_places(visible, output.shape[2:]), 0.0)


def _groups(layer: nn.Module) -> int | None:
    """Return the groups of channels that a normalisation of single images takes together; None for other layers."""
    if isinstance(layer, InstanceNorm):
        return layer.weight.numel()
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups
    if isinstance(layer, nn.InstanceNorm3d) and not layer.track_running_stats:
        return layer.num_features
    return None


def _group_norm(layer: nn.Module, visible: Tensor, groups: int, features: Tensor) -> Tensor:
    """Normalise groups of channels by mean and (biased) variance over the active places of each image."""
    active = active_places(visible, features.shape[2:])
    count = active.sum(dim=(2, 3, 4)) * (features.shape[1] // groups)
    wide = features.float().masked_fill(~active, 0.0)
    centred = (wide - _over_groups(wide, groups, count)).masked_fill(~active, 0.0)
    variance = _over_groups(centred * centred, groups, count)
    normed = centred * torch.rsqrt(variance + float(getattr(layer, "eps", NORM_EPS)))
    if layer.weight is not None:
        weight, bias = (value.view(1, -1, 1, 1, 1) for value in (layer.weight, layer.bias))  # type: ignore[operator]
        normed = (normed * weight + bias).masked_fill(~active, 0.0)
    return normed.to(features.dtype)


def _over_groups(values: Tensor, groups: int, count: Tensor) -> Tensor:
    """Return the mean of each group of channels over ``count`` (B, 1) values, (B, C, 1, 1, 1)."""
    total = values.sum(dim=(2, 3, 4)).view(len(values), groups, -1)
    mean = total.sum(dim=2, keepdim=True) / count[:, :, None].clamp(min=1)
    return mean.expand_as(total).reshape(len(values), -1, 1, 1, 1)


def _batch_norm(layer: nn.Module, visible: Tensor, features: Tensor) -> Tensor:
    """Run a batch normalisation on the gathered active places, running statistics and all; zeros elsewhere."""
    active = active_places(visible, features.shape[2:])[:, 0]
    last = features.movedim(1, -1)
    gathered = last[active]
    normed: Tensor = type(layer).forward(layer, gathered[:, :, None, None, None])[:, :, 0, 0, 0]
    return torch.zeros_like(last, dtype=normed.dtype).masked_scatter(active[..., None], normed).movedim(-1, 1)


def _is_empty(layer: nn.Module) -> bool:
    """Return whether a layer is an empty container."""
    return isinstance(layer, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
