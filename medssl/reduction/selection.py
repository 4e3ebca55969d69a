"""Choosing which of many to train on: every strategy a function of embeddings or ids, a size or share, and a seed.

A selection marks, it deletes nothing: what comes back are places, rising. The same input and seed give the same places
wherever it runs. ``random_choice`` at the same size is the baseline that each of the others has to beat.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError
from medssl.reduction.groups import Groups, lead
from medssl.reduction.neighbours import Pairs, cosine_pairs, unit_vectors

__all__ = [
    "balanced_choice",
    "every_nth",
    "random_choice",
    "semantic_duplicates",
    "semantic_duplicates_as_published",
    "semantic_order",
    "spherical_k_means",
    "target_size",
]

Places = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.floating]
Keep = Literal["hard", "easy", "random"]


def target_size(count: int, *, size: int | None = None, share: float | None = None) -> int:
    """Return how many of ``count`` a size or a share asks for; a share is rounded up, so something stays.

    Raises:
        ConfigError: Neither or both were given, or they are out of range.

    Example:
        >>> target_size(10, share=0.25), target_size(10, size=4)
        (3, 4)
    """
    if (size is None) == (share is None):
        raise ConfigError("Give either size or share, so that it is clear how many to keep.")
    if size is not None:
        if not 0 <= size <= count:
            raise ConfigError(f"size={size} cannot be kept of {count}. Allowed: 0 to {count}.")
        return size
    if share is None or not 0.0 < share <= 1.0:
        raise ConfigError(f"share={share} is out of range. Allowed: above 0, up to 1.")
    return min(count, math.ceil(count * share - 1e-9))


def random_choice(count: int, *, size: int | None = None, share: float | None = None, seed: int = 0) -> Places:
    """Choose at random. With one seed, a larger choice contains every smaller one."""
    return np.sort(np.random.default_rng(seed).permutation(count)[: target_size(count, size=size, share=share)])


def every_nth(count: int, *, step: int | None = None, size: int | None = None, share: float | None = None) -> Places:
    """Choose every ``step``-th from the first on, or as many, evenly spread, as a size or share asks for.

    Args:
        count: Slices, or scans, in the order in which they lie.
        step: 1 keeps all.
        size: How many.
        share: Which share.

    Raises:
        ConfigError: Not exactly one of the three was given, or it is out of range.
    """
    if step is not None:
        if step < 1 or size is not None or share is not None:
            raise ConfigError(f"step={step}: give a step of 1 or more, and then neither size nor share.")
        return np.arange(0, count, step, dtype=np.int64)
    wanted = target_size(count, size=size, share=share)
    return (np.arange(wanted, dtype=np.int64) * count) // max(1, wanted)


def spherical_k_means(
    vectors: Vectors, clusters: int, *, seed: int = 0, iterations: int = 50
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return each vector's cluster and the centroids, by cosine, started by k-means++.

    A cluster that runs empty takes over the vector that is worst off.

    Args:
        vectors: (n, d).
        clusters: At most n are made.
        seed: Seed of the start.
        iterations: At most; it ends earlier when nothing moves.

    Returns:
        int64 (n,) and float32 (clusters, d) of length 1.

    Raises:
        ConfigError: There is nothing to cluster.
    """
    units = unit_vectors(vectors)
    if not len(units) or clusters < 1:
        raise ConfigError(f"{len(units)} embeddings cannot be put into {clusters} clusters.")
    clusters = min(clusters, len(units))
    generator = np.random.default_rng(seed)
    centres = [units[generator.integers(len(units))]]
    apart = np.full(len(units), np.inf)
    for _ in range(clusters - 1):
        apart = np.minimum(apart, ((units - centres[-1]).astype(np.float64) ** 2).sum(axis=1))
        total = apart.sum()
        centres.append(units[generator.choice(len(units), p=apart / total) if total > 0 else len(centres)])
    centroids = np.stack(centres)
    member = np.full(len(units), -1, dtype=np.int64)
    for _ in range(iterations):
        likeness = units @ centroids.T
        now = likeness.argmax(axis=1).astype(np.int64)
        best = likeness[np.arange(len(units)), now].copy()
        for empty in np.setdiff1d(np.arange(clusters), now):
            lonely = int(np.argmin(np.where(np.bincount(now, minlength=clusters)[now] > 1, best, np.inf)))
            now[lonely], best[lonely] = empty, np.inf
        if (now == member).all():
            break
        member = now
        sums = np.zeros((clusters, units.shape[1]))
        np.add.at(sums, member, units)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(length > 1e-12, sums / np.maximum(length, 1e-12), centroids).astype(np.float32)
    return member, centroids


def semantic_duplicates_as_published(
    vectors: Vectors, *, eps: float, clusters: int, keep: Keep = "hard", seed: int = 0, size: int | None = None
) -> Places:
    """Choose by SemDeDup as its code does it, for comparison; `semantic_duplicates` is the one to use.

    Each cluster is sorted, for "hard" from the farthest from its centroid on. One is dropped where its cosine to any
    earlier one exceeds 1 - eps, even if that one was itself dropped: chains are pruned to their first, and nothing
    that is dropped is sure to have a kept one near. Pairs across clusters are not seen.

    Source: A. Abbas et al., "SemDeDup", arXiv 2303.09540, and the code beside it.

    Args:
        vectors: (n, d).
        eps: 1 - cosine below which two are duplicates.
        clusters: Of k-means.
        keep: Which of a group comes first: the farthest from the centroid, the nearest, or any.
        seed: Seed of k-means and of "random".
        size: Keep so many, by the eps at which that is what is left; ``eps`` is then not used.
    """
    member, order = _clustered_order(vectors, clusters, keep, seed)
    units = unit_vectors(vectors)
    worst = np.empty(len(units))  # cosine to the nearest earlier one of the cluster
    for cluster in np.unique(member):
        places = order[member[order] == cluster]
        worst[places] = np.triu(units[places] @ units[places].T, k=1).max(axis=0)
    if size is not None:
        rank = np.argsort(worst, kind="stable")[: target_size(len(units), size=size)]
        return np.sort(rank).astype(np.int64)
    return np.flatnonzero(worst <= 1 - eps).astype(np.int64)


def semantic_order(vectors: Vectors, *, clusters: int | None = None, keep: Keep = "hard", seed: int = 0) -> Places:
    """Return all places from the most worth keeping on, as SemDeDup has it: by the distance from the centroid.

    Args:
        vectors: (n, d).
        clusters: Of k-means; by default the square root of the number of vectors.
        keep: "hard" (the farthest from its centroid first), "easy" or "random".
        seed: Seed of k-means and of "random".
    """
    return _clustered_order(vectors, clusters or max(1, math.isqrt(len(vectors))), keep, seed)[1]


def semantic_duplicates(
    ids: Sequence[str],
    vectors: Vectors,
    *,
    eps: float,
    clusters: int | None = None,
    keep: Keep = "hard",
    seed: int = 0,
) -> Groups:
    """Choose by SemDeDup, repaired: what is dropped is within eps of a kept one, wherever clusters end.

    Clusters only say which of a group is worth keeping ("hard": the farthest from its centroid); pairs are searched
    among all vectors, and groups are led, not chained; see `groups.lead`.

    Args:
        ids: One for each vector.
        vectors: (n, d).
        eps: 1 - cosine up to which two are duplicates.
        clusters: Of k-means; by default the square root of the number of vectors.
        keep: "hard", "easy" (the nearest to the centroid) or "random".
        seed: Seed of k-means and of "random".

    Returns:
        The groups: who is kept, who stands for whom, and how far away.
    """
    # By id, so that the order of listing changes neither clusters nor groups.
    by_id = sorted(range(len(ids)), key=lambda place: ids[place])
    table = np.asarray(vectors)[by_id]
    _, order = _clustered_order(table, clusters or max(1, math.isqrt(len(ids))), keep, seed)
    worth = np.empty(len(ids))
    worth[np.array(by_id)[order]] = -np.arange(len(ids), dtype=np.float64)
    found = cosine_pairs(table, eps)
    back = np.array(by_id, dtype=np.int64)
    return lead(ids, Pairs(back[found.first], back[found.second], found.distance), worth=worth.tolist())


def balanced_choice(
    vectors: Vectors,
    *,
    size: int | None = None,
    share: float | None = None,
    levels: Sequence[int] | None = None,
    seed: int = 0,
) -> Places:
    """Choose evenly over a tree of clusters: what is rare is kept, what is frequent is thinned out.

    Vectors are clustered, the centroids clustered again, and so on. From the top down each node's share is divided
    among its children as evenly as their sizes allow; within the last clusters the choice is random.

    Source: H. Vo et al., "Automatic data curation for self-supervised learning: a clustering-based approach", TMLR
    2024 (arXiv 2405.15613), without its resampling steps.

    Args:
        vectors: (n, d).
        size: How many.
        share: Which share.
        levels: Clusters of each level from the bottom up, falling; by default about n / 8, and a tenth of that.
        seed: Seed.

    Raises:
        ConfigError: Size, share or levels are out of range.
    """
    table = unit_vectors(vectors)
    count = len(table)
    wanted = target_size(count, size=size, share=share)
    if levels is None:
        levels = [max(1, count // 8)] + ([count // 80] if count >= 160 else [])
    if any(n < 1 for n in levels) or any(b >= a for a, b in itertools.pairwise(levels)):
        raise ConfigError(
            f"levels={list(levels)}: clusters of each level are 1 or more, and fewer from level to level."
        )
    if not wanted:
        return np.zeros(0, dtype=np.int64)
    nodes = [np.array([place]) for place in range(count)]
    trees: list[list[npt.NDArray[np.int64]]] = []
    current = table
    for depth, clusters in enumerate(levels):
        member, current = spherical_k_means(current, clusters, seed=seed + depth)
        trees.append([np.flatnonzero(member == cluster) for cluster in range(len(current))])
    holds = [np.array([len(node) for node in nodes])]
    for tree in trees:
        holds.append(np.array([int(holds[-1][children].sum()) for children in tree]))
    generator = np.random.default_rng(seed)
    quota = _even(holds[-1], wanted, generator)
    for depth in range(len(trees) - 1, -1, -1):
        below = np.zeros(len(holds[depth]), dtype=np.int64)
        for node, children in enumerate(trees[depth]):
            below[children] = _even(holds[depth][children], int(quota[node]), generator)
        quota = below
    return np.flatnonzero(quota).astype(np.int64)


def _even(room: npt.NDArray[np.int64], wanted: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Divide a number as evenly as the room of each allows; who gets one more is drawn."""
    given = np.zeros(len(room), dtype=np.int64)
    left = min(wanted, int(room.sum()))
    while left:
        open_ = np.flatnonzero(given < room)
        each = left // len(open_)
        if each:
            more = np.minimum(room[open_] - given[open_], each)
            given[open_] += more
            left -= int(more.sum())
        else:
            given[generator.permutation(open_)[:left]] += 1
            left = 0
    return given


def _clustered_order(vectors: Vectors, clusters: int, keep: Keep, seed: int) -> tuple[Places, Places]:
    """Return each vector's cluster, and all places from the most worth keeping on."""
    if keep not in ("hard", "easy", "random"):
        raise ConfigError(f"keep='{keep}' is not known. Allowed: hard, easy, random.")
    member, centroids = spherical_k_means(vectors, clusters, seed=seed)
    if keep == "random":
        return member, np.random.default_rng(seed).permutation(len(member)).astype(np.int64)
    likeness = (unit_vectors(vectors).astype(np.float64) * centroids[member]).sum(axis=1)
    return member, np.argsort(likeness if keep == "hard" else -likeness, kind="stable").astype(np.int64)
