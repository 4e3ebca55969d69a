"""What ``match`` may be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from medssl.workflows.file_limits import FileLimits

__all__ = ["RIVAL_MM", "MatchSettings"]

Triple = tuple[int, int, int]
RIVAL_MM = 10.0  # a second place counts as another from this distance on


class MatchSettings(FileLimits):
    """How a place is looked for."""

    verb: ClassVar[str] = "match"

    window: Triple | None = Field(
        default=None, description="Voxels that the encoder sees at once, (z, y, x). None: as in training."
    )
    places: int = Field(default=40000, ge=100, description="Voxels of each scan that are looked at, drawn evenly.")
    rival_mm: float = Field(
        default=RIVAL_MM, gt=0, description="How far from the best place the second best is looked for, mm."
    )
