"""Every pretraining method by name: where it lives, its paper, what it needs and when to take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medssl.errors import ConfigError
from medssl.table import Row, Table

if TYPE_CHECKING:
    from medssl.encoders.contract import Encoder
    from medssl.methods.contract import Method
    from medssl.settings import Settings

__all__ = ["METHODS", "build_method"]

METHODS = Table(
    "method",
    (
        Row(
            name="voco",
            target="medssl.methods.voco.VoCo",
            settings="medssl.methods.settings.voco.VoCoSettings",
            paper="Wu et al. 2024, arXiv:2402.17300 and arXiv:2410.09890",
            take_when="the downstream task is classification or the labels are whole organs in stable places",
            needs="scans that show the same region, so that position means something",
        ),
        Row(
            name="masked",
            target="medssl.methods.masked.MaskedReconstruction",
            settings="medssl.methods.settings.masked.MaskedReconstructionSettings",
            paper="He et al. 2022, arXiv:2111.06377; Wald et al. 2025, arXiv:2410.23132",
            take_when="the downstream task is segmentation",
            needs="nothing beyond windows",
        ),
        Row(
            name="spark",
            target="medssl.methods.spark.SparK",
            settings="medssl.methods.settings.spark.SparKSettings",
            paper="Tian et al. 2023, arXiv:2301.03580; Wald et al. 2025, arXiv:2410.23132",
            take_when="the downstream task is segmentation and the encoder is of convolutions; "
            "with decoder=unet it is S3D",
            needs="an encoder of convolutions ('residual', 'unet')",
        ),
        Row(
            name="mae",
            target="medssl.methods.mae.MAE",
            settings="medssl.methods.settings.mae.MAESettings",
            paper="He et al. 2022, arXiv:2111.06377",
            take_when="a plain transformer is to be pretrained for segmentation; "
            "a step computes the visible quarter only",
            needs="the plain transformer ('vit'), and many scans",
        ),
        Row(
            name="simmim",
            target="medssl.methods.simmim.SimMIM",
            settings="medssl.methods.settings.simmim.SimMIMSettings",
            paper="Xie et al. 2022, arXiv:2111.09886",
            take_when="'swin' is to be pretrained by reconstruction, or the simplest method is wanted to compare with",
            needs="nothing beyond windows; any encoder",
        ),
        Row(
            name="joined",
            target="medssl.methods.joined.Joined",
            settings="medssl.methods.settings.joined.JoinedSettings",
            paper="Wald et al. 2025, arXiv:2412.17041, and those of its parts",
            take_when="one encoder is to serve classification and segmentation: contrast beside reconstruction",
            needs="what its parts need, and the time of all of them",
        ),
        Row(
            name="voco_masked",
            target="medssl.methods.voco_masked.VoCoMasked",
            settings="medssl.methods.settings.voco_masked.VoCoMaskedSettings",
            paper="Wu et al. 2024, arXiv:2402.17300 and arXiv:2410.09890; Wald et al. 2025, arXiv:2412.17041",
            take_when="both kinds of task are to come",
            needs="scans that show the same region",
        ),
        Row(
            name="global_contrast",
            target="medssl.methods.global_contrast.GlobalContrast",
            settings="medssl.methods.settings.global_contrast.GlobalContrastSettings",
            paper="Chaitanya et al. 2020, arXiv:2006.10511",
            take_when="few labelled scans of one region are to be segmented, slice by slice or in sub-volumes",
            needs="scans that show the same region in the same direction; three scans and more a batch",
        ),
        Row(
            name="local_contrast",
            target="medssl.methods.local_contrast.LocalContrast",
            settings="medssl.methods.settings.local_contrast.LocalContrastSettings",
            paper="Chaitanya et al. 2020, arXiv:2006.10511",
            take_when="global_contrast has ended and segmentation follows: it trains the first blocks of the decoder",
            needs="a finished run of global_contrast (--init-from), whose encoder it freezes",
        ),
        Row(
            name="simclr",
            target="medssl.methods.simclr.SimCLR",
            settings="medssl.methods.settings.simclr.SimCLRSettings",
            paper="Chen et al. 2020, arXiv:2002.05709; Yeh et al. 2022, arXiv:2110.06848",
            take_when="classification follows, or plain contrast is wanted to compare with; "
            "decoupled=dcl in small batches",
            needs="several patients a batch, the more the better",
        ),
        Row(
            name="cvrl",
            target="medssl.methods.cvrl.CVRL",
            settings="medssl.methods.settings.cvrl.CVRLSettings",
            paper="Qian et al. 2021, arXiv:2008.03800",
            take_when="scans are long, or series of frames (cine), and neighbouring places should have features alike",
            needs="several patients a batch, scans longer than a window along one axis, or several frames of a patient",
        ),
        Row(
            name="moco",
            target="medssl.methods.moco.MoCo",
            settings="medssl.methods.settings.moco.MoCoSettings",
            paper="He et al. 2020, arXiv:1911.05722; Chen et al. 2021, arXiv:2104.02057",
            take_when="contrast is wanted and batches are too small for SimCLR",
            needs="more patients than a batch holds; memory for a queue",
        ),
        Row(
            name="byol",
            target="medssl.methods.byol.BYOL",
            settings="medssl.methods.settings.byol.BYOLSettings",
            paper="Grill et al. 2020, arXiv:2006.07733",
            take_when="patients look so alike that telling them apart teaches little; it needs no negatives",
            needs="nothing beyond windows",
        ),
        Row(
            name="simsiam",
            target="medssl.methods.byol.SimSiam",
            settings="medssl.methods.settings.byol.SimSiamSettings",
            paper="Chen, He 2021, arXiv:2011.10566",
            take_when="the simplest method without negatives or teacher is wanted to compare with; watch its spread",
            needs="nothing beyond windows",
        ),
        Row(
            name="swav",
            target="medssl.methods.swav.SwAV",
            settings="medssl.methods.settings.swav.SwAVSettings",
            paper="Caron et al. 2020, arXiv:2006.09882",
            take_when="pretraining is on slices, or on scans of mixed regions",
            needs="scans that fall into kinds (regions, slices, protocols)",
        ),
        Row(
            name="barlow",
            target="medssl.methods.redundancy.BarlowTwins",
            settings="medssl.methods.settings.redundancy.BarlowTwinsSettings",
            paper="Zbontar et al. 2021, arXiv:2103.03230",
            take_when="negatives and teachers are unwanted and the batch is not tiny",
            needs="batches of 16 windows and more",
        ),
        Row(
            name="vicreg",
            target="medssl.methods.redundancy.VICReg",
            settings="medssl.methods.settings.redundancy.VICRegSettings",
            paper="Bardes et al. 2022, arXiv:2105.04906",
            take_when="as barlow; its parts say which way features collapse",
            needs="batches of 16 windows and more",
        ),
        Row(
            name="dino",
            target="medssl.methods.dino.DINO",
            settings="medssl.methods.settings.dino.DINOSettings",
            paper="Caron et al. 2021, arXiv:2104.14294",
            take_when="features are to be used frozen (kNN, linear probes), best with 'vit'",
            needs="many scans and long runs",
        ),
        Row(
            name="ibot",
            target="medssl.methods.dino.IBOT",
            settings="medssl.methods.settings.dino.IBOTSettings",
            paper="Zhou et al. 2022, arXiv:2111.07832",
            take_when="as dino, and the task is dense: patches are trained too",
            needs="many scans and long runs",
        ),
        Row(
            name="slotcon",
            target="medssl.methods.slotcon.SlotCon",
            settings="medssl.methods.settings.slotcon.SlotConSettings",
            paper="Wen et al. 2022, arXiv:2205.15288",
            take_when="the task is dense and places hold several structures: they are grouped, and groups told apart",
            needs="views of several places of the coarsest level; scans of several structures",
        ),
    ),
)


def build_method(settings: Settings | Mapping[str, Any], encoder: Encoder, *, alone: bool = True) -> Method:
    """Build a method around an encoder.

    Args:
        settings: Its settings, or a mapping with ``name``.
        encoder: What is to be pretrained.
        alone: Whether nothing else trains the encoder; False for a part of several.

    Raises:
        ConfigError: The name is unknown, a setting is unknown or out of range, or the encoder pools by weights that
            the method would not train.
    """
    method: Method = METHODS.build(settings, encoder)
    if alone and encoder.pooling.kind == "attention" and not method.pools:
        name = settings["name"] if isinstance(settings, Mapping) else settings.name  # type: ignore[attr-defined]
        raise ConfigError(
            f"encoder.pool=attention has weights that '{name}' would not train, for its loss is not of the embedding. "
            "Set encoder.pool to mean, prenorm, grid or levels; or take a method that compares images or crops."
        )
    return method
