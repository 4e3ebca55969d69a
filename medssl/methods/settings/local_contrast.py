"""Settings of `medssl.methods.local_contrast`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medssl.methods.settings.partition_views import PartitionSettings

__all__ = ["LocalContrastSettings"]


class LocalContrastSettings(PartitionSettings):
    """Settings of the local contrast; the defaults are the paper's, on slices."""

    name: Literal["local_contrast"] = "local_contrast"
    loss: Literal["random", "aligned"] = Field(
        "random", description="L^R or L^D of the paper; the latter needs scans that show the same region."
    )
    blocks: int = Field(3, ge=1, description="Blocks of the decoder that are trained, from the coarsest on.")
    region: int = Field(3, ge=1, description="Length of a region along each axis, in voxels of the last block.")
    negatives: Annotated[int, Field(ge=1)] | Literal["published", "all"] = Field(
        "published",
        description="Neighbours of a region that repel it, in each of two maps: 'published' is 5 for L^R and 4 for "
        "L^D, 'all' takes all regions that do not overlap it, as in the paper's text.",
    )
