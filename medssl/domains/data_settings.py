"""Which items of a store a verb that trains uses, and for what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medssl.batch import Ordering
from medssl.input_schemes import FOLLOW, Normalise
from medssl.settings import Settings
from medssl.windows import Apart

__all__ = ["DataSettings", "LabelledSettings"]


class DataSettings(Settings):
    """Which scans or clouds of the store are used."""

    store: str = Field("", description="The folder that `medssl cache` wrote.")
    splits: tuple[str, ...] = Field(("train", ""), description="Splits that are trained on; '' is unassigned scans.")
    slices: str = Field(
        "", description="The slices that `medssl reduce --unit slice` chose (kept.slices.parquet); '' takes all."
    )
    phases: str = Field(
        "",
        description="A CSV with the columns scan and phase (in cycles, 0 to 1): phases of frames, for cvrl's 'frame'.",
    )
    order: Ordering = Field(
        "shuffled",
        description="How batches are made: 'shuffled'; or by data.groups, 'one_per_group', of as many groups as can be "
        "(G-SimCLR), or 'one_group', of the items of one group (MCL).",
    )
    groups: str = Field(
        "", description="A CSV with the columns scan and group, of every scan or cloud to train on; for data.order."
    )
    apart: Apart = Field(
        "patients",
        description="What a contrast pushes apart: 'patients', whose own windows never repel each other; or, with "
        "data.slices, 'slices', each a thing of its own, as papers that train on loose slices do.",
    )
    drop_channels: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0,
        description="Probability with which a channel of a window is left out (set to 0) while training, each by "
        "itself, one always staying: the network then bears cases that lack channels. For stores of several.",
    )
    pair: Literal["views", "channels"] = Field(
        "views",
        description="What the two views of a contrast show: 'views', all channels each; 'channels', a channel each, "
        "drawn of those that the case has, the others being 0. For stores of several, and methods that compare views.",
    )
    normalise: Normalise = Field("follow", description=FOLLOW)
    held_out_split: str = Field("val", description="Split whose scans are only probed.")
    held_out_share: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.05, description="Share of patients held out where no scan is in that split and there are 20 or more."
    )
    held_out_scans: Annotated[int, Field(ge=0)] = Field(32, description="Most scans or clouds that a probe looks at.")
    neighbours_from: Annotated[int, Field(ge=0)] = Field(
        512,
        description="Clouds with a class: most of those trained on among which a probe looks for the nearest of a "
        "held-out one; 0 leaves that signal out. Classes are never trained on.",
    )


class LabelledSettings(Settings):
    """Which scans or clouds of the store are used, and for what."""

    store: str = Field(default="", description="The folder that `medssl cache` wrote.")
    splits: tuple[str, ...] = Field(
        default=("train", ""), description="Splits that are trained on; '' is unassigned scans."
    )
    ids: tuple[str, ...] | None = Field(
        default=None, description="Scans to train on, whatever their split; None takes the splits."
    )
    normalise: Normalise = Field(default="follow", description=FOLLOW)
    labels: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Patients whose labels are used, drawn from those splits; None uses all."
    )
    draw: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Which draw of patients; within one, fewer are part of more."
    )
    draw_seed: int = Field(default=0, description="Seed of the draws.")
    drop_channels: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0,
        description="Probability with which a channel of a window is left out (set to 0) while training, each by "
        "itself, one always staying: the network then bears cases that lack channels. For stores of several.",
    )
    held_out_split: str = Field(default="val", description="Split whose labelled scans are only scored.")
    held_out_scans: Annotated[int, Field(ge=0)] = Field(
        default=8, description="Most scans that are scored meanwhile; a classifier takes all of them, or none with 0."
    )
    predict: tuple[str, ...] = Field(
        default=("test",), description="Splits, or ids, to predict (label maps, or classes); [] predicts none."
    )
