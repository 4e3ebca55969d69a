"""Every pretraining method by name: where it lives, its paper, what it needs and when to take it.

Rows hold dotted paths, so that listing them imports no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter

from medssl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from medssl.encoders.contract import Encoder
    from medssl.methods.contract import Method
    from medssl.settings import Settings

__all__ = ["METHODS", "Row", "build_method", "settings_class", "settings_union"]


@dataclass(frozen=True)
class Row:
    """One method of the table.

    Attributes:
        module: Dotted path of its module.
        method: Name of the method class there.
        settings: Name of its settings class there.
        paper: Authors, year and arXiv id.
        needs: What it asks of the data.
        take_when: One sentence of advice.
        pairs: Whether it compares two views, which may show a channel each (``data.pair=channels``).
    """

    module: str
    method: str
    settings: str
    paper: str
    needs: str
    take_when: str
    pairs: bool = False


METHODS: dict[str, Row] = {
    "voco": Row(
        module="medssl.methods.voco",
        method="VoCo",
        settings="VoCoSettings",
        paper="Wu et al. 2024, arXiv:2402.17300 and arXiv:2410.09890",
        needs="scans that show the same region, so that position means something",
        take_when="the downstream task is classification or the labels are whole organs in stable places",
    ),
    "masked": Row(
        module="medssl.methods.masked",
        method="MaskedReconstruction",
        settings="MaskedReconstructionSettings",
        paper="He et al. 2022, arXiv:2111.06377; Wald et al. 2025, arXiv:2410.23132",
        needs="nothing beyond windows",
        take_when="the downstream task is segmentation",
    ),
    "spark": Row(
        module="medssl.methods.spark",
        method="SparK",
        settings="SparKSettings",
        paper="Tian et al. 2023, arXiv:2301.03580; Wald et al. 2025, arXiv:2410.23132",
        needs="an encoder of convolutions ('residual', 'unet')",
        take_when="the downstream task is segmentation and the encoder is of convolutions; with decoder=unet it is S3D",
    ),
    "mae": Row(
        module="medssl.methods.mae",
        method="MAE",
        settings="MAESettings",
        paper="He et al. 2022, arXiv:2111.06377",
        needs="the plain transformer ('vit'), and many scans",
        take_when="a plain transformer is to be pretrained for segmentation; a step computes the visible quarter only",
    ),
    "simmim": Row(
        module="medssl.methods.simmim",
        method="SimMIM",
        settings="SimMIMSettings",
        paper="Xie et al. 2022, arXiv:2111.09886",
        needs="nothing beyond windows; any encoder",
        take_when="'swin' is to be pretrained by reconstruction, or the simplest method is wanted to compare with",
    ),
    "joined": Row(
        module="medssl.methods.joined",
        method="Joined",
        settings="JoinedSettings",
        paper="Wald et al. 2025, arXiv:2412.17041, and those of its parts",
        needs="what its parts need, and the time of all of them",
        take_when="one encoder is to serve classification and segmentation: contrast beside reconstruction",
    ),
    "voco_masked": Row(
        module="medssl.methods.voco_masked",
        method="VoCoMasked",
        settings="VoCoMaskedSettings",
        paper="Wu et al. 2024, arXiv:2402.17300 and arXiv:2410.09890; Wald et al. 2025, arXiv:2412.17041",
        needs="scans that show the same region",
        take_when="both kinds of task are to come",
    ),
    "global_contrast": Row(
        module="medssl.methods.global_contrast",
        method="GlobalContrast",
        settings="GlobalContrastSettings",
        paper="Chaitanya et al. 2020, arXiv:2006.10511",
        needs="scans that show the same region in the same direction; three scans and more a batch",
        take_when="few labelled scans of one region are to be segmented, slice by slice or in sub-volumes",
    ),
    "local_contrast": Row(
        module="medssl.methods.local_contrast",
        method="LocalContrast",
        settings="LocalContrastSettings",
        paper="Chaitanya et al. 2020, arXiv:2006.10511",
        needs="a finished run of global_contrast (--init-from), whose encoder it freezes",
        take_when="global_contrast has ended and segmentation follows: it trains the first blocks of the decoder",
    ),
    "simclr": Row(
        module="medssl.methods.simclr",
        method="SimCLR",
        settings="SimCLRSettings",
        paper="Chen et al. 2020, arXiv:2002.05709; Yeh et al. 2022, arXiv:2110.06848",
        needs="several patients a batch, the more the better",
        take_when="classification follows, or plain contrast is wanted to compare with; decoupled=dcl in small batches",
        pairs=True,
    ),
    "cvrl": Row(
        module="medssl.methods.cvrl",
        method="CVRL",
        settings="CVRLSettings",
        paper="Qian et al. 2021, arXiv:2008.03800",
        needs="several patients a batch, scans longer than a window along one axis, or several frames of a patient",
        take_when="scans are long, or series of frames (cine), and neighbouring places should have features alike",
        pairs=True,
    ),
    "moco": Row(
        module="medssl.methods.moco",
        method="MoCo",
        settings="MoCoSettings",
        paper="He et al. 2020, arXiv:1911.05722; Chen et al. 2021, arXiv:2104.02057",
        needs="more patients than a batch holds; memory for a queue",
        take_when="contrast is wanted and batches are too small for SimCLR",
        pairs=True,
    ),
    "byol": Row(
        module="medssl.methods.byol",
        method="BYOL",
        settings="BYOLSettings",
        paper="Grill et al. 2020, arXiv:2006.07733",
        needs="nothing beyond windows",
        take_when="patients look so alike that telling them apart teaches little; it needs no negatives",
        pairs=True,
    ),
    "simsiam": Row(
        module="medssl.methods.byol",
        method="SimSiam",
        settings="SimSiamSettings",
        paper="Chen, He 2021, arXiv:2011.10566",
        needs="nothing beyond windows",
        take_when="the simplest method without negatives or teacher is wanted to compare with; watch its spread",
        pairs=True,
    ),
    "swav": Row(
        module="medssl.methods.swav",
        method="SwAV",
        settings="SwAVSettings",
        paper="Caron et al. 2020, arXiv:2006.09882",
        needs="scans that fall into kinds (regions, slices, protocols)",
        take_when="pretraining is on slices, or on scans of mixed regions",
        pairs=True,
    ),
    "barlow": Row(
        module="medssl.methods.redundancy",
        method="BarlowTwins",
        settings="BarlowTwinsSettings",
        paper="Zbontar et al. 2021, arXiv:2103.03230",
        needs="batches of 16 windows and more",
        take_when="negatives and teachers are unwanted and the batch is not tiny",
        pairs=True,
    ),
    "vicreg": Row(
        module="medssl.methods.redundancy",
        method="VICReg",
        settings="VICRegSettings",
        paper="Bardes et al. 2022, arXiv:2105.04906",
        needs="batches of 16 windows and more",
        take_when="as barlow; its parts say which way features collapse",
        pairs=True,
    ),
    "dino": Row(
        module="medssl.methods.dino",
        method="DINO",
        settings="DINOSettings",
        paper="Caron et al. 2021, arXiv:2104.14294",
        needs="many scans and long runs",
        take_when="features are to be used frozen (kNN, linear probes), best with 'vit'",
        pairs=True,
    ),
    "ibot": Row(
        module="medssl.methods.dino",
        method="IBOT",
        settings="IBOTSettings",
        paper="Zhou et al. 2022, arXiv:2111.07832",
        needs="many scans and long runs",
        take_when="as dino, and the task is dense: patches are trained too",
        pairs=True,
    ),
}


def _row(name: str) -> Row:
    if name not in METHODS:
        raise ConfigError(f"There is no method '{name}'. {did_you_mean(name, METHODS)}")
    return METHODS[name]


def settings_class(name: str) -> type[Settings]:
    """Return the settings class of a method.

    Raises:
        ConfigError: If there is no method of that name.
    """
    row = _row(name)
    found: type[Settings] = getattr(importlib.import_module(row.module), row.settings)
    return found


def settings_union() -> Any:
    """Return the union of all settings classes, told apart by ``name``, for use as a pydantic field type."""
    return Annotated[reduce(or_, (settings_class(name) for name in METHODS)), Field(discriminator="name")]


def build_method(settings: Settings | Mapping[str, Any], encoder: Encoder, *, alone: bool = True) -> Method:
    """Build a method around an encoder.

    Args:
        settings: Its settings, or a mapping with ``name``.
        encoder: What is to be pretrained.
        alone: Whether nothing else trains the encoder; False for a part of several.

    Raises:
        ConfigError: If the name is unknown, or the encoder pools by weights that the method would not train.
    """
    if isinstance(settings, Mapping):
        _row(str(settings.get("name")))
        settings = TypeAdapter(settings_union()).validate_python(settings)
    row = _row(settings.name)  # type: ignore[union-attr]
    method: Method = getattr(importlib.import_module(row.module), row.method)(settings, encoder)
    if alone and encoder.pooling.kind == "attention" and not method.pools:
        name = settings.name  # type: ignore[union-attr]
        raise ConfigError(
            f"encoder.pool=attention has weights that '{name}' would not train, for its loss is not of the embedding. "
            "Set encoder.pool to mean, prenorm, grid or levels; or take a method that compares images or crops."
        )
    return method
