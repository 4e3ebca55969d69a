"""The settings of a store: what is done to a scan between its file and its place in the store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from medssl.input_schemes import Scheme
from medssl.settings import Settings
from medssl.store.accepting import Accepted

__all__ = ["CT_RANGE", "CT_SCALE", "NOT_IN_KEYS", "StoreSettings"]

CT_RANGE = (-1024, 3071)
CT_SCALE = (-1000.0, 1000.0)


# Settings that change no voxel of a stored scan by themselves: its key does not depend on them.
NOT_IN_KEYS = frozenset(
    {"spacing_mm", "accept", "mixed_scales", "channels", "missing", "channel_gap_mm", "privacy", "normalise"}
)


class StoreSettings(Settings):
    """How scans are stored. A change of any of these writes the scans that it concerns again, and no others."""

    spacing_mm: tuple[float, float, float] | Literal["keep", "median"] = Field(
        default="keep",
        description=(
            "Voxel size (z, y, x) in mm after turning to RAS, such as [2.5,1.5,1.5]; 'keep' resamples nothing, "
            "'median' takes the median of each modality."
        ),
    )
    interpolation: Literal["linear", "cubic"] = Field(
        default="cubic", description="How images are resampled; labels always take the nearest voxel."
    )
    grid: Literal["spacing", "nnunet"] = Field(
        default="spacing",
        description="'spacing' has voxels of exactly that size; 'nnunet' makes scans as nnU-Net does (cropped to what "
        "is not 0, stretched to a whole number of voxels, not blurred), for networks that its predictor is to run.",
    )
    hu_range: tuple[int, int] = Field(default=CT_RANGE, description="CT is clipped to this range of HU.")
    ct_scale: tuple[float, float] = Field(
        default=CT_SCALE, description="HU that become 0 and 1 in the network's input."
    )
    percentiles: tuple[float, float] = Field(
        default=(0.5, 99.5),
        description="Other modalities: percentiles inside the body box that become 0 and 1 in the network's input.",
    )
    normalise: Scheme = Field(
        default="unit",
        description="What runs on the store take for their input where they say nothing else: 'unit' (the two above "
        "become 0 and 1), 'zscore' (of each scan), 'dataset' (z-score over the training scans), 'nnunet' (its CT "
        "scheme, z-scores elsewhere), 'nonzero' (the same with z-scores as nnU-Net takes them). No stored "
        "voxel depends on it.",
    )
    crop: bool = Field(default=False, description="Store only the body box, and every labelled voxel.")
    crop_margin_mm: float = Field(default=10.0, ge=0.0, description="What a crop leaves around the body.")
    mixed_scales: bool = Field(
        default=False, description="Accept CT on several scales (HU, 0 to 1, ...) in one store; else they are refused."
    )
    channels: str = Field(
        default="auto",
        description="Cases of several channels: 'auto' stores those of the manifest, 'scans' every scan by itself; or "
        "names of channels in their order, such as t1,flair.",
    )
    missing: Literal["leave-out", "fill"] = Field(
        default="leave-out",
        description="A case that lacks a channel is left out, or stored with the channel marked as lacking (0 to a "
        "network).",
    )
    channel_gap_mm: float = Field(
        default=20.0,
        ge=0.0,
        description="A channel on another grid is resampled to the first one's; a case is refused where the first one "
        "reaches further beyond it than this.",
    )
    privacy: Literal["ids", "paths"] = Field(
        default="ids",
        description="'ids': the store names scans by their ids alone and finds their files by its manifest; 'paths' "
        "keeps their paths in the store too.",
    )
    frame: int = Field(default=0, ge=0, description="Which volume of a 4D image is taken, counted from 0.")
    accept: tuple[Accepted, ...] = Field(
        default=(),
        description=(
            "Faults, as `medssl check` calls them, that are stored all the same: nonfinite, constant, "
            "label-shape-differs, label-affine-differs, label-negative, label-stray, label-shared."
        ),
    )

    @field_validator("spacing_mm")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | str) -> tuple[float, ...] | str:
        if not isinstance(value, str) and min(value) <= 0:
            raise ValueError("each voxel size must be above 0 mm")
        return value

    @field_validator("hu_range", "ct_scale", "percentiles")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError("the first number must be below the second")
        return value

    @field_validator("hu_range")
    @classmethod
    def _fits(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] < -32768 or value[1] > 32767:
            raise ValueError("must lie in -32768 to 32767, what int16 holds")
        return value

    @field_validator("percentiles")
    @classmethod
    def _percent(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] < 0 or value[1] > 100:
            raise ValueError("percentiles lie in 0 to 100")
        return value
