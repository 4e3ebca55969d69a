"""Scores laid out as what was sampled: G pretraining runs, D draws of labelled patients, P test patients.

A patient's score is the mean over their items of the mean over targets, figures that are not defined left out; scores
of several seeds of one draw are averaged. Of metrics that are no mean over patients the grid holds pseudo-values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.metrics import Metric
from medssl.evaluation.parts import resampled_parts
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.jackknife import pseudo_values

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Cells", "Grid", "cells_of", "grids_of", "method_of", "unfinished_in"]

Values = npt.NDArray[np.float64]
Key = tuple[int, int]  # draw and seed
_NEEDS_EVERY_CLASS = ("auroc", "auprc", "balanced_accuracy", "class_miou")


@dataclass(frozen=True)
class _Figures:
    """One run's figures of its items: value by item, or of parts IoU, right and labelled points by item."""

    values: Mapping[str, tuple[float, ...]]
    patients: Mapping[str, str]
    classes: Mapping[str, str]


@dataclass(frozen=True)
class Cells:
    """The figures of one arm: of each of its runs, by draw and seed.

    Attributes:
        metric: The metric.
        runs: Run -> (draw, seed) -> figures.
    """

    metric: Metric
    runs: Mapping[str, Mapping[Key, _Figures | ClassPredictions]]

    @property
    def keys(self) -> set[Key]:
        """The draws and seeds that every run has been through."""
        return set.intersection(*(set(found) for found in self.runs.values())) if self.runs else set()

    def single_scores(self, run: str) -> dict[Key, float]:
        """Return the score of each draw and seed of one run, of all items that it has."""
        found = {}
        for key, cell in self.runs[run].items():
            score, values, _ = _scored(cell, list(_items(cell)), self.metric)
            known = values[np.isfinite(values)]
            found[key] = (
                score if self.metric.over != "patients" else float(known.mean()) if len(known) else float("nan")
            )
        return found


@dataclass(frozen=True)
class Grid:
    """Scores of one arm.

    Attributes:
        values: Scores, or pseudo-values, (G, D, P).
        score_of: The score of each run and draw, (G, D).
        patients: Names of the patients, (P,).
        left_out: Patients without a score in one of the cells.
        seeds: Seeds that were averaged in a draw, at most.
    """

    values: Values
    score_of: Values
    patients: tuple[str, ...]
    left_out: int
    seeds: int

    @property
    def score(self) -> float:
        """The score: the mean over runs and draws."""
        return float(self.score_of.mean())


def method_of(arm: str) -> str:
    """Return the method whose run an arm is: METHOD of METHOD-seedN, else the arm's own name.

    Example:
        >>> method_of("voco-seed0"), method_of("scratch")
        ('voco', 'scratch')
    """
    found = re.fullmatch(r"(.+)-seed\d+", arm)
    return found[1] if found else arm


def cells_of(
    table: ScoreTable, metric: Metric, *, how: str, labels: int | None, target: str | None = None, pooled: bool = True
) -> dict[str, Cells]:
    """Return the figures of each arm.

    Args:
        table: The scores.
        metric: What is scored.
        how: How the runs were fitted.
        labels: With how many labelled patients; None where not known.
        target: A single structure or class of clouds; None takes all.
        pooled: Whether METHOD-seed0, METHOD-seed1, ... are runs of one arm.
    """
    import polars as pl

    kinds = {
        "patients": [metric.name],
        "classes": ["probability", "truth", "predicted"],
        "parts": ["shape_iou", "points_right", "points_labelled"],
    }[metric.over]
    chosen = table.frame.filter(
        (pl.col("how") == how) & pl.col("labels").eq_missing(labels) & pl.col("metric").is_in(kinds)
    )
    if target is not None:
        chosen = chosen.filter(pl.col("target") == target)
    readers: dict[str, Callable[[pl.DataFrame], _Figures | ClassPredictions]] = {
        "patients": _mean_figures,
        "classes": _predictions,
        "parts": _part_figures,
    }
    read = readers[metric.over]
    arms: dict[str, dict[str, dict[Key, _Figures | ClassPredictions]]] = {}
    for (run, draw, seed), own in chosen.group_by("run", "draw", "seed", maintain_order=True):
        name = str(run)
        found = arms.setdefault(method_of(name) if pooled else name, {}).setdefault(name, {})
        found[int(str(draw)), int(str(seed))] = read(own)
    return {arm: Cells(metric, runs) for arm, runs in arms.items()}


def unfinished_in(arms: Sequence[Cells]) -> int:
    """Return the number of draws and seeds that some runs of these arms have been through and others have not."""
    keys: list[set[Key]] = [set(found) for cells in arms for found in cells.runs.values()]
    every: set[Key] = set().union(*keys)
    return sum(any(key not in found for found in keys) for key in every)


def grids_of(arms: Sequence[Cells]) -> tuple[Grid, ...] | None:
    """Return the grids of one arm, or of several on the draws, seeds, items and patients that all of them have.

    Returns:
        None where they have no draw in common.

    Raises:
        DataError: They share no item, or disagree about its class.
    """
    keys = sorted(set.intersection(*(cells.keys for cells in arms)))
    if not keys:
        return None
    every = [found[key] for cells in arms for found in cells.runs.values() for key in keys]
    _check_classes(every)
    shared = set.intersection(*(set(_items(cell)) for cell in every))
    items = [item for item in _items(every[0]) if item in shared]
    if not items:
        raise DataError("The runs share no scored case. Compare runs on the same test split.")
    _check_truths(every, items)
    by_draw = {draw: [key for key in keys if key[0] == draw] for draw, _ in keys}
    names: tuple[str, ...] = ()
    blocks = []
    for cells in arms:
        scores: list[list[float]] = []
        values: list[list[Values]] = []
        for found in cells.runs.values():
            scores.append([])
            values.append([])
            for own in by_draw.values():
                scored = [_scored(found[key], items, cells.metric) for key in own]
                names = scored[0][2]
                scores[-1].append(float(np.mean([score for score, _, _ in scored])))
                values[-1].append(np.mean([each for _, each, _ in scored], axis=0))
        blocks.append((np.array(scores), np.array(values)))
    seeds = max(map(len, by_draw.values()))
    if arms[0].metric.over != "patients":
        return tuple(Grid(values_GDP, score_GD, names, 0, seeds) for score_GD, values_GDP in blocks)
    known = np.logical_and.reduce([np.isfinite(values_GDP).all(axis=(0, 1)) for _, values_GDP in blocks])
    kept = tuple(name for name, use in zip(names, known, strict=True) if use)
    left_out = len(names) - len(kept)
    found_GDP = [values_GDP[..., known] for _, values_GDP in blocks]
    return tuple(
        Grid(own, own.sum(axis=-1) / len(kept) if kept else own.sum(axis=-1) * np.nan, kept, left_out, seeds)
        for own in found_GDP
    )


def _scored(
    cell: _Figures | ClassPredictions, items: Sequence[str], metric: Metric
) -> tuple[float, Values, tuple[str, ...]]:
    """Return the score, the value of each patient, and their names in sorted order."""
    if isinstance(cell, ClassPredictions):
        taken = cell.taken(items)
        names, kinds = tuple(np.unique(taken.patients).tolist()), [taken.classes[c] for c in taken.truth]
        score, values = pseudo_values(lambda weight: resampled_scores(taken, metric.name, weight), len(names))
        return score, _needing(values, names, taken.patients, kinds, metric), names
    owners = [cell.patients[item] for item in items]
    names = tuple(sorted(set(owners)))
    found = np.array([cell.values[item] for item in items], dtype=np.float64)
    if metric.over == "parts":
        kinds = [cell.classes[item] for item in items]
        score, values = pseudo_values(
            lambda weight: resampled_parts(found[:, 0], found[:, 1:], kinds, owners, metric.name, weight), len(names)
        )
        return score, _needing(values, names, owners, kinds, metric), names
    place = {name: row for row, name in enumerate(names)}
    of_patient: list[list[float]] = [[] for _ in names]
    for owner, (value,) in zip(owners, found, strict=True):
        if np.isfinite(value):
            of_patient[place[owner]].append(float(value))
    means = np.array([np.mean(own) if own else np.nan for own in of_patient])
    return float("nan"), means, names


def _needing(
    values: Values, names: Sequence[str], owners: Iterable[str], kinds: Iterable[str], metric: Metric
) -> Values:
    """Return the pseudo-values, NaN for a patient who alone shows a class: without them another thing is measured."""
    if metric.name not in _NEEDS_EVERY_CLASS:
        return values
    holders: dict[str, set[str]] = {}
    for owner, kind in zip(owners, kinds, strict=True):
        holders.setdefault(kind, set()).add(owner)
    alone = {next(iter(found)) for found in holders.values() if len(found) == 1}
    return np.where([name in alone for name in names], np.nan, values)


def _mean_figures(frame: pl.DataFrame) -> _Figures:
    import polars as pl

    mean = frame.group_by("item", maintain_order=True).agg(pl.col("value").mean(), pl.col("patient").first())
    values = {i: (float("nan") if v is None else float(v),) for i, v in mean.select("item", "value").iter_rows()}
    return _Figures(values, dict(mean.select("item", "patient").iter_rows()), {})


def _part_figures(frame: pl.DataFrame) -> _Figures:
    found: dict[str, dict[str, float]] = {}
    for item, metric, value in frame.select("item", "metric", "value").iter_rows():
        found.setdefault(item, {})[metric] = value
    order = ("shape_iou", "points_right", "points_labelled")
    return _Figures(
        {item: tuple(own[name] for name in order) for item, own in found.items()},
        dict(frame.select("item", "patient").iter_rows()),
        dict(frame.select("item", "target").iter_rows()),
    )


def _predictions(frame: pl.DataFrame) -> ClassPredictions:
    items = frame["item"].unique(maintain_order=True).to_list()
    classes = frame["target"].unique(maintain_order=True).to_list()
    row, column = ({name: place for place, name in enumerate(names)} for names in (items, classes))
    blocks = {name: np.zeros((len(items), len(classes))) for name in ("probability", "truth", "predicted")}
    owner: dict[str, str] = {}
    for item, patient, target, metric, value in frame.select(
        "item", "patient", "target", "metric", "value"
    ).iter_rows():
        blocks[metric][row[item], column[target]] = value
        owner[item] = patient
    return ClassPredictions(
        tuple(items),
        tuple(owner[item] for item in items),
        blocks["truth"].argmax(axis=1),
        blocks["probability"],
        blocks["predicted"].argmax(axis=1),
        tuple(classes),
    )


def _items(cell: _Figures | ClassPredictions) -> Sequence[str]:
    return cell.keys if isinstance(cell, ClassPredictions) else list(cell.values)


def _check_classes(cells: Sequence[_Figures | ClassPredictions]) -> None:
    if len({cell.classes for cell in cells if isinstance(cell, ClassPredictions)}) > 1:
        raise DataError("Runs distinguish other classes, so they cannot be compared.")


def _check_truths(cells: Sequence[_Figures | ClassPredictions], items: Sequence[str]) -> None:
    truths = [cell.taken(items).truth for cell in cells if isinstance(cell, ClassPredictions)]
    if any((truth != truths[0]).any() for truth in truths[1:]):
        raise DataError("Runs were trained on different classes of the same cases, so they cannot be compared.")
