"""Settings of `pointcloud.encoders.dgcnn`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medssl.settings import Settings

__all__ = ["DGCNNSettings"]


class DGCNNSettings(Settings):
    """Settings of DGCNN; the defaults are the paper's for classification."""

    name: Literal["dgcnn"] = "dgcnn"
    widths: tuple[int, ...] = Field((64, 64, 128, 256), min_length=1, description="Outputs of the edge layers.")
    embedding: int = Field(1024, ge=1, description="Output of the last layer; the embedding is twice as long.")
    neighbours: int = Field(20, ge=2, description="Neighbours of each point, itself among them.")
