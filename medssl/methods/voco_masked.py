"""VoCo joined with masked reconstruction: one window, one encoder, both objectives.

Position contrast is reported to help classification and masked reconstruction segmentation (Wald et al., ICCV 2025,
arXiv:2412.17041); the joined method trains for both. Every step pays for both: the crops of VoCo and the masked window.
`medssl.methods.joined` joins any other methods.
"""

from __future__ import annotations

from typing import Any

from medssl.encoders.contract import Encoder
from medssl.methods.fitting import Room
from medssl.methods.joined import Parts
from medssl.methods.masked import MaskedReconstruction
from medssl.methods.settings.voco_masked import VoCoMaskedSettings
from medssl.methods.voco import VoCo

__all__ = ["VoCoMasked", "VoCoMaskedSettings"]


class VoCoMasked(Parts):
    """Position contrast and masked reconstruction of the same window.

    Args:
        settings: See ``VoCoMaskedSettings``; both parts must ask for a window of the same size.
        encoder: What is pretrained.

    Raises:
        ValueError: If the windows differ in size.
    """

    coupled = VoCo.coupled

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Both parts as small as by themselves."""
        return {"voco": VoCo.smallest(), "masked": MaskedReconstruction.smallest()}

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Fit both parts to the same window."""
        return {"voco": VoCo.fit(room), "masked": MaskedReconstruction.fit(room)}

    def __init__(self, settings: VoCoMaskedSettings, encoder: Encoder) -> None:
        if settings.voco.window_size != settings.masked.window:
            raise ValueError(
                f"The windows of both parts must agree. Got voco {settings.voco.window_size} (grid * crop, or "
                f"voco.window) and masked.window {settings.masked.window}."
            )
        super().__init__(
            {"voco": VoCo(settings.voco, encoder), "masked": MaskedReconstruction(settings.masked, encoder)},
            {"voco": settings.voco_weight, "masked": settings.masked_weight},
            encoder,
        )
        self.settings = settings
