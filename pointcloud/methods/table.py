"""The pretraining methods for clouds by name: one row each."""

from __future__ import annotations

from medssl.choices import Choice, Choices

__all__ = ["CLOUD_METHODS"]

CLOUD_METHODS = Choices(
    "cloud method",
    {
        "point_distil": Choice(
            target="pointcloud.methods.point_distil.PointDistil",
            settings="pointcloud.methods.point_distil.PointDistilSettings",
            paper="Fu et al. 2022, arXiv:2202.04241; Abou Zeid et al., AsymDSD, NeurIPS 2025",
            when="whole shapes are told apart, or few labels are at hand; its views may be turned in any direction",
            needs="any encoder; point_vit where patch_weight is above 0",
        ),
        "point_jepa": Choice(
            target="pointcloud.methods.point_jepa.PointJEPA",
            settings="pointcloud.methods.point_jepa.PointJEPASettings",
            paper="Saito et al. 2025, arXiv:2404.16432",
            when="features of patches matter and neither negatives nor drawing points again is wanted",
            needs="the encoder point_vit, with positions",
        ),
        "point_mae": Choice(
            target="pointcloud.methods.point_mae.PointMAE",
            settings="pointcloud.methods.point_mae.PointMAESettings",
            paper="Pang et al. 2022, arXiv:2203.06604",
            when="labels of points are the task, or as the baseline that every paper has",
            needs="the encoder point_vit",
        ),
        "point_occo": Choice(
            target="pointcloud.methods.point_occo.PointOcCo",
            settings="pointcloud.methods.point_occo.PointOcCoSettings",
            paper="Wang et al. 2021, arXiv:2010.01089; Yuan et al. 2018, arXiv:1808.00671",
            when="an encoder without tokens is trained, or clouds come from one side only",
            needs="any encoder",
        ),
    },
)
