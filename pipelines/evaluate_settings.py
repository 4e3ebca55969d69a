"""What ``medssl evaluate`` may be told, and what that means for the data at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from medssl.errors import ConfigError, DataError, MedSSLError, did_you_mean
from medssl.settings import Settings
from pipelines.scored_cases import Reference, read_labels

__all__ = ["EvaluateSettings", "FewLabelSettings", "ProbeSettings", "chosen_structures", "tolerances_of"]

Metric = Literal["dice", "iou", "hd95_mm", "assd_mm", "nsd"]


class FewLabelSettings(Settings):
    """Which cells a few-label comparison has."""

    sizes: tuple[int, ...] = Field(default=(1, 2, 4, 8), description="Numbers of labelled patients.")
    draws: int = Field(default=3, ge=1, description="Draws of labelled patients; subsets are nested in a draw.")
    seeds: int = Field(default=1, ge=1, description="Fine-tuning seeds for each draw; every draw has seeds of its own.")
    draw_seed: int = Field(default=0, description="Seed of the draws.")
    metric: Metric = Field(default="dice", description="Metric that is compared, the mean over structures.")
    recipe: str | None = Field(
        default=None, description="Preset or settings file of finetune, the same for every arm; None for its defaults."
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of finetune above the recipe, such as few_label.finetune.train.steps.",
    )


class ProbeSettings(Settings):
    """How frozen embeddings are probed; what each protocol fixes is in `medssl.evaluation.protocols`."""

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
    batch_size: int = Field(default=32, ge=1, description="Items that go through the encoder at once.")
    seed: int = Field(default=0, description="Of folds, few-shot draws and the points of clouds.")


class EvaluateSettings(Settings):
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


def chosen_structures(reference: Reference, settings: EvaluateSettings) -> dict[int, str]:
    """Return the name of each structure to score, by its label value.

    Raises:
        ConfigError: If the data does not name one that is asked for.
        DataError: If there is no structure.
    """
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
            found = np.unique(read_labels(truth.path)[0])
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
