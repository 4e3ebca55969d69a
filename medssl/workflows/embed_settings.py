"""What ``embed`` may be told."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from medssl.domains.draws import POINT_DRAWS
from medssl.encoders.settings.input import Pool
from medssl.settings import Settings

__all__ = ["EmbedSettings"]

Triple = tuple[int, int, int]


class EmbedSettings(Settings):
    """How a scan becomes a vector."""

    verb: ClassVar[str] = "embed"

    coverage: Literal["fitted", "windows", "whole"] = Field(
        default="fitted",
        description="'fitted': one look a scan, its body scaled to the window, as the probe and classifiers look; "
        "'windows': the mean over windows that cover the body, many times slower; 'whole': the body in one pass.",
    )
    window: Triple | None = Field(default=None, description="Voxels of a window, (z, y, x). None: as in training.")
    overlap: float = Field(default=0.25, ge=0, lt=1, description="Least share of a window that its neighbour covers.")
    batch_size: int = Field(default=4, ge=1, description="Windows that go through the encoder at once.")
    pool: Pool | None = Field(
        default=None,
        description="How features become one vector: mean, prenorm, grid, levels or cells; see encoder.pool of "
        "pretraining. None: as on the run's card.",
    )
    levels: Literal["coarsest", "all"] = Field(
        default="coarsest", description="'coarsest': the embedding; 'all': the means of finer levels joined to it."
    )
    points: int | None = Field(default=None, ge=2, description="Clouds: points taken of each. None: as in training.")
    point_draws: int = Field(
        default=POINT_DRAWS, ge=1, description="Clouds with more points: draws that a vector is the mean of."
    )
    join: tuple[str, ...] = Field(
        default=(),
        description="Further runs, such as stages of MCL: a vector is all runs' vectors, joined, of length 1.",
    )
    groups: int | None = Field(
        default=None, ge=1, description="Clusters that vectors are put into; --out is then a .csv, for data.groups."
    )
    within: str = Field(default="", description="Groups of an earlier stage (.csv), which these subdivide.")
    splits: tuple[str, ...] | None = Field(
        default=None, description="Splits to embed; '' is unassigned scans. None: all."
    )
    device: str = Field(default="auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'.")
