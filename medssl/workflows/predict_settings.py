"""What ``medssl predict`` may be told."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from medssl.workflows.file_limits import FileLimits

__all__ = ["PredictSettings"]


class PredictSettings(FileLimits):
    """How new scans or clouds are predicted. What decides a prediction is the run's own, unless it is set here."""

    verb: ClassVar[str] = "predict"

    probabilities: bool = Field(
        default=False, description="Write a map of each class's probability too, or a column of each part."
    )
    uncertainty: bool = Field(
        default=False, description="Write the entropy of each voxel or point too, 0 (sure) to 1 (any class)."
    )
    steps: Literal["fixed", "even"] | None = Field(
        default=None,
        description="Where windows lie: one step apart ('fixed') or spread evenly ('even'), with nnU-Net's weights, "
        "sums in half precision and interpolation of logits. None: as the run says.",
    )
    mirror: bool | None = Field(
        default=None,
        description="Average mirrored views, along the axes that the run's training flipped. None: as the run says.",
    )
    overlap: float | None = Field(
        default=None, ge=0, lt=1, description="Share of a window that its neighbour covers too. None: as the run says."
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="Windows that go through the network at once. None: as the run says."
    )
    privacy: Literal["ids", "paths"] = Field(
        default="ids",
        description="'ids': the table names what was predicted by ids alone; 'paths' adds the column source, the file.",
    )
    table: Literal["csv", "parquet"] = Field(default="csv", description="Kind of the table of predictions.")
    channels: str = Field(
        default="auto",
        description="Names of the channels of the new scans, such as t1,flair, in the order of the run's; 'frames' "
        "takes those of 4D files; 'auto' looks for the run's own names.",
    )
    modality: str = Field(
        default="", pattern=r"^[A-Z]{0,16}$", description="What all scans are (CT, MR), where files do not say it."
    )
    picture_channel: Literal["", "red", "green", "blue", "luminance"] = Field(
        default="", description="What to take of pictures in colour; empty refuses them."
    )
    unit: Literal["", "mm", "m"] = Field(default="", description="Unit of clouds whose files do not say it.")
    cloud_class: str = Field(
        default="", description="Parts of clouds: the class of all of them, where the run's network is told it."
    )
    device: str = Field(default="auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'.")
    workers: int = Field(default=0, ge=0, description="Processes that look at files; 0 decides by how much there is.")
