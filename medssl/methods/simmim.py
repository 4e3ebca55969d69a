"""SimMIM: the simple masked image modelling. Learnt tokens in place of patches, one linear layer, an L1 error.

Reference:
    Xie et al., "SimMIM: a simple framework for masked image modeling", CVPR 2022, arXiv:2111.09886. The whole window
    goes through the encoder with a learnt mask token where patches are hidden; one linear layer over the coarsest level
    predicts the voxels under each of its places; the error is the mean absolute difference over hidden voxels.

For ``vit`` and ``swin`` the token takes the place of embedded patches (before positions are added, as published). An
encoder of convolutions has no embedded patches: there a learnt value a channel takes the place of the voxels.

Differs from the authors' code: three axes; padding outside the scan does not count; patches are by default as large as
the coarsest level's stride (32 in the paper, for every encoder); augmentation is that of ``masked`` (the paper: crops
and flips). Of ``swin``, the convolutions on the skips lie beside the way to the coarsest level and stay as they were
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.encoders.swin import SwinEncoder
from medssl.encoders.vit import ViTEncoder
from medssl.methods.masked_window import MaskedViews, MaskedWindow
from medssl.methods.settings.simmim import SimMIMSettings, Triple
from medssl.objectives.reconstruction import unpatchify
from medssl.views.masking import to_cells, to_voxels

__all__ = ["SimMIM", "SimMIMSettings"]


class SimMIM(MaskedWindow):
    """Replace patches by a token, predict their voxels from the coarsest level.

    Args:
        settings: See ``SimMIMSettings``.
        encoder: What is pretrained, of any kind.

    Raises:
        ValueError: If window, patch and encoder do not fit each other.
    """

    unfit = "its presets are for transformers, and auto takes encoders of convolutions"
    error: ClassVar[Literal["squared", "absolute"]] = "absolute"

    def __init__(self, settings: SimMIMSettings, encoder: Encoder) -> None:
        stride = encoder.strides[-1]
        super().__init__(settings, encoder, patch=settings.patch or stride)
        token = _token_size(encoder)
        if any(p % t for p, t in zip(self.patch, token, strict=True)):
            raise ValueError(f"The patch {self.patch} must be a multiple of the encoder's token {token}.")
        self.stride = stride
        self.mask_token = nn.Parameter(torch.zeros(_token_channels(encoder)))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.head = nn.Linear(encoder.channels[-1], math.prod(stride) * encoder.in_channels)

    def reconstruct(self, views: MaskedViews) -> Tensor:
        """Return the drawn windows, (B, C, z, y, x)."""
        coarsest = self.encode_masked(views)[-1]
        rows = self.head(coarsest.flatten(2).transpose(1, 2))
        z, y, x = coarsest.shape[2:]
        return unpatchify(rows, (z, y, x), self.stride)

    def encode_masked(self, views: MaskedViews) -> list[Tensor]:
        """Return the encoder's pyramid of the windows with tokens in hidden patches.

        Of ``swin``, the level at full resolution still sees the hidden voxels; the coarsest, which counts, does not.
        """
        encoder = self.encoder
        if isinstance(encoder, ViTEncoder):
            tokens, grid = encoder.embed_patches(views.target)
            hidden = to_cells(views.hidden, grid).flatten(1)[:, :, None]
            tokens = torch.where(hidden, self.mask_token.to(tokens.dtype), tokens)
            return [encoder.as_map(level, grid) for level in encoder.encode(tokens + encoder.positions(grid))]
        if isinstance(encoder, SwinEncoder):
            with _masked_embedding(encoder, self.mask_token, views.hidden):
                pyramid: list[Tensor] = encoder(views.target)
            return pyramid
        token = self.mask_token.view(1, -1, 1, 1, 1)
        pyramid = encoder(torch.where(to_voxels(views.hidden, self.patch), token, views.target))
        return pyramid


@contextmanager
def _masked_embedding(encoder: SwinEncoder, token: Tensor, hidden: Tensor) -> Iterator[None]:
    """Put the token where patches are hidden, between the encoder's patch embedding and its first stage."""
    layer = encoder.swinViT.patch_embed

    def forward(images: Tensor) -> Tensor:
        embedded: Tensor = type(layer).forward(layer, images)
        a, b, c = embedded.shape[2:]
        cells = to_cells(encoder.in_its_axes(hidden), (a, b, c))[:, None]
        return torch.where(cells, token.to(embedded.dtype).view(1, -1, 1, 1, 1), embedded)

    layer.forward = forward  # no hook: a compiled encoder does not notice hooks that come and go
    try:
        yield
    finally:
        del layer.forward


def _token_size(encoder: Encoder) -> Triple:
    """Return the voxels of one token, (z, y, x); one voxel for encoders of convolutions."""
    if isinstance(encoder, ViTEncoder):
        return encoder.patch
    return (2, 2, 2) if isinstance(encoder, SwinEncoder) else (1, 1, 1)


def _token_channels(encoder: Encoder) -> int:
    """Return the length of the learnt token."""
    if isinstance(encoder, ViTEncoder):
        return encoder.width
    return encoder.settings.feature_size if isinstance(encoder, SwinEncoder) else encoder.in_channels
