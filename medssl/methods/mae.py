"""MAE: the masked autoencoder of plain transformers, whose encoder computes the visible tokens alone.

Reference:
    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377. Visible tokens with
    their positions go through the encoder; a light transformer decoder gets them back in place, with a learnt mask
    token and fixed positions everywhere, and draws each hidden patch by one linear layer. Targets are normalised patch
    by patch (variance of N - 1); the error is the mean square over hidden patches.

Differs from the authors' code: three axes, and no class token; the encoder's positions are whatever it has (fixed sine
and cosine by default, as there, but over three axes and with z first); padding outside the scan does not count; the
number of visible patches is rounded, not cut. Augmentation is that of ``masked``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.encoders.transformer import LAYER_NORM_EPS, Block, initialise_transformer, sincos_positions
from medssl.encoders.vit import ViTEncoder
from medssl.methods.masked_window import MaskedViews, MaskedWindow
from medssl.methods.settings.mae import MAESettings
from medssl.objectives.reconstruction import unpatchify
from medssl.views.masking import hidden_count

__all__ = ["MAE", "MAESettings"]


class MAE(MaskedWindow):
    """Encode the visible tokens, draw the hidden ones. Only the encoder is kept: this decoder knows tokens alone.

    Args:
        settings: See ``MAESettings``.
        encoder: What is pretrained, a plain transformer.

    Raises:
        ValueError: If the encoder is of another kind, or the window does not fit it.
    """

    unfit = "it is for the plain transformer, and auto takes encoders of convolutions"
    smallest_encoder = "vit"

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As all masked reconstruction, with one block of a decoder."""
        return {**super().smallest(), "decoder_width": 20, "decoder_depth": 1, "decoder_heads": 2}

    def __init__(self, settings: MAESettings, encoder: Encoder) -> None:
        if not isinstance(encoder, ViTEncoder):
            raise ValueError(
                f"MAE is for the plain transformer ('vit'). Got {type(encoder).__name__}; for encoders of convolutions "
                "take 'spark' or 'masked', for 'swin' take 'simmim'."
            )
        super().__init__(settings, encoder, patch=encoder.patch)
        self.vit: ViTEncoder = encoder
        self.width = settings.decoder_width
        self.hidden_tokens = hidden_count(settings.window, encoder.patch, settings.ratio)
        self.into_decoder = nn.Linear(encoder.width, self.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.blocks = nn.ModuleList(Block(self.width, settings.decoder_heads) for _ in range(settings.decoder_depth))
        self.norm = nn.LayerNorm(self.width, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(self.width, math.prod(encoder.patch) * encoder.in_channels)
        for part in (self.into_decoder, self.blocks, self.head):
            initialise_transformer(part)
        nn.init.normal_(self.mask_token, std=0.02)

    def reconstruct(self, views: MaskedViews) -> Tensor:
        """Return the drawn windows, (B, C, z, y, x); what is drawn in visible patches means nothing."""
        embedded, grid = self.vit.embed_patches(views.target)
        # hidden tokens sort last; each item hides the same number
        order = torch.argsort(views.hidden.flatten(1).to(torch.int8), dim=1, stable=True)
        visible = order[:, : embedded.shape[1] - self.hidden_tokens, None]
        placed = embedded + self.vit.positions(grid)
        encoded = self.vit.encode(placed.gather(1, visible.expand(-1, -1, self.vit.width)))[-1]
        narrow = self.into_decoder(encoded)
        tokens = self.mask_token.to(narrow.dtype).repeat(*embedded.shape[:2], 1)
        tokens = tokens.scatter(1, visible.expand(-1, -1, self.width), narrow)
        tokens = tokens + sincos_positions(grid, self.width, tokens.device)
        for block in self.blocks:
            tokens = block(tokens)
        return unpatchify(self.head(self.norm(tokens)), grid, self.patch)
