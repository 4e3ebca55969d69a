"""The pretraining methods for clouds by name: one row each."""

from __future__ import annotations

from medssl.choices import Choice, Choices

__all__ = ["CLOUD_METHODS"]

CLOUD_METHODS = Choices(
    "cloud method",
    {
        "point_mae": Choice(
            target="pointcloud.methods.point_mae.PointMAE",
            settings="pointcloud.methods.point_mae.PointMAESettings",
            paper="Pang et al. 2022, arXiv:2203.06604",
            when="labels of points are the task, or as the baseline that every paper has",
            needs="the encoder point_vit",
        ),
    },
)
