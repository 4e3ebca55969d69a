"""Settings of `medssl.methods.moco`."""

from __future__ import annotations

from typing import Literal

from medssl.methods.settings.contrast import MomentumContrastSettings
from medssl.methods.settings.crop_views import CropSettings

__all__ = ["MoCoSettings"]


class MoCoSettings(MomentumContrastSettings, CropSettings):
    """Settings of MoCo."""

    name: Literal["moco"] = "moco"
