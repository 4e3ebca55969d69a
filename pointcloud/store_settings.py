"""How clouds are stored: settings of ``cache``, which need no reader of clouds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings

__all__ = ["CLASS", "CloudStoreSettings"]

CLASS = "class"


class CloudStoreSettings(Settings):
    """How clouds are stored."""

    points: int = Field(
        default=8192,
        ge=16,
        description="Clouds: most points kept of one, drawn at random; a mesh gives so many.",
    )
    target: str = Field(default=CLASS, description="Clouds: which target of the manifest is the class of a cloud.")
    points_seed: int = Field(default=0, description="Clouds: decides which points are drawn.")
    privacy: Literal["ids", "paths"] = Field(
        default="ids", description="'ids': the store names scans by their ids alone; 'paths' keeps their paths too."
    )
