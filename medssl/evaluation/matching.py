"""Places found again by their features: nearest neighbours, landmarks, similarity maps, labels carried over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["best_threshold", "carried", "iou", "landmarks_of", "nearest", "prompt_row", "similarity"]

Values = npt.NDArray[np.floating]
Whole = npt.NDArray[np.int64]
_BLOCK = 1 << 24
_THRESHOLDS = np.linspace(-1, 1, 81)


def nearest(queries_QD: Values, bank_ND: Values, k: int = 1) -> tuple[Whole, Values]:
    """Return the rows of the k nearest of the bank to each query, the nearest first, and their distances; (Q, k) each.

    Args:
        queries_QD: Features.
        bank_ND: Features that are looked through; k is cut to their number.
        k: How many.
    """
    k = min(k, len(bank_ND))
    square = (bank_ND.astype(np.float64) ** 2).sum(axis=1)
    rows, far = [], []
    step = max(1, _BLOCK // len(bank_ND))
    for start in range(0, len(queries_QD), step):
        some = queries_QD[start : start + step].astype(np.float64)
        apart = square - 2 * some @ bank_ND.T.astype(np.float64)
        found = np.argpartition(apart, k - 1, axis=1)[:, :k]
        own = np.take_along_axis(apart, found, axis=1)
        order = np.argsort(own, axis=1, kind="stable")
        rows.append(np.take_along_axis(found, order, axis=1))
        distance = np.take_along_axis(own, order, axis=1) + (some**2).sum(axis=1, keepdims=True)
        far.append(np.sqrt(np.maximum(distance, 0)))
    return np.concatenate(rows).astype(np.int64), np.concatenate(far)


def carried(queries_QD: Values, bank_ND: Values, labels_N: Whole, k: int = 5) -> Whole:
    """Return the label that most of the k nearest places have, of equals that of the nearest; (Q,)."""
    rows, _ = nearest(queries_QD, bank_ND, k)
    votes = labels_N[rows]
    shares = np.stack([(votes == votes[:, place, None]).sum(axis=1) for place in range(votes.shape[1])], axis=1)
    return np.asarray(np.take_along_axis(votes, shares.argmax(axis=1)[:, None], axis=1)[:, 0])


def landmarks_of(labels_P: Whole, place_P3: Values, names: Mapping[int, str]) -> dict[str, Values]:
    """Return the centroid of each structure and its ends along each axis, by name; what is lacking has none.

    An end is the mean of the places that lie farthest along the axis.

    Args:
        labels_P: Structure of each place.
        place_P3: Where it lies, in mm.
        names: The structures.
    """
    found: dict[str, Values] = {}
    for number, name in names.items():
        there = place_P3[labels_P == number].astype(np.float64)
        if not len(there):
            continue
        found[f"{name}: centroid"] = there.mean(axis=0)
        for axis in range(there.shape[1]):
            for word, end in (("first", there[:, axis].min()), ("last", there[:, axis].max())):
                found[f"{name}: {word} along axis {axis}"] = there[np.abs(there[:, axis] - end) < 1e-6].mean(axis=0)
    return found


def similarity(features_PD: Values, row: int) -> Values:
    """Return the cosine of each place's features with those of one place, (P,)."""
    lengths = np.linalg.norm(features_PD, axis=1)
    unit = features_PD / np.where(lengths > 0, lengths, 1)[:, None]
    found: Values = unit @ unit[row]
    return found


def prompt_row(labels_P: Whole, place_P3: Values, number: int) -> int:
    """Return the place of a structure that lies nearest to its centroid: where a reader would click."""
    rows = np.flatnonzero(labels_P == number)
    there = place_P3[rows].astype(np.float64)
    return int(rows[((there - there.mean(axis=0)) ** 2).sum(axis=1).argmin()])


def iou(named: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Return |both| / |either|; 1 where both are empty."""
    either = float((named | truth).sum())
    return float((named & truth).sum()) / either if either else 1.0


def best_threshold(maps: Sequence[tuple[Values, npt.NDArray[np.bool_]]]) -> float:
    """Return the cosine from which on a place is named, with the highest mean IoU; of equals the middle one.

    Args:
        maps: Similarity and truth of each map.
    """
    scores = np.array([np.mean([iou(found >= t, truth) for found, truth in maps]) for t in _THRESHOLDS])
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(_THRESHOLDS[best[len(best) // 2]])
