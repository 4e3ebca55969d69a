"""Settings of `medssl.methods.voco`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings
from medssl.views.settings.intensity import IntensitySettings
from medssl.views.settings.spatial import SpatialSettings

__all__ = ["Triple", "VoCoSettings"]

Triple = tuple[int, int, int]


class VoCoSettings(Settings):
    """Settings of VoCo; the defaults are ours, see the table at the top of the module."""

    name: Literal["voco"] = "voco"
    crop: Triple = Field((32, 32, 32), description="Size of a crop in voxels, (z, y, x).")
    grid: Triple = Field((2, 3, 3), description="Base crops along (z, y, x).")
    window: Triple | None = Field(None, description="Window read from a scan; None takes grid * crop.")
    random_crops: int = Field(8, ge=1, description="Random crops a scan.")
    anchor: Literal["body", "window"] = Field("body", description="What the base crops are spread over.")
    teacher: Literal["none", "network", "heads"] = Field(
        "network", description="What follows the student as a moving average: nothing, all of it, or only its head."
    )
    momentum: float = Field(0.99, ge=0, le=1, description="Momentum of the teacher at the start.")
    final_momentum: float = Field(1.0, ge=0, le=1, description="Momentum at the end; cosine between the two.")
    student_bases: bool = Field(False, description="Whether the student sees the base crops too.")
    both_directions: bool = Field(False, description="Average student-teacher and teacher-student similarities.")
    positive: Literal["overlap", "equal", "all"] = Field(
        "overlap",
        description="Weight of the bases that a crop touches: their overlap; one and the same; or the paper's loss "
        "over all pairs, which has no negative term.",
    )
    negative: Literal["square", "log"] = Field("log", description="Penalty on bases that a crop does not touch.")
    regulariser: Literal["bases", "distant_crops", "none"] = Field(
        "distant_crops", description="What is pushed towards being orthogonal: base crops, crops far apart, or nothing."
    )
    regulariser_power: Literal[1, 2] = Field(2, description="Power of that push: 1 as printed, 2 as released.")
    inter: Literal["none", "teacher", "student", "position"] = Field(
        "teacher",
        description="Contrast with the base crops of another scan, the teacher's similarities being the targets: none; "
        "with the teacher's base crops; with the student's, as released; or, with the teacher's, towards the position "
        "label itself, which is right when every scan shows the same region (needs anchor body).",
    )
    by_scan: bool = Field(False, description="Losses of each scan and then their mean, as released; else of all pairs.")
    levels: Literal["last", "all", "released"] = Field(
        "all",
        description="Levels that are joined: 'last' is the encoder's embedding, as encoder.pool makes it; 'all' adds "
        "the means of the finer levels that it lacks; 'released' leaves the second coarsest of them out.",
    )
    hidden: int = Field(512, ge=8, description="Width of the projection head.")
    projected: int = Field(256, ge=8, description="Length of the projected features.")
    feature_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the student's features.")
    spatial: SpatialSettings = SpatialSettings(flip=(0.0, 0.0, 0.0))
    intensity: IntensitySettings = IntensitySettings(
        contrast=(0.75, 1.25), brightness=0.1, gamma=(0.8, 1.25), noise=0.05, probability=0.3
    )

    @property
    def window_size(self) -> Triple:
        """Size of the window read from each scan, (z, y, x)."""
        if self.window is not None:
            return self.window
        (gz, gy, gx), (cz, cy, cx) = self.grid, self.crop
        return gz * cz, gy * cy, gx * cx
