"""The encoders of clouds by name: one row each."""

from __future__ import annotations

from medssl.table import Row, Table

__all__ = ["CLOUD_ENCODERS"]

CLOUD_ENCODERS = Table(
    "cloud encoder",
    (
        Row(
            name="point_vit",
            target="pointcloud.encoders.vit.PointViT",
            settings="pointcloud.encoders.settings.vit.PointViTSettings",
            paper="Fu et al. 2022, arXiv:2202.04241; Yu et al., Point-BERT, CVPR 2022, arXiv:2111.14819",
            take_when="The default: tokens of patches, which masking methods need; it gives attention maps.",
        ),
        Row(
            name="pointnet",
            target="pointcloud.encoders.pointnet.PointNet",
            settings="pointcloud.encoders.settings.pointnet.PointNetSettings",
            paper="Qi et al., PointNet, CVPR 2017, arXiv:1612.00593",
            take_when="Clouds of very many points, or the fastest baseline; it sees no neighbourhoods.",
        ),
        Row(
            name="dgcnn",
            target="pointcloud.encoders.dgcnn.DGCNN",
            settings="pointcloud.encoders.settings.dgcnn.DGCNNSettings",
            paper="Wang et al., DGCNN, TOG 2019, arXiv:1801.07829",
            take_when="To compare with the literature; small clouds, since its memory grows "
            "with the square of the points.",
        ),
        Row(
            name="hierarchy",
            target="pointcloud.encoders.hierarchy.PointHierarchy",
            settings="pointcloud.encoders.settings.hierarchy.HierarchySettings",
            paper="Qi et al., PointNet++, NeurIPS 2017, arXiv:1706.02413",
            take_when="Labels of points are the task: it keeps features at several scales.",
        ),
    ),
)
