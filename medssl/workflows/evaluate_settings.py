"""What ``medssl evaluate`` may be told, and what that means for the data at hand."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from medssl.domains.draws import POINT_DRAWS
from medssl.settings import Settings
from medssl.workflows.file_limits import FileLimits

__all__ = [
    "DenseProbeSettings",
    "DrawSettings",
    "EvaluateSettings",
    "FewLabelSettings",
    "LookSettings",
    "OneShotSettings",
    "PlaceSettings",
    "ProbeSettings",
    "RetrievalSettings",
]

Triple = tuple[int, int, int]
Metric = Literal["dice", "iou", "hd95_mm", "assd_mm", "nsd"]
ClassMetric = Literal["auroc", "auprc", "balanced_accuracy", "accuracy", "brier"]
PartMetric = Literal["instance_miou", "class_miou", "point_accuracy"]


class DrawSettings(Settings):
    """How many patients are labelled, and who."""

    sizes: tuple[int, ...] = Field(default=(1, 2, 4, 8), description="Numbers of labelled patients.")
    shares: tuple[float, ...] = Field(
        default=(), description="In place of sizes: shares of the labelled patients, such as [0.05,0.1,0.25,1]."
    )
    subsets: str = Field(
        default="",
        description="In place of draws: a YAML file of labelled patients (or scans), 'n: [[a, b], [c, d]]'.",
    )
    draws: int = Field(default=8, ge=1, description="Draws of labelled patients; subsets are nested in a draw.")
    draw_seed: int = Field(default=0, description="Seed of the draws.")


class FewLabelSettings(DrawSettings):
    """Which cells a few-label comparison has."""

    seeds: int = Field(default=1, ge=1, description="Fine-tuning seeds for each draw; every draw has seeds of its own.")
    metric: Metric | ClassMetric | PartMetric | None = Field(
        default=None,
        description="Metric that is compared; None: of segmenters dice, of classifiers auroc, of parts instance_miou.",
    )
    recipe: str | None = Field(
        default=None,
        description="Preset or settings file of finetune, the same for every arm; None for its defaults, on clouds "
        "point_classification_small, or point_parts_small where their points alone have labels.",
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of finetune above the recipe, such as few_label.finetune.train.steps.",
    )


class ScanProbeSettings(Settings):
    """What frozen encoders of scans are asked."""

    target: str = Field(default="", description="Target of the store that is read off the embeddings.")
    shows: int | None = Field(
        default=None, description="In place of a target: a structure's number; the classes are absent and present."
    )
    classes: tuple[str, ...] | None = Field(
        default=None, description="Classes of the target in order, the last of two is the positive one; None takes all."
    )
    level: Literal["volume", "slice"] = Field(
        default="volume",
        description="'volume': a scan at once; 'slice': each slice, averaged over the scan where the class is the "
        "scan's.",
    )
    window: Triple | None = Field(
        default=None, description="Voxels that the encoder sees, (z, y, x). None: as trained."
    )
    fit: Literal["resize", "crop"] = Field(
        default="resize", description="'resize' scales the body to the window; 'crop' keeps the store's voxels."
    )
    levels: Literal["coarsest", "all"] = Field(
        default="all", description="'coarsest': the embedding; 'all': the means of all levels, joined."
    )


class ProbeSettings(DrawSettings):
    """How frozen encoders are probed, of scans and of clouds. `medssl.evaluation.probes` says what each probe is."""

    how: tuple[Literal["linear", "knn", "svm", "ridge", "svm-c1", "knn-20", "linear-c1"], ...] = Field(
        default=("linear", "knn", "svm", "ridge"), min_length=1, description="The probes."
    )
    fit_splits: tuple[str, ...] = Field(default=("train", ""), description="Splits whose classes a probe is fitted on.")
    shares: tuple[float, ...] = Field(default=(0.05, 0.1, 0.25, 1.0), description="Shares of the labelled patients.")
    sizes: tuple[int, ...] = Field(default=(), description="In place of shares: numbers of labelled patients.")
    random: int = Field(default=2, ge=1, description="Random encoders of the same shape to compare with.")
    metric: ClassMetric = Field(default="auroc", description="Metric that is compared.")
    few_shot: tuple[tuple[int, int], ...] | None = Field(
        default=None,
        description="Few-shot tasks as [classes, labelled items of each]; None: those of 5 and 10 classes with 10 and "
        "20 items that the data can fill; [] for none.",
    )
    tasks: int = Field(default=10, ge=1, description="Few-shot tasks of each kind.")
    points: int | None = Field(default=None, ge=2, description="Clouds: points taken of each. None: as in training.")
    point_draws: int = Field(
        default=POINT_DRAWS, ge=1, description="Clouds with more points: draws that an embedding is the mean of."
    )
    batch_size: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Items that go through the encoder at once; None: 8 scans, 32 clouds."
    )
    seed: int = Field(default=0, description="Of folds, few-shot tasks and the points of clouds.")
    scans: ScanProbeSettings = Field(default_factory=ScanProbeSettings, description="For stores of scans.")


class LookSettings(Settings):
    """How frozen encoders are shown what they are read on, place by place: voxels of scans, points of clouds."""

    random: int = Field(default=3, ge=1, description="Random encoders of the same shape to compare with.")
    windows: Literal["whole", "random"] = Field(
        default="whole",
        description="Scans: 'whole', windows that cover each scan, with the place in it as position; 'random', some "
        "windows of each at random places, with the place in the window: scans that lie alike give position away.",
    )
    count: int = Field(default=2, ge=1, description="Random windows of each scan.")
    window: Triple | None = Field(default=None, description="Scans: voxels of a window, (z, y, x). None: as trained.")
    points: int | None = Field(default=None, ge=2, description="Clouds: points taken of each. None: as in training.")
    seed: int = Field(default=0, description="Of windows, places and folds.")


class DenseProbeSettings(LookSettings, DrawSettings):
    """How structures are read off frozen encoders by a linear probe of each place."""

    sizes: tuple[int, ...] = Field(default=(2, 4, 8), description="Numbers of labelled patients.")
    places: int = Field(default=2000, ge=20, description="Labelled places of each scan or cloud that are fitted.")


class PlaceSettings(LookSettings):
    """How places are found again by their features alone: nothing is fitted."""

    draws: int = Field(default=8, ge=1, description="Patients that are asked from, one a draw.")
    draw_seed: int = Field(default=0, description="Seed of the draws.")
    places: int = Field(default=4000, ge=20, description="Places of each scan or cloud that are looked at, by a draw.")


class OneShotSettings(PlaceSettings):
    """How the labels of one case are carried to others."""

    neighbours: int = Field(default=5, ge=1, description="Nearest places whose labels vote.")
    registration: tuple[Literal["affine", "deformable"], ...] = Field(
        default=("affine", "deformable"),
        description="Scans: what carries labels beside them: SimpleITK's registration, seconds a pair; [] for none.",
    )


class RetrievalSettings(PlaceSettings):
    """How nearest patients are found by the mean of their features."""

    target: str = Field(default="", description="Scans: target whose classes neighbours should share; '' for none.")
    neighbours: int = Field(default=5, ge=1, description="Nearest patients that are looked at.")


class EvaluateSettings(FileLimits):
    """How predictions are scored."""

    verb: ClassVar[str] = "evaluate"

    tolerance_mm: float = Field(default=1.0, gt=0, description="Tolerance of the surface Dice, mm.")
    tolerances_mm: dict[str, float] = Field(
        default_factory=dict, description="Tolerance of single structures by name, mm, in place of tolerance_mm."
    )
    structures: tuple[str, ...] | None = Field(
        default=None, description="Names of the structures to score; None scores all that the data names."
    )
    split: str | None = Field(
        default=None, description="Split to score; None takes 'test', or every labelled case where there is no test."
    )
    metrics: tuple[Metric, ...] = Field(default=("dice", "hd95_mm", "nsd"), description="Metrics that are tested.")
    level: float = Field(default=0.95, gt=0, lt=1, description="Confidence level of the intervals.")
    workers: int = Field(default=0, ge=0, description="Cases scored at a time; 0 takes one a processor.")
    few_label: FewLabelSettings = Field(default_factory=FewLabelSettings, description="The few-label protocol.")
    probe: ProbeSettings = Field(default_factory=ProbeSettings, description="The probe protocol.")
    dense_probe: DenseProbeSettings = Field(default_factory=DenseProbeSettings, description="The dense-probe protocol.")
    retrieval: RetrievalSettings = Field(default_factory=RetrievalSettings, description="The retrieval protocol.")
    landmarks: PlaceSettings = Field(default_factory=PlaceSettings, description="The landmarks protocol.")
    one_shot: OneShotSettings = Field(default_factory=OneShotSettings, description="The one-shot protocol.")
    prompt: PlaceSettings = Field(default_factory=PlaceSettings, description="The prompt protocol.")
