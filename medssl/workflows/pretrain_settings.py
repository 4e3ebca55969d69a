"""What decides a pretraining run, and how a command line becomes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from medssl.domains.data_settings import DataSettings
from medssl.domains.domain import Domain, domain_with, domains
from medssl.encoders.table import ENCODERS, pooled_as_then
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError
from medssl.methods.table import METHODS
from medssl.presets import list_presets
from medssl.settings import Auto, Resolved, Settings, resolve

if TYPE_CHECKING:

    class MethodSettings(Settings):
        """Any row of the tables of methods, distinguished by its name."""

        name: str

    class EncoderSettings(Settings):
        """Any row of the tables of encoders, distinguished by its name."""

        name: str
else:

    def _either(*unions: Any) -> Any:
        return Annotated[reduce(or_, (union.__origin__ for union in unions)), Field(discriminator="name")]

    MethodSettings = _either(*(domain.methods.settings_union() for domain in domains()))
    EncoderSettings = _either(*(domain.encoders.settings_union() for domain in domains()))

__all__ = ["PretrainSettings", "resolved_settings"]


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
    def domain(self) -> Domain:
        """The kind of data that the method is for."""
        return domain_with("methods", self.method.name)

    @model_validator(mode="after")
    def _one_domain(self) -> PretrainSettings:
        own = self.domain
        if self.encoder.name not in own.encoders:
            other = domain_with("encoders", self.encoder.name)
            raise ValueError(
                f"the method '{self.method.name}' is for {own.noun}s and the encoder '{self.encoder.name}' for "
                f"{other.noun}s. Set encoder.name to one that fits ({', '.join(own.encoders)}); see them with: medssl "
                "list encoders"
            )
        own.refuse_moot(self.data)
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
    own = next((domain for domain in domains() if name in domain.methods), None)
    if own is not None and name not in shipped:
        if own is not PretrainSettings().domain:  # whose encoder is the default
            defaults["encoder.name"] = Auto(next(iter(own.encoders)), f"the first of the encoders of {own.noun}s")
        preset, options = None, {**options, "method.name": name}
    else:
        preset = name
    resolved = resolve(PretrainSettings, preset=preset, overrides=overrides, command_line=options, defaults=defaults)
    if not resolved.settings.data.store:
        raise ConfigError("There is no store to train on. Give one with --data; `medssl cache` makes it.")
    return resolved
