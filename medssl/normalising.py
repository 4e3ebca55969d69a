"""How stored values become a network's input: the schemes and their numbers, for training, prediction and exports.

* ``unit``: two stored values become 0 and 1, what lies beyond is clipped: the CT window, or of other modalities the
  percentiles inside the body box.
* ``zscore``: less the mean of the scan's voxels in its body box, over their deviation; nothing is clipped. Of a scan of
  (nearly) one value the deviation is taken as 1 % of what ``unit`` spans: else its rounding would fill the input, and
  changes of intensity, which are as large as ``unit``'s, would be as large as 1 over the deviation.
* ``dataset``: the same by the mean and deviation over the scans that were trained on, each weighing alike.
* ``nnunet``: CT is clipped to percentiles 0.5 and 99.5 of the training scans' tissue (voxels of the body box above -500
  HU, where nnU-Net takes labelled structures), less its mean, over its deviation; others as ``zscore``, and so is
  a channel that is CT in some of the training scans and something else in others.
* ``nonzero``: CT as ``nnunet``; others less the mean of the voxels in the box of all that is not 0 in any channel of
  the case, over their deviation, at the file's own voxel size. That is what nnU-Net itself does, so that its predictor
  sees what a network of ours was trained on. What lies outside of a scan is 0, the mean, as nnU-Net pads.

Numbers are in stored units: HU for CT; of other modalities 0 and 16384 are the percentiles of ``unit``. z-scores are
the same whatever the unit. Numbers that were fitted to HU say nothing of other values, nor those of others of HU: a
scan of the other kind is refused, and so is ``dataset`` over both kinds.

Reference:
    Isensee et al., "nnU-Net", Nature Methods 2021, arXiv:1904.08128, supplementary note 2 (intensity normalisation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.input_schemes import FOLLOW, SCHEMES, Normalise, Scheme

__all__ = [
    "FOLLOW",
    "SCHEMES",
    "Normalise",
    "Numbers",
    "Scheme",
    "Statistics",
    "check_takes",
    "fitted_numbers",
    "input_row",
    "nonzero_box",
    "nonzero_moments",
    "numbers_of",
    "statistics_of",
    "takes",
]

Numbers = tuple[float, float, float, float]  # smallest and largest value, what is taken off, what it is divided by
_TISSUE_HU = -500
_SKETCH = 400  # quantiles of tissue that are kept of each scan
_LEVELS = np.arange(-32768, 32768)  # what int16 holds
_BEYOND = 32768.0  # what int16 holds: nothing is clipped
_LEAST = 0.01  # of what `unit` makes 0 to 1; a body of air and tissue has ten times that


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is known of one stored channel of a scan, in stored units.

    Attributes:
        mean: Of the voxels in the body box.
        deviation: Of the same, over their number (not one less).
        tissue: (mean, deviation) of those above -500 HU; None where the values are no HU.
        sketch: Quantiles (i + 1/2) / n of the same, rising; empty where the values are no HU.
        nonzero: (mean, deviation) of the voxels in the box of all that is not 0; None in stores of earlier releases.
    """

    mean: float
    deviation: float
    tissue: tuple[float, float] | None = None
    sketch: tuple[int, ...] = ()
    nonzero: tuple[float, float] | None = None


def statistics_of(values: npt.NDArray[np.int16], box: Sequence[Sequence[int]], *, hounsfield: bool) -> Statistics:
    """Return the statistics of a stored channel.

    Args:
        values: As stored, axes (z, y, x).
        box: First and one-past-last voxel of the body.
        hounsfield: Whether they are HU.
    """
    (z0, y0, x0), (z1, y1, x1) = box
    inside = values[z0:z1, y0:y1, x0:x1]
    counts = np.zeros(len(_LEVELS), dtype=np.int64)
    for plane in inside:  # plane by plane: a scan of a gigabyte needs no second one
        counts += np.bincount(plane.ravel().astype(np.int64) - _LEVELS[0], minlength=len(_LEVELS))
    mean, deviation = _moments(counts)
    if not hounsfield:
        return Statistics(mean=mean, deviation=deviation)
    tissue = np.where(_LEVELS > _TISSUE_HU, counts, 0)
    tissue = tissue if tissue.any() else counts
    places = ((np.arange(_SKETCH) + 0.5) / _SKETCH * tissue.sum()).astype(np.int64)
    sketch = _LEVELS[np.searchsorted(tissue.cumsum(), places, side="right")]
    return Statistics(mean=mean, deviation=deviation, tissue=_moments(tissue), sketch=tuple(sketch.tolist()))


def nonzero_moments(
    arrays: Sequence[npt.NDArray[np.generic] | None], zeros: Sequence[float] | None = None
) -> tuple[tuple[float, float] | None, ...]:
    """Return mean and deviation of each channel of a case in the box of all that is not 0 in any of them.

    Args:
        arrays: The channels on one grid, axes (z, y, x); None of one that the case lacks.
        zeros: What stands for 0 in each; 0 when left out.

    Returns:
        (mean, deviation) in the arrays' own units, of the whole grid where all is 0; None of a lacking channel.
    """
    first, last = nonzero_box(arrays, zeros)
    box = tuple(slice(low, high) for low, high in zip(first, last, strict=True))
    return tuple(None if array is None else _mean_deviation(array[box]) for array in arrays)


def nonzero_box(
    arrays: Sequence[npt.NDArray[np.generic] | None], zeros: Sequence[float] | None = None
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the first and one-past-last voxel of all that is not 0 in any channel; the whole where all is 0.

    Args:
        arrays: As for `nonzero_moments`.
        zeros: As for `nonzero_moments`.
    """
    first, last = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        rows = [
            (array != zero).any(axis=others)
            for array, zero in zip(arrays, zeros or (0,) * len(arrays), strict=True)
            if array is not None
        ]
        inside = np.flatnonzero(np.any(rows, axis=0))
        first.append(int(inside[0]) if len(inside) else 0)
        last.append(int(inside[-1]) + 1 if len(inside) else len(rows[0]))
    return (first[0], first[1], first[2]), (last[0], last[1], last[2])


def _mean_deviation(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Return mean and deviation, plane by plane: a scan of a gigabyte needs no second one."""
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in values) / values.size
    squares = sum(float(np.square(plane.astype(np.float64) - mean).sum()) for plane in values)
    return mean, float(np.sqrt(squares / values.size))


def fitted_numbers(
    scheme: Scheme,
    scans: Sequence[Statistics],
    *,
    hu_range: tuple[float, float] = (-32768.0, 32767.0),
    clipped: bool = False,
) -> Numbers | None:
    """Return the numbers that a scheme takes from the scans that are trained on, of one channel; None where none.

    Each scan weighs alike, whatever its size.

    Args:
        scheme: Which.
        scans: The channel of each of them that has it.
        hu_range: What the store kept of HU.
        clipped: Whether it clipped them to that before it resampled, as nnU-Net clips (``grid=nnunet``): that is the
            clip then, in place of percentiles, which would clip after it.

    Raises:
        DataError: ``dataset``, and some scans are in HU and others are not.
    """
    if not scans or scheme in ("unit", "zscore"):
        return None
    hounsfield = all(scan.tissue is not None for scan in scans)
    if scheme == "dataset":
        of_ct = sum(scan.tissue is not None for scan in scans)
        if 0 < of_ct < len(scans):
            raise DataError(
                f"normalise=dataset: of {len(scans)} scans to train on {of_ct} are CT in HU, the others are not, so "
                "one mean of all means nothing. Take normalise=zscore or normalise=unit, or train on a store of each."
            )
        ends = hu_range if hounsfield else (-_BEYOND, _BEYOND)
        return (*ends, *_pooled([(scan.mean, scan.deviation) for scan in scans]))
    if not hounsfield:
        return None
    low, high = np.percentile([value for scan in scans for value in scan.sketch], (0.5, 99.5))
    low, high = hu_range if clipped else (low, high)
    return float(low), float(high), *_pooled([scan.tissue for scan in scans if scan.tissue is not None])


def numbers_of(
    scheme: Scheme, scale: tuple[float, float], own: Statistics | None, fitted: Numbers | None
) -> Numbers | None:
    """Return how the stored values of one channel of one scan become input: clipped, less, over. None is ``unit``.

    Args:
        scheme: Which.
        scale: Stored values that ``unit`` makes 0 and 1.
        own: The scan's statistics; None where it lacks the channel.
        fitted: See `fitted_numbers`.

    Raises:
        DataError: The numbers were fitted to HU and the scan's values are none, or the other way round; or what
            ``nonzero`` needs was not kept.
    """
    if scheme == "unit":
        return None
    if own is None:
        return (*scale, scale[0], scale[1] - scale[0])
    if fitted is not None:
        to_hounsfield = fitted[:2] != (-_BEYOND, _BEYOND)
        if to_hounsfield != (own.tissue is not None):
            theirs, ours = ("HU", "no HU") if to_hounsfield else ("no HU", "HU")
            raise DataError(
                f"its values are {ours}, and the input's numbers ({scheme}) were fitted to values that are {theirs}. "
                "Leave it out, or train with data.normalise=zscore, which takes each scan's own."
            )
        return fitted
    if scheme == "nonzero":
        if own.nonzero is None:
            raise DataError(
                "its store is of an earlier release, which did not keep the moments of all that is not 0 "
                "(normalise=nonzero). Make it again with medssl cache, or train with data.normalise=zscore."
            )
        mean, deviation = own.nonzero
        return (-_BEYOND, _BEYOND, mean, max(deviation, _LEAST * (scale[1] - scale[0])))
    return (-_BEYOND, _BEYOND, own.mean, max(own.deviation, _LEAST * (scale[1] - scale[0])))


def input_row(scale: tuple[float, float], numbers: Numbers | None) -> list[float]:
    """Return a row of `medssl.windows.as_input`: the numbers, and how far apart in the input ``unit``'s 0 and 1 lie."""
    low, high = scale
    chosen = (low, high, low, high - low) if numbers is None else numbers
    return [*chosen, (high - low) / chosen[3]]


def takes(encoder: Any, schemes: Sequence[Scheme]) -> None:
    """Note on a trained encoder which input it takes, so that no other is given to it."""
    encoder.input_schemes = tuple(schemes)  # no state of the module


def check_takes(encoder: Any, schemes: Sequence[Scheme]) -> None:
    """Refuse input that a trained encoder was not trained on.

    Raises:
        DataError: The schemes differ. Encoders that say nothing take any.
    """
    wanted = getattr(encoder, "input_schemes", None)
    if wanted is not None and len(wanted) == len(schemes) and tuple(wanted) != tuple(schemes):
        raise DataError(
            f"The network takes input normalised as {', '.join(wanted)}, and the scans come as {', '.join(schemes)}. "
            "Take the store as the run's card has it: `medssl.store.normalised.normalised_as`."
        )


def _moments(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return mean and deviation of values that are counted by `_LEVELS`; a deviation of 0 divides nothing: 1."""
    number = int(counts.sum())
    mean = int((counts * _LEVELS).sum()) / number
    return mean, float(np.sqrt((counts * (_LEVELS - mean) ** 2).sum() / number)) or 1.0


def _pooled(moments: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return mean and deviation of a mixture in which each part weighs alike."""
    means, deviations = np.array(moments).T
    mean = float(means.mean())
    return mean, float(np.sqrt((deviations**2 + (means - mean) ** 2).mean())) or 1.0
