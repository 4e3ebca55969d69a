"""The tasks on clouds by name: what each learns, from what, and what trains and scores it."""

from __future__ import annotations

from medssl.table import Row, Table

__all__ = ["CLOUD_TASKS"]

CLOUD_TASKS = Table(
    "task of clouds",
    (
        Row(
            name="segmentation",
            target="pointcloud.tasks.scores.PartScoring",
            settings="pointcloud.tasks.settings.CloudTaskSettings",
            take_when="each point has a class",
            needs="a store of clouds whose points have labels",
        ),
        Row(
            name="classification",
            target="pointcloud.tasks.scores.CloudClassification",
            settings="pointcloud.tasks.settings.CloudTaskSettings",
            take_when="each cloud has a class",
            needs="a store of clouds with classes",
        ),
    ),
)
