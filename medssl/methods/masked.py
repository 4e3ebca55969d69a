"""Masked reconstruction with a convolutional encoder: hide patches of a window, draw them again from the rest.

References:
    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377;
    Wald et al., "Revisiting MAE pre-training for 3D medical image segmentation", CVPR 2025, arXiv:2410.23132;
    Wald et al., "An OpenMind for 3D medical vision self-supervised learning", ICCV 2025, arXiv:2412.17041, whose
    plain "MAE" for residual U-Nets this is: hidden voxels are set to a constant and a U-Net decoder with skips draws
    the window; the error counts in hidden patches only.

Differs from the OpenMind code: padding outside the scan never counts; targets may be normalised patch by patch; the
decoder's weights are kept beside the encoder's, since carrying over both is what helped segmentation most.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medssl.decoder import UNetDecoder
from medssl.encoders.contract import Encoder
from medssl.methods.masked_window import MaskedViews, MaskedWindow
from medssl.methods.settings.masked import MaskedReconstructionSettings

__all__ = ["MaskedReconstruction", "MaskedReconstructionSettings", "MaskedViews"]


class MaskedReconstruction(MaskedWindow):
    """Hide patches, reconstruct them with the decoder that segmentation takes over.

    Args:
        settings: See ``MaskedReconstructionSettings``.
        encoder: What is pretrained; the window must fit its ``size_multiple``.

    Raises:
        ValueError: If the window does not fit the encoder or the patch.
    """

    def __init__(self, settings: MaskedReconstructionSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder, patch=settings.patch)
        self.decoder = UNetDecoder(encoder, num_classes=encoder.in_channels)

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As all masked reconstruction, with patches of the smallest encoder's step."""
        return {**super().smallest(), "patch": (4, 4, 4)}

    def exported_modules(self) -> dict[str, nn.Module]:
        """Keep the decoder too."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def reconstruct(self, views: MaskedViews) -> Tensor:
        """Return the drawn windows, (B, C, z, y, x)."""
        shown = self.shown(views)
        logits: list[Tensor] = self.decoder(self.encoder(shown), shown)
        return logits[0]
