"""VoCo joined with masked reconstruction: one window, one encoder, both objectives.

Position contrast is reported to help classification and masked reconstruction segmentation (Wald et al., ICCV 2025,
arXiv:2412.17041); the joined method trains for both. Every step pays for both: the crops of VoCo and the masked window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.methods.contract import Losses, Method
from medssl.methods.masked import MaskedReconstruction, MaskedReconstructionSettings, MaskedViews
from medssl.methods.voco import VoCo, VoCoSettings, VoCoViews
from medssl.randomness import Stream
from medssl.settings import Settings
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["VoCoMasked", "VoCoMaskedSettings", "VoCoMaskedViews"]


class VoCoMaskedSettings(Settings):
    """Settings of the joined method: those of its two parts, and the weight of each."""

    name: Literal["voco_masked"] = "voco_masked"
    voco: VoCoSettings = VoCoSettings()
    masked: MaskedReconstructionSettings = MaskedReconstructionSettings()
    voco_weight: float = Field(1.0, ge=0, description="Weight of the position contrast.")
    masked_weight: float = Field(10.0, ge=0, description="Weight of the reconstruction (its error is far below 1).")


@dataclass(frozen=True)
class VoCoMaskedViews:
    """The views of the two parts."""

    voco: VoCoViews
    masked: MaskedViews


class VoCoMasked(Method):
    """Position contrast and masked reconstruction of the same window.

    Args:
        settings: See ``VoCoMaskedSettings``; both parts must ask for a window of the same size.
        encoder: What is pretrained.

    Raises:
        ValueError: If the windows differ in size.
    """

    def __init__(self, settings: VoCoMaskedSettings, encoder: Encoder) -> None:
        super().__init__()
        if settings.voco.window_size != settings.masked.window:
            raise ValueError(
                f"The windows of both parts must agree. Got voco {settings.voco.window_size} (grid * crop, or "
                f"voco.window) and masked.window {settings.masked.window}."
            )
        self.settings = settings
        self.encoder = encoder
        self.voco = VoCo(settings.voco, encoder)
        self.masked = MaskedReconstruction(settings.masked, encoder)

    @property
    def plan(self) -> WindowPlan:
        """The window of VoCo."""
        return self.voco.plan

    def kept(self) -> dict[str, nn.Module]:
        """Keep the decoder of the reconstruction too."""
        return self.masked.kept()

    def views(self, batch: WindowBatch, stream: Stream) -> VoCoMaskedViews:
        """Cut crops for the one part and mask the window for the other."""
        return VoCoMaskedViews(self.voco.views(batch, stream), self.masked.views(batch, stream))

    def forward(self, views: VoCoMaskedViews, progress: float) -> Losses:
        """Return the weighted sum of both losses."""
        chosen = self.settings
        position, drawn = self.voco(views.voco, progress), self.masked(views.masked, progress)
        total = chosen.voco_weight * position.total + chosen.masked_weight * drawn.total
        return Losses(total, {**position.parts, **drawn.parts}, {**drawn.signals, **position.signals})

    def after_step(self, progress: float) -> None:
        """Move the teacher."""
        self.voco.after_step(progress)

    def pictures(self, views: VoCoMaskedViews) -> dict[str, Tensor]:
        """Return the pictures of both parts."""
        return {**self.voco.pictures(views.voco), **self.masked.pictures(views.masked)}

    def probe(self, views: VoCoMaskedViews) -> dict[str, Tensor]:
        """Return the measurements of both parts."""
        return {**self.masked.probe(views.masked), **self.voco.probe(views.voco)}
