"""The pretraining methods for clouds by name: one row each."""

from __future__ import annotations

from medssl.table import Row, Table

__all__ = ["CLOUD_METHODS"]

CLOUD_METHODS = Table(
    "cloud method",
    (
        Row(
            name="point_distil",
            target="pointcloud.methods.point_distil.PointDistil",
            settings="pointcloud.methods.settings.point_distil.PointDistilSettings",
            paper="Fu et al. 2022, arXiv:2202.04241; Abou Zeid et al., AsymDSD, NeurIPS 2025",
            take_when="whole shapes are distinguished, or few labels are at hand; its views may be "
            "turned in any direction",
            needs="any encoder; point_vit where patch_weight is above 0",
        ),
        Row(
            name="point_jepa",
            target="pointcloud.methods.point_jepa.PointJEPA",
            settings="pointcloud.methods.settings.point_jepa.PointJEPASettings",
            paper="Saito et al. 2025, arXiv:2404.16432",
            take_when="features of patches matter and neither negatives nor drawing points again is wanted",
            needs="the encoder point_vit, with positions",
        ),
        Row(
            name="point_mae",
            target="pointcloud.methods.point_mae.PointMAE",
            settings="pointcloud.methods.settings.point_mae.PointMAESettings",
            paper="Pang et al. 2022, arXiv:2203.06604",
            take_when="labels of points are the task, or as the baseline that every paper has",
            needs="the encoder point_vit",
        ),
        Row(
            name="point_occo",
            target="pointcloud.methods.point_occo.PointOcCo",
            settings="pointcloud.methods.settings.point_occo.PointOcCoSettings",
            paper="Wang et al. 2021, arXiv:2010.01089; Yuan et al. 2018, arXiv:1808.00671",
            take_when="an encoder without tokens is trained, or clouds come from one side only",
            needs="any encoder",
        ),
        Row(
            name="point_simclr",
            target="pointcloud.methods.point_simclr.PointSimCLR",
            settings="pointcloud.methods.settings.point_contrast.PointSimCLRSettings",
            paper="Chen et al. 2020, arXiv:2002.05709; Yeh et al. 2022, arXiv:2110.06848",
            take_when="plain contrast is wanted to compare with, or parts of contrast are (method.parts)",
            needs="any encoder; several objects a batch, the more the better",
        ),
        Row(
            name="point_moco",
            target="pointcloud.methods.point_moco.PointMoCo",
            settings="pointcloud.methods.settings.point_contrast.PointMoCoSettings",
            paper="He et al. 2020, arXiv:1911.05722; Chen et al. 2021, arXiv:2104.02057",
            take_when="contrast is wanted and batches are too small for point_simclr",
            needs="any encoder; more objects than a batch holds; memory for a queue",
        ),
    ),
)
