"""Settings of `pointcloud.encoders.hierarchy`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medssl.settings import Settings

__all__ = ["HierarchySettings"]


class HierarchySettings(Settings):
    """Settings of the hierarchy; the defaults are the paper's single-scale network for 1024 points."""

    name: Literal["hierarchy"] = "hierarchy"
    points_per_place: tuple[int, ...] = Field((2, 8), description="Points of the cloud for each place of a level.")
    radii: tuple[float, ...] = Field((0.2, 0.4), description="Radius of each level's balls, in radii of the cloud.")
    neighbours: tuple[int, ...] = Field((32, 64), description="Places taken of a ball, at most.")
    widths: tuple[tuple[int, ...], ...] = Field(
        ((64, 64, 128), (128, 128, 256)), description="Outputs of each level's layers."
    )
    last: tuple[int, ...] = Field((256, 512, 1024), description="Outputs of the layers before the last maximum.")

    @model_validator(mode="after")
    def _levels_fit(self) -> HierarchySettings:
        lengths = {len(self.points_per_place), len(self.radii), len(self.neighbours), len(self.widths)}
        if len(lengths) != 1 or 0 in lengths or not self.last or not all(self.widths):
            raise ValueError("points_per_place, radii, neighbours and widths need one entry for each level.")
        if min(*self.radii, *self.neighbours, *self.points_per_place) <= 0:
            raise ValueError("radii, neighbours and points_per_place must be above 0.")
        return self
