"""What dense protocols ask of a kind of data: places with features, voxels of windows or points of clouds.

A sample is what an encoder sees at once: a window of a case, or a cloud. Its places are the voxels or points in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn

    from medssl.engine.card import Card

__all__ = ["Carried", "Dense", "Sample", "Values"]

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is known of the places of one sample; P of them.

    Attributes:
        item: Id of the case or the cloud.
        patient: Its patient; the item where none is known.
        labels: int64, (P,): the structure of each place, 0 for none of them, -1 where that is not known or beyond the
            scan.
        position: float32, (P, 3): where a place lies, in [-1, 1]; (z, y, x) of scans, (x, y, z) of clouds.
        place_mm: float32, (P, 3): the same in mm (clouds: in their unit), from the first voxel of the case.
        shape: Voxels of a window, (z, y, x); (P,) of a cloud.
        inputs: What an encoder takes.
    """

    item: str
    patient: str
    labels: npt.NDArray[np.int64]
    position: Values
    place_mm: Values
    shape: tuple[int, ...]
    inputs: Any


@dataclass(frozen=True, kw_only=True)
class Carried:
    """Labels of one item carried to places of another.

    Attributes:
        labels: (R,), structures by number.
        why: Why a step failed; "" where none did.
    """

    labels: npt.NDArray[np.int64]
    why: str


class Dense(Protocol):
    """A store, seen place by place."""

    @property
    def place(self) -> str:
        """What a place is called: "voxel", "point"."""
        ...

    @property
    def names(self) -> Mapping[int, str]:
        """The structures by number, without the background."""
        ...

    @property
    def seen(self) -> str:
        """How items are looked at, in words: "windows of 32 x 32 x 32 that cover each scan"."""
        ...

    @property
    def partial(self) -> bool:
        """Whether samples show parts of an item, so that structures are not whole."""
        ...

    @property
    def registered(self) -> Callable[..., Carried] | None:
        """What carries labels by registration; None where that is not for this kind of data.

        It takes the labelled store and row, the other store and row, the places in mm, and ``way`` and ``seed``.
        """
        ...

    def class_of(self, entry: Any) -> str | None:
        """Return "" for an item whose places have labels, None for others."""
        ...

    def shown(self, store: Any, index: int) -> frozenset[int] | None:
        """Return the structures that an item of a store shows, by number; None where no label of it is known."""
        ...

    def classes(self, store: Any, target: str) -> dict[str, str]:
        """Return the class of each item: of a target, or its own; empty where none is asked for.

        Raises:
            ConfigError: There is no such target.
        """
        ...

    def size(self, entry: Any, places: int) -> float:
        """Return what one place is of: mm3 of a voxel, the share of a cloud's known points."""
        ...

    def samples(self, store: Any, index: int, card: Card) -> Iterator[Sample]:
        """Return the samples of an item of a store, made input as a card has it; the same at every call."""
        ...

    def plain(self, sample: Sample) -> Values:
        """Return hand-made features of all places, float32 (P, H): intensities or shape at several scales."""
        ...

    def pyramid(self, encoder: nn.Module, sample: Sample) -> Any:
        """Return what an encoder makes of a sample."""
        ...

    def at(self, pyramid: Any, sample: Sample, rows: npt.NDArray[np.int64]) -> Sequence[Values]:
        """Return the features of all levels at some places, float32 (R, C) each, finest first."""
        ...
