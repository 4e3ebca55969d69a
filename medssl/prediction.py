"""The contract of a prediction, whatever is predicted of whatever: a task takes items of a store and writes files.

New files become a store of one item, made as the training store was made. So the same code predicts a store's test
split and a folder that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Prediction", "Predictor", "Target", "Wanted", "Written"]

Array = npt.NDArray[Any]
StoreT = TypeVar("StoreT", contravariant=True)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Wanted:
    """What is written beside the prediction.

    Attributes:
        probabilities: A map of each class or region, or a column of each part.
        uncertainty: The entropy of each voxel's or point's probabilities, 0 (sure) to 1.
    """

    probabilities: bool = False
    uncertainty: bool = False


@dataclass(frozen=True)
class Target:
    """Where the files of one item go, and what it came from.

    Attributes:
        folder: The folder.
        stem: What the names of the files begin with.
        source: The file, or the folder of a series, that was predicted.
        sources: All of its files.
        format: Its format, as the manifest names it.
        item: Which item of its file.
        wanted: What is written.
    """

    folder: Path
    stem: str
    source: Path
    sources: tuple[Path, ...] = ()
    format: str = ""
    item: int = 0
    wanted: Wanted = field(default_factory=Wanted)


@dataclass(frozen=True)
class Written:
    """What became of one item.

    Attributes:
        files: The files, in the folder of the target; the prediction first.
        rows: Rows for the table of predictions: column -> value.
        notes: What a person should know of them.
    """

    files: tuple[Path, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What a model says of one scan, case or cloud.

    Attributes:
        labels: Of a segmenter the label map on the scan's own grid, (z, y, x); of parts the part of each point, (N,);
            None of a classifier.
        names: Label value or part -> name.
        affine: 4x4 of the label map, RAS+ mm from (x, y, z) indices; None elsewhere.
        predicted: Of a classifier the class, or of slices the class of each.
        probabilities: Of a classifier the probability of each class by name; of slices, one list each. Of a segmenter
            an array (classes, z, y, x) on the grid that the network sees, of parts (N, parts).
        differs: How it differs from what the run was trained on.
    """

    labels: Array | None
    names: dict[int, str] = field(default_factory=dict)
    affine: npt.NDArray[np.float64] | None = None
    predicted: str | list[str] | None = None
    probabilities: Any = None
    differs: tuple[str, ...] = ()


class Predictor(Protocol[StoreT, Found]):
    """One or several trained networks of one task."""

    @property
    def noun(self) -> str:
        """What is predicted, in words: "label maps of liver, spleen"."""
        ...

    @property
    def said(self) -> str:
        """The same, and of classes how they are decided."""
        ...

    @property
    def names(self) -> dict[int, str]:
        """Label value or part -> name; empty of classes."""
        ...

    @property
    def decision(self) -> Any:
        """Of classes how probabilities become one, a `medssl.evaluation.calibration.Decision`; None elsewhere."""
        ...

    @property
    def key(self) -> str:
        """Hash of everything that a prediction depends on besides the item: weights and how they are used."""
        ...

    def predict(self, store: StoreT, row: int) -> Found:
        """Return the prediction of an item of a store."""
        ...

    def shown(self, found: Found, entry: Any) -> Prediction:
        """Return a prediction as a Python user holds it; ``entry`` is what its store says of the item."""
        ...

    def sidecar(self) -> dict[str, Any]:
        """Return what a file beside the predictions says of their values; nothing of classes."""
        ...

    def files(self, target: Target) -> tuple[str, ...]:
        """Return the names that `write` may give to files, before anything is written."""
        ...

    def write(self, found: Found, store: StoreT, row: int, target: Target) -> Written:
        """Write a prediction, each file aside and renamed."""
        ...
