"""The encoders by name: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medssl.table import Row, Table

if TYPE_CHECKING:
    from medssl.encoders.contract import Encoder
    from medssl.settings import Settings

__all__ = ["ENCODERS", "build_encoder", "pooled_as_then"]

ENCODERS = Table(
    "encoder",
    (
        Row(
            name="residual",
            target="medssl.encoders.residual.ResidualEncoder",
            settings="medssl.encoders.settings.residual.ResidualSettings",
            paper="Isensee et al., nnU-Net revisited, MICCAI 2024, arXiv:2404.09556",
            take_when="The default: the strongest convolutional encoder for segmentation; loads into nnU-Net.",
        ),
        Row(
            name="unet",
            target="medssl.encoders.unet.UNetEncoder",
            settings="medssl.encoders.settings.unet.UNetSettings",
            paper="Isensee et al., nnU-Net, Nature Methods 2021, arXiv:1904.08128",
            take_when="A CPU or a small GPU, or thin evidence for more; loads into nnU-Net.",
        ),
        Row(
            name="swin",
            target="medssl.encoders.swin.SwinEncoder",
            settings="medssl.encoders.settings.swin.SwinSettings",
            paper="Hatamizadeh et al., Swin UNETR, 2022, arXiv:2201.01266",
            take_when="To compare with, or start from, published VoCo and Swin UNETR weights; loads into MONAI.",
        ),
        Row(
            name="vit",
            target="medssl.encoders.vit.ViTEncoder",
            settings="medssl.encoders.settings.vit.ViTSettings",
            paper="Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021, arXiv:2010.11929; "
            "Hatamizadeh et al., UNETR, WACV 2022, arXiv:2103.10504",
            take_when="Many unlabelled scans and classification or 'mae' in mind; it gains most from pretraining, and "
            "has little to offer without.",
        ),
        Row(
            name="primus",
            target="medssl.encoders.primus.PrimusEncoder",
            settings="medssl.encoders.settings.primus.PrimusSettings",
            paper="Wald et al., Primus, 2025, arXiv:2503.01835",
            take_when="To start from OpenMind's transformer; it wants many scans and a GPU.",
        ),
        Row(
            name="segres",
            target="medssl.encoders.segres.SegResEncoder",
            settings="medssl.encoders.settings.segres.SegResSettings",
            paper="Myronenko, BrainLes 2018, arXiv:1810.11654",
            take_when="To start from CT-FM or SuPreM's SegResNet.",
        ),
        Row(
            name="resnet",
            target="medssl.encoders.resnet.ResNetEncoder",
            settings="medssl.encoders.settings.resnet.ResNetSettings",
            paper="Chen et al., Med3D, 2019, arXiv:1904.00625; He et al., CVPR 2016, arXiv:1512.03385",
            take_when="To start from, or compare with, MedicalNet.",
        ),
        Row(
            name="stunet",
            target="medssl.encoders.stunet.STUNetEncoder",
            settings="medssl.encoders.settings.stunet.STUNetSettings",
            paper="Huang et al., STU-Net, 2023, arXiv:2304.06716",
            take_when="To start from STU-Net.",
        ),
        Row(
            name="unet3d",
            target="medssl.encoders.unet3d.UNet3DEncoder",
            settings="medssl.encoders.settings.unet3d.UNet3DSettings",
            paper="Cicek et al., 3D U-Net, MICCAI 2016, arXiv:1606.06650",
            take_when="To start from, or compare with, Models Genesis or SuPreM's U-Net.",
        ),
        Row(
            name="timm",
            target="medssl.encoders.slices.SliceEncoder",
            settings="medssl.encoders.settings.slices.SliceSettings",
            paper="Wightman, PyTorch image models, 2019; He et al., CVPR 2016, arXiv:1512.03385",
            take_when="Slices: windows with z = 1, or volumes slice by slice; any timm model that gives a pyramid.",
        ),
    ),
)


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
    encoder: Encoder = ENCODERS.build(settings)
    return encoder


def pooled_as_then(recorded: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run, which pools by the mean where it began when encoders of volumes had no other."""
    encoder = recorded.get("encoder")
    if not isinstance(encoder, Mapping) or encoder.get("name") not in ENCODERS or "pool" in encoder:
        return recorded
    return {**recorded, "encoder": {**encoder, "pool": "mean"}}
