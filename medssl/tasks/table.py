"""The tasks on scans by name: what each learns, from what, and what trains and scores it."""

from __future__ import annotations

from medssl.table import Row, Table

__all__ = ["TASKS"]

TASKS = Table(
    "task",
    (
        Row(
            name="segmentation",
            target="medssl.tasks.task_segmentation.ScanSegmentation",
            settings="medssl.tasks.settings.segmentation.SegmentationSettings",
            take_when="each voxel has a class",
            needs="a store of scans with label maps",
        ),
        Row(
            name="classification",
            target="medssl.tasks.task_classification.ScanClassification",
            settings="medssl.tasks.class_settings.ClassificationSettings",
            take_when="each scan or patient has a class",
            needs="a store of scans with targets (index --targets)",
        ),
    ),
)
