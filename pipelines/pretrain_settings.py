"""What decides a pretraining run, on scans or on clouds, and how a command line becomes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from medssl.encoders.table import ENCODERS, pooled_as_then
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError
from medssl.input_schemes import FOLLOW, Normalise
from medssl.methods.table import METHODS
from medssl.presets import list_presets
from medssl.settings import Auto, Resolved, Settings, resolve
from medssl.windows import Apart
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.methods.table import CLOUD_METHODS

if TYPE_CHECKING:

    class MethodSettings(Settings):
        """Any row of the two tables of methods, told apart by its name."""

        name: str

    class EncoderSettings(Settings):
        """Any row of the two tables of encoders, told apart by its name."""

        name: str
else:

    def _either(*unions: Any) -> Any:
        return Annotated[reduce(or_, (union.__origin__ for union in unions)), Field(discriminator="name")]

    MethodSettings = _either(METHODS.settings_union(), CLOUD_METHODS.settings_union())
    EncoderSettings = _either(ENCODERS.settings_union(), CLOUD_ENCODERS.settings_union())

__all__ = ["DataSettings", "PretrainSettings", "resolved_settings"]


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


class PretrainSettings(Settings):
    """Everything that decides a pretraining run."""

    verb: ClassVar[str] = "pretrain"

    @classmethod
    def as_recorded(cls, layer: dict[str, Any]) -> dict[str, Any]:
        """Return what a run.yaml holds, pooled as its release pooled."""
        return pooled_as_then(layer)

    method: MethodSettings = Field(default_factory=METHODS.settings_class("voco"))  # type: ignore[assignment]
    encoder: EncoderSettings = Field(default_factory=ENCODERS.settings_class("residual"))  # type: ignore[assignment]
    train: TrainSettings = TrainSettings()
    data: DataSettings = DataSettings()

    @property
    def of_clouds(self) -> bool:
        """Whether the method is one for clouds."""
        return self.method.name in CLOUD_METHODS

    @model_validator(mode="after")
    def _one_kind(self) -> PretrainSettings:
        if self.of_clouds != (self.encoder.name in CLOUD_ENCODERS):
            kinds = ("clouds", "volumes") if self.of_clouds else ("volumes", "clouds")
            fitting = ", ".join(CLOUD_ENCODERS) if self.of_clouds else "an encoder of volumes"
            raise ValueError(
                f"the method '{self.method.name}' is for {kinds[0]} and the encoder '{self.encoder.name}' for "
                f"{kinds[1]}. Set encoder.name to one that fits ({fitting}); see them with: medssl list encoders"
            )
        if self.of_clouds and self.data.slices:
            raise ValueError(
                f"data.slices chooses slices of scans, and '{self.method.name}' is for clouds: leave it out"
            )
        if self.of_clouds and (self.data.drop_channels or self.data.pair != "views"):
            raise ValueError("data.drop_channels and data.pair are of the channels of scans; clouds have none")
        if self.of_clouds and self.data.normalise != "follow":
            raise ValueError("data.normalise is of the values of scans; clouds have none")
        return self


def resolved_settings(
    preset: str | Path | None,
    *,
    method: str | None,
    data: str | Path | None,
    devices: int | str | None,
    overrides: Sequence[str],
) -> Resolved[PretrainSettings]:
    """Return the settings; a bare method's name takes the preset of that name, or the method's own defaults."""
    if preset is not None and method is not None:
        raise ConfigError(f"Both a preset ({preset}) and a method ({method}) were given. A preset names its method.")
    if preset is None and method is None:
        raise ConfigError("Nothing says what to train. Give a preset's name; see them with: medssl list presets")
    name = str(preset if preset is not None else method)
    shipped = {known.name for known in list_presets("pretrain")}
    options = {"data.store": str(data) if data is not None else None, "train.devices": devices}
    defaults = {}
    if (name in METHODS or name in CLOUD_METHODS) and name not in shipped:
        if name in CLOUD_METHODS:
            defaults["encoder.name"] = Auto(next(iter(CLOUD_ENCODERS)), "the first of the encoders of clouds")
        preset, options = None, {**options, "method.name": name}
    else:
        preset = name
    resolved = resolve(PretrainSettings, preset=preset, overrides=overrides, command_line=options, defaults=defaults)
    if not resolved.settings.data.store:
        raise ConfigError("There is no store to train on. Give one with --data; `medssl cache` makes it.")
    return resolved
