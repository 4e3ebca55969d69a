"""Settings of `medssl.methods.simclr`."""

from __future__ import annotations

from typing import Literal

from medssl.methods.settings.contrast import BatchContrastSettings
from medssl.methods.settings.crop_views import CropSettings

__all__ = ["SimCLRSettings"]


class SimCLRSettings(BatchContrastSettings, CropSettings):
    """Settings of SimCLR."""

    name: Literal["simclr"] = "simclr"
