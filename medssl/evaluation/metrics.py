"""What is measured: one row a metric, with its name, unit, direction, range, definition and function.

Labels of charts and tables, the direction of a verdict, and the definitions on a page are all read off this table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from medssl.errors import ConfigError, did_you_mean

__all__ = [
    "AVERAGED",
    "CLASS_METRICS",
    "EMPTY_MASKS",
    "METRICS",
    "PART_METRICS",
    "SEGMENTATION_METRICS",
    "THRESHOLD",
    "UNITS",
    "Metric",
    "definitions_of",
    "known_scores",
    "metric_of",
]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: Its key in settings and files.
        words: Its name in tables and sentences.
        better: Which way is good.
        definition: What it is, in one sentence.
        function: Where it is computed, as a dotted path.
        unit: "mm" or "" for none.
        low: Smallest possible value.
        high: Largest possible value.
        over: What a score is computed of: "patients" where it is a mean of theirs; else all "classes" or "parts" at
            once, and its spread comes from leaving patients out one by one.
    """

    name: str
    words: str
    better: Literal["higher", "lower"]
    definition: str
    function: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    over: Literal["patients", "classes", "parts"] = "patients"

    @property
    def digits(self) -> int:
        """Decimal places to show."""
        return 2 if self.unit == "mm" else 3

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if self.better == "higher" else -1


_OVERLAP, _SURFACE = "medssl.evaluation.overlap.overlap", "medssl.evaluation.surface.surface_score"
_CLASSES, _PARTS = "medssl.evaluation.class_resampling.resampled_scores", "medssl.evaluation.parts.resampled_parts"
_BINS = 10

_ROWS = (
    Metric(
        name="dice",
        words="Dice",
        better="higher",
        function=_OVERLAP,
        definition="2 |A and B| / (|A| + |B|) of voxels.",
    ),
    Metric(
        name="iou",
        words="IoU",
        better="higher",
        function=_OVERLAP,
        definition="|A and B| / |A or B| of voxels.",
    ),
    Metric(
        name="hd95_mm",
        words="HD95",
        better="lower",
        function=_SURFACE,
        unit="mm",
        high=math.inf,
        definition="larger of the two directed 95th percentiles of border-voxel distances (border = face-connected, "
        "centres of voxels, unweighted, linear interpolation), in mm of the source geometry; as MONAI, not as medpy "
        "(pooled) or DeepMind (weighted by surfel area).",
    ),
    Metric(
        name="assd_mm",
        words="ASSD",
        better="lower",
        function=_SURFACE,
        unit="mm",
        high=math.inf,
        definition="mean distance of all border voxels of both masks to the other mask's border, in mm.",
    ),
    Metric(
        name="nsd",
        words="surface Dice",
        better="higher",
        function=_SURFACE,
        definition="share of the border voxels of both masks that lie within tolerance_mm of the other's border.",
    ),
    Metric(
        name="auroc",
        words="AUROC",
        better="higher",
        function=_CLASSES,
        over="classes",
        definition="area under the ROC curve, ties count half; of more than two classes the mean of one against the "
        "rest, over the classes that the cases show.",
    ),
    Metric(
        name="auprc",
        words="AUPRC",
        better="higher",
        function=_CLASSES,
        over="classes",
        definition="average precision: precision summed over steps of recall, not interpolated; by chance the class's "
        "share.",
    ),
    Metric(
        name="balanced_accuracy",
        words="balanced accuracy",
        better="higher",
        function=_CLASSES,
        over="classes",
        definition="mean over classes of the share that is found.",
    ),
    Metric(
        name="f1",
        words="F1",
        better="higher",
        function=_CLASSES,
        over="classes",
        definition="2 TP / (2 TP + FP + FN) of the positive class; of more than two classes the mean.",
    ),
    Metric(
        name="accuracy",
        words="accuracy",
        better="higher",
        function=_CLASSES,
        over="classes",
        definition="share of cases whose class is right.",
    ),
    Metric(
        name="ece",
        words="calibration error",
        better="lower",
        function=_CLASSES,
        over="classes",
        definition=f"expected calibration error: |confidence - accuracy| of the likeliest class over {_BINS} bins.",
    ),
    Metric(
        name="brier",
        words="Brier score",
        better="lower",
        function=_CLASSES,
        high=2.0,
        over="classes",
        definition="mean over cases of the squared distance of the probabilities from the truth; between 0 and 2.",
    ),
    Metric(
        name="instance_miou",
        words="mean IoU of shapes",
        better="higher",
        function=_PARTS,
        over="parts",
        definition="mean over shapes of the mean IoU of the parts that the shape's class has; a part that neither "
        "truth nor prediction shows counts 1 (the rule of ShapeNetPart).",
    ),
    Metric(
        name="class_miou",
        words="mean IoU of classes",
        better="higher",
        function=_PARTS,
        over="parts",
        definition="mean over classes of the mean over their shapes.",
    ),
    Metric(
        name="point_accuracy",
        words="points right",
        better="higher",
        function=_PARTS,
        over="parts",
        definition="share of the labelled points of all shapes whose part is right.",
    ),
    Metric(
        name="landmark_mm",
        words="landmark error",
        better="lower",
        unit="mm",
        high=math.inf,
        function="medssl.evaluation.matching.nearest",
        definition="distance of the place whose features are nearest to a landmark's in another patient from where the "
        "landmark truly is (clouds: in their unit); mean over centroids and extremes.",
    ),
    Metric(
        name="level_mm",
        words="level error",
        better="lower",
        unit="mm",
        high=math.inf,
        function="medssl.evaluation.matching.nearest",
        definition="the same along the first axis alone: of scans the level of the slice.",
    ),
    Metric(
        name="prompt_iou",
        words="prompt IoU",
        better="higher",
        function="medssl.evaluation.matching.best_threshold",
        definition="IoU of a structure with the places whose features are as alike to those of one place in it as a "
        "threshold says that is the best of the training patients.",
    ),
    Metric(
        name="intra_similarity",
        words="similarity inside",
        better="higher",
        low=-1.0,
        function="medssl.evaluation.matching.similarity",
        definition="mean cosine of a place in a structure with the others in it.",
    ),
    Metric(
        name="inter_similarity",
        words="similarity outside",
        better="lower",
        low=-1.0,
        function="medssl.evaluation.matching.similarity",
        definition="mean cosine of a place in a structure with those outside it.",
    ),
    Metric(
        name="same_class",
        words="neighbours of the same class",
        better="higher",
        function="medssl.evaluation.matching.nearest",
        definition="share of a patient's nearest training patients that are of the same class.",
    ),
    Metric(
        name="volume_gap",
        words="volume gap",
        better="lower",
        high=math.inf,
        function="medssl.evaluation.matching.nearest",
        definition="mean over the nearest training patients and the structures of |log(volume / volume there)|.",
    ),
    Metric(
        name="few_shot_accuracy",
        words="few-shot accuracy",
        better="higher",
        function="medssl.evaluation.few_shot.few_shot",
        definition="share of the asked items that a linear SVM of few labelled items names right.",
    ),
)
METRICS: Mapping[str, Metric] = {row.name: row for row in _ROWS}
SEGMENTATION_METRICS = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
CLASS_METRICS = ("auroc", "auprc", "balanced_accuracy", "f1", "accuracy", "ece", "brier")
PART_METRICS = ("instance_miou", "class_miou", "point_accuracy")

EMPTY_MASKS = (
    "a structure that neither mask has is left out and counted; one that only one of them has scores Dice 0, IoU 0, "
    "NSD 0, HD95 and ASSD = diagonal of the image in mm, and is counted."
)
AVERAGED = "those of a patient's cases are averaged where all of them are of one class."
THRESHOLD = "of two classes, the one with the best balanced accuracy on the validation cases; else the likeliest."
UNITS: Mapping[str, str] = {
    "patient": "the patient: cases of one patient stand together in every interval; slices are never counted alone.",
    "cloud": "the cloud, each an object of its own.",
    "object": "the object.",
}


def metric_of(name: str) -> Metric:
    """Return the row of a metric.

    Raises:
        ConfigError: There is none.
    """
    if name not in METRICS:
        raise ConfigError(f"There is no metric '{name}'. {did_you_mean(name, METRICS)}")
    return METRICS[name]


def definitions_of(names: Iterable[str]) -> dict[str, str]:
    """Return the definition of each metric by its name."""
    return {name: metric_of(name).definition for name in names}


def known_scores(scores: Mapping[str, float] | None) -> dict[str, float | None] | None:
    """Return scores as JSON has them: null where one is not defined."""
    return None if scores is None else {name: None if math.isnan(value) else value for name, value in scores.items()}
