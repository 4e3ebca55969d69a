"""The encoders by name: one row each, and the two ways from a row to a network."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from medssl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from medssl.encoders.contract import Encoder
    from medssl.settings import Settings

__all__ = [
    "ENCODERS",
    "EncoderRow",
    "build_encoder",
    "pooled_as_then",
    "settings_class",
    "settings_of",
    "settings_union",
]


@dataclass(frozen=True)
class EncoderRow:
    """One encoder.

    Attributes:
        encoder: Dotted path of the ``Encoder``; its constructor takes its settings.
        settings: Dotted path of the settings class.
        paper: Where it was published.
        when: When to choose it.
    """

    encoder: str
    settings: str
    paper: str
    when: str


ENCODERS: dict[str, EncoderRow] = {
    "residual": EncoderRow(
        encoder="medssl.encoders.residual.ResidualEncoder",
        settings="medssl.encoders.residual.ResidualSettings",
        paper="Isensee et al., nnU-Net revisited, MICCAI 2024, arXiv:2404.09556",
        when="The default: the strongest convolutional encoder for segmentation; loads into nnU-Net.",
    ),
    "unet": EncoderRow(
        encoder="medssl.encoders.unet.UNetEncoder",
        settings="medssl.encoders.unet.UNetSettings",
        paper="Isensee et al., nnU-Net, Nature Methods 2021, arXiv:1904.08128",
        when="A CPU or a small GPU, or thin evidence for more; loads into nnU-Net.",
    ),
    "swin": EncoderRow(
        encoder="medssl.encoders.swin.SwinEncoder",
        settings="medssl.encoders.swin.SwinSettings",
        paper="Hatamizadeh et al., Swin UNETR, 2022, arXiv:2201.01266",
        when="To compare with, or start from, published VoCo and Swin UNETR weights; loads into MONAI.",
    ),
    "vit": EncoderRow(
        encoder="medssl.encoders.vit.ViTEncoder",
        settings="medssl.encoders.vit.ViTSettings",
        paper="Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021, arXiv:2010.11929; "
        "Hatamizadeh et al., UNETR, WACV 2022, arXiv:2103.10504",
        when="Many unlabelled scans and classification or 'mae' in mind; it gains most from pretraining, and has "
        "little to offer without.",
    ),
    "timm": EncoderRow(
        encoder="medssl.encoders.slices.SliceEncoder",
        settings="medssl.encoders.slices.SliceSettings",
        paper="Wightman, PyTorch image models, 2019; He et al., CVPR 2016, arXiv:1512.03385",
        when="Slices: windows with z = 1, or volumes slice by slice; any timm model that gives a pyramid.",
    ),
}


def settings_class(name: str) -> type[Settings]:
    """Return the settings class of the encoder called ``name``.

    Raises:
        ConfigError: No encoder has that name.
    """
    if name not in ENCODERS:
        raise ConfigError(f"There is no encoder '{name}'. {did_you_mean(name, ENCODERS)}")
    found: type[Settings] = _load(ENCODERS[name].settings)
    return found


def settings_union() -> Any:
    """Return the annotated union of all encoders' settings, told apart by ``name``; a pydantic field's type."""
    from pydantic import Field

    return Annotated[reduce(or_, (settings_class(name) for name in ENCODERS)), Field(discriminator="name")]


def build_encoder(settings: Settings | Mapping[str, Any]) -> Encoder:
    """Return a fresh encoder.

    Args:
        settings: The settings of an encoder, or the same as a mapping (as in a preset or a card) with its ``name``.

    Raises:
        ConfigError: The name is unknown, or a setting is unknown or out of range.

    Example:
        >>> build_encoder({"name": "unet", "channels": [4, 8]}).channels
        (4, 8)
    """
    if isinstance(settings, Mapping):
        settings = settings_of(settings)
    name = getattr(settings, "name", type(settings).__name__)
    if name not in ENCODERS:
        raise ConfigError(f"There is no encoder '{name}'. {did_you_mean(str(name), ENCODERS)}")
    encoder: Encoder = _load(ENCODERS[name].encoder)(settings)
    return encoder


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Return the settings that ``values`` name (as in a preset or a card), those left out at their defaults.

    Raises:
        ConfigError: The name is unknown, or a setting is unknown or out of range.
    """
    from pydantic import ValidationError

    from medssl.setting_errors import describe

    if "name" not in values:
        raise ConfigError(f"The encoder has no name. Allowed: {', '.join(ENCODERS)}. Add 'name' to its settings.")
    cls = settings_class(str(values["name"]))
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        faults = " ".join(describe(cls, error, {}))
        raise ConfigError(f"The encoder '{values['name']}' cannot be built. {faults}") from error


def pooled_as_then(recorded: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run, which pools by the mean where it began when encoders of volumes had no other."""
    encoder = recorded.get("encoder")
    if not isinstance(encoder, Mapping) or encoder.get("name") not in ENCODERS or "pool" in encoder:
        return recorded
    return {**recorded, "encoder": {**encoder, "pool": "mean"}}


def _load(path: str) -> Any:
    """Return what the dotted ``path`` names."""
    module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
