"""VoCo joined with masked reconstruction: one window, one encoder, both objectives.

Position contrast is reported to help classification and masked reconstruction segmentation (Wald et al., ICCV 2025,
arXiv:2412.17041); the joined method trains for both. Every step pays for both: the crops of VoCo and the masked window.
`medssl.methods.joined` joins any other methods.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from medssl.encoders.contract import Encoder
from medssl.methods.fitting import Room
from medssl.methods.joined import Parts
from medssl.methods.masked import MaskedReconstruction, MaskedReconstructionSettings
from medssl.methods.voco import VoCo, VoCoSettings
from medssl.settings import Settings

__all__ = ["VoCoMasked", "VoCoMaskedSettings"]


class VoCoMaskedSettings(Settings):
    """Settings of the joined method: those of its two parts, and the weight of each."""

    name: Literal["voco_masked"] = "voco_masked"
    voco: VoCoSettings = VoCoSettings()
    masked: MaskedReconstructionSettings = MaskedReconstructionSettings()
    voco_weight: float = Field(1.0, ge=0, description="Weight of the position contrast.")
    masked_weight: float = Field(10.0, ge=0, description="Weight of the reconstruction (its error is far below 1).")


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
