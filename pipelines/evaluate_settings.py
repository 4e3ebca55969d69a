"""What ``medssl evaluate`` may be told, and what that means for the data at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from medssl.errors import ConfigError, DataError, MedSSLError, did_you_mean
from medssl.presets import find_preset
from medssl.settings import Settings, load_yaml
from pipelines.file_limits import FileLimits
from pipelines.truths import Reference, read_truth
from pointcloud.point_draws import POINT_DRAWS

__all__ = ["EvaluateSettings", "FewLabelSettings", "ProbeSettings", "chosen_structures", "of_classes", "tolerances_of"]

Triple = tuple[int, int, int]
Metric = Literal["dice", "iou", "hd95_mm", "assd_mm", "nsd"]
ClassMetric = Literal["auroc", "auprc", "balanced_accuracy", "accuracy", "brier"]


class FewLabelSettings(Settings):
    """Which cells a few-label comparison has."""

    sizes: tuple[int, ...] = Field(default=(1, 2, 4, 8), description="Numbers of labelled patients.")
    shares: tuple[float, ...] = Field(
        default=(), description="In place of sizes: shares of the labelled patients, such as [0.05,0.1,0.25,1]."
    )
    subsets: str = Field(
        default="",
        description="In place of draws: a YAML file of labelled patients (or scans), 'n: [[a, b], [c, d]]'.",
    )
    draws: int = Field(default=8, ge=1, description="Draws of labelled patients; subsets are nested in a draw.")
    seeds: int = Field(default=1, ge=1, description="Fine-tuning seeds for each draw; every draw has seeds of its own.")
    draw_seed: int = Field(default=0, description="Seed of the draws.")
    metric: Metric | ClassMetric | None = Field(
        default=None, description="Metric that is compared; None: of segmenters dice, of classifiers auroc."
    )
    recipe: str | None = Field(
        default=None, description="Preset or settings file of finetune, the same for every arm; None for its defaults."
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of finetune above the recipe, such as few_label.finetune.train.steps.",
    )


class ScanProbeSettings(Settings):
    """What frozen encoders of scans are asked, and with how many labels."""

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
    how: tuple[Literal["linear", "knn"], ...] = Field(default=("linear", "knn"), description="The probes.")
    levels: Literal["coarsest", "all"] = Field(
        default="all", description="'coarsest': the embedding; 'all': the means of all levels, joined."
    )
    shares: tuple[float, ...] = Field(default=(0.05, 0.1, 0.25, 1.0), description="Shares of the labelled patients.")
    sizes: tuple[int, ...] = Field(default=(), description="In place of shares: numbers of labelled patients.")
    subsets: str = Field(
        default="",
        description="In place of draws: a YAML file of labelled patients (or scans), 'n: [[a, b], [c, d]]'.",
    )
    draws: int = Field(default=8, ge=1, description="Draws of labelled patients; subsets are nested in a draw.")
    draw_seed: int = Field(default=0, description="Seed of the draws.")
    random: int = Field(default=2, ge=1, description="Random encoders of the same shape to compare with.")
    metric: ClassMetric = Field(default="auroc", description="Metric that is compared.")
    batch_size: int = Field(default=8, ge=1, description="Windows that go through an encoder at once.")


class ProbeSettings(Settings):
    """How frozen embeddings are probed: of scans as ``scans`` says, of clouds as the rest does.

    What each protocol of clouds fixes is in `medssl.evaluation.protocols`.
    """

    protocols: tuple[Literal["svm-c1", "svm-cv", "knn", "linear"], ...] = Field(
        default=("svm-c1", "svm-cv", "knn", "linear"), min_length=1, description="Which probes."
    )
    fit_splits: tuple[str, ...] = Field(default=("train", ""), description="Splits whose classes a probe is fitted on.")
    few_shot: tuple[tuple[int, int], ...] = Field(
        default=((5, 10), (5, 20), (10, 10), (10, 20)),
        description="Few-shot tasks as [classes, labelled items of each]; what the data cannot fill is left out.",
    )
    draws: int = Field(default=10, ge=1, description="Few-shot tasks of each kind.")
    points: int | None = Field(default=None, ge=2, description="Clouds: points taken of each. None: as in training.")
    point_draws: int = Field(
        default=POINT_DRAWS, ge=1, description="Clouds with more points: draws that an embedding is the mean of."
    )
    batch_size: int = Field(default=32, ge=1, description="Items that go through the encoder at once.")
    seed: int = Field(default=0, description="Of folds, few-shot draws and the points of clouds.")
    scans: ScanProbeSettings = Field(default_factory=ScanProbeSettings, description="For stores of scans.")


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


def of_classes(few: FewLabelSettings) -> bool:
    """Tell whether the recipe of a few-label comparison is of classifiers.

    Raises:
        ConfigError: The recipe cannot be read, or a setting is wrong.
    """
    task = few.finetune.get("task")
    if task is None and few.recipe is not None:
        task = load_yaml(find_preset(few.recipe, "finetune")).get("task")
    return bool(task == "classification")


def chosen_structures(reference: Reference, settings: EvaluateSettings) -> dict[int, str]:
    """Return the name of each structure to score, by its label value.

    Raises:
        ConfigError: If the data does not name one that is asked for.
        DataError: If there is no structure.
    """
    if reference.regions:
        known = {region.written: region.name for region in reference.regions}
    else:
        known = dict(reference.classes) or _values_found(reference)
    if settings.structures is None:
        return known
    numbers = {name: value for value, name in known.items()}
    for name in settings.structures:
        if name not in numbers:
            raise ConfigError(f"structures: the data names no '{name}'. {did_you_mean(name, numbers)}")
    return {numbers[name]: name for name in settings.structures}


def _values_found(reference: Reference) -> dict[int, str]:
    """Name structures by their numbers, from the label maps themselves, where the data names none."""
    import numpy as np

    values: set[int] = set()
    for truth in reference.truths:
        try:
            found = np.unique(read_truth(truth)[0])
        except (OSError, ValueError, MedSSLError):
            continue
        values |= {int(v) for v in found if v > 0}
    if not values:
        raise DataError("The label maps hold no structure: every voxel that could be read is background.")
    return {value: f"structure {value}" for value in sorted(values)}


def tolerances_of(structures: Mapping[int, str], settings: EvaluateSettings) -> dict[str, float]:
    """Return the tolerance of the surface Dice of each structure by name, mm.

    Raises:
        ConfigError: If one is set for no structure, or is not above 0.
    """
    for name, tolerance in settings.tolerances_mm.items():
        if name not in structures.values():
            raise ConfigError(f"tolerances_mm.{name}: no such structure. {did_you_mean(name, structures.values())}")
        if tolerance <= 0:
            raise ConfigError(f"tolerances_mm.{name}: a tolerance is above 0 mm. Got {tolerance}.")
    return {name: settings.tolerances_mm.get(name, settings.tolerance_mm) for name in structures.values()}
