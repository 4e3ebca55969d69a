"""Settings of ``medssl reduce``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from medssl.workflows.copies import CopySettings

__all__ = ["ReduceSettings"]

By = Literal[
    "copies",
    "all",
    "every",
    "random",
    "hash",
    "ssim",
    "mi",
    "embedding",
    "semdedup",
    "semdedup-published",
    "kcentre",
    "balanced",
]


class ReduceSettings(CopySettings):
    """Settings of ``medssl reduce``."""

    verb: ClassVar[str] = "reduce"

    by: By = Field(
        default="copies", description="'copies' leaves out copies alone; the others choose among what is left."
    )
    keep: str = Field(default="", description="How many scans to keep, such as 200, or which share: 0.25 or 25%.")
    copies: bool = Field(
        default=True,
        description="Leave out copies before the strategy chooses. With splits=leave, 'false' looks for none.",
    )
    unit: Literal["scan", "slice", "block"] = Field(
        default="scan",
        description="What a strategy chooses: scans, or slices or blocks of the scans that are kept.",
    )
    within: Literal["scan", "dataset"] = Field(
        default="scan", description="For slices and blocks: choose within each scan, or over all scans together."
    )
    axis: Literal["z", "y", "x"] = Field(default="z", description="Along which axis slices are cut.")
    block: tuple[int, int, int] = Field(default=(64, 64, 64), description="Voxels of a block, (z, y, x).")
    stretch: Literal["scan", "slice"] = Field(
        default="scan",
        description="Grey values that ssim, mi and embedding see: between limits of the 'scan', or of each 'slice'.",
    )
    related: Literal["keep", "one"] = Field(
        default="keep",
        description="Other kernels, phases and echoes of one acquisition: 'keep' them all, or the 'one' worth most.",
    )
    splits: Literal["mend", "leave"] = Field(
        default="mend",
        description="Scans of one patient, copies and related ones that lie in several splits: 'mend' moves them to "
        "one, test before val before train; 'leave' leaves them.",
    )
    thin: tuple[str, ...] = Field(
        default=("train", ""), description="Splits that a strategy chooses from; the others keep all but copies."
    )
    step: int | None = Field(default=None, ge=1, description="For by=every: every n-th scan, in the order of ids.")
    near: float | None = Field(
        default=None, ge=0, description="How near two must be for one to stand for the other, where keep is not given."
    )
    prefer: Literal["hard", "easy", "random"] = Field(
        default="hard", description="For SemDeDup: which of a group is kept, by the distance from its cluster's centre."
    )
    embeddings: str = Field(
        default="",
        description="Vectors of the scans: a .parquet or .npz of medssl embed, or a .npy with a row for each scan of "
        "the manifest. Empty: the 512 lowest frequencies of each scan.",
    )
    network: str = Field(
        default="",
        description="What makes vectors: timm:NAME (random weights) or timm:NAME:FILE.safetensors.",
    )
    planted: int = Field(
        default=2, ge=0, description="Scans of which altered copies are made and looked for, to measure recall."
    )
    pictures: int = Field(default=12, ge=0, le=200, description="How many groups to show on the page.")
    seed: int = Field(default=0, description="Seed of what is drawn.")
    shard: str = Field(default="1/1", description="Read the i-th of n parts, such as 2/8; run all n, on any machines.")
