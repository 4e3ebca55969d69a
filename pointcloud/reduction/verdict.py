"""What two clouds are to each other: the mean distance of each point from the other cloud decides.

It is taken as a share of the distance between neighbouring points of one cloud. Sampling a surface anew leaves that at
about 1, and so does, for small organs, another patient's: on 252 pairs of one organ of two patients the smallest was
0.95, on shaken copies the largest 0.23. What was sampled anew is therefore not called a copy.

Shapes that were sampled in one way (templates fitted to each patient, points of one sphere pushed outwards) have points
near each other whatever their shapes are. There a deformation moves neighbours alike, and shaking does not: so of the
moves from each point to the nearest of the other cloud, less a common shift, turn and scale, little may be shared by
neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medssl.errors import MedSSLError
from medssl.pool import isolated
from medssl.reduction import hashes
from medssl.reduction.agreement import Agreement
from medssl.reduction.hashes import Variant
from medssl.reduction.verify import Level, Verdict
from pointcloud.formats.reading import read
from pointcloud.primitives.chamfer import nearest_distances
from pointcloud.reduction.prints import CloudPrint, CloudTarget

__all__ = ["BENT", "SAME_SCORE", "SAME_SHAPE", "Points", "bent", "judge", "relative_chamfer", "turns"]

SAME_SHAPE = 0.5  # relative Chamfer distance up to which one cloud is a copy of the other
SAME_SCORE = float(np.exp(-SAME_SHAPE))  # the same as a score
BENT = 0.4  # share of that distance that a bend may make up: of shaken copies 0.2, of shapes sampled in one way 0.8
_ROUNDING = 0.01
_POINTS = 2048  # that are compared
_NEIGHBOURS = 6
_ROUNDS = 3
Points = npt.NDArray[np.float32]


def relative_chamfer(first: Points, second: Points) -> float:
    """Return the mean distance to the other cloud, both ways, over the mean distance of neighbours in the sparser one.

    Both are compared about their mean at the scale of their mean distance from it, at most 2048 points of each.

    Args:
        first: (n, 3).
        second: (m, 3).
    """
    one, two = (torch.from_numpy(_normal(_subsampled(points)))[None] for points in (first, second))
    across = [float(nearest_distances(a, b).clamp_min(0).sqrt().mean()) for a, b in ((one, two), (two, one))]
    own = max(_spacing(one[0].numpy()), _spacing(two[0].numpy()))
    return sum(across) / 2 / own if own > 0 else 0.0 if sum(across) == 0 else float("inf")


def judge(
    first: CloudPrint,
    second: CloudPrint,
    variant: Variant,
    targets: Mapping[str, CloudTarget],
    *,
    cache: dict[str, Points] | None = None,
    failures: dict[str, str] | None = None,
    same_patient: bool = False,
) -> Verdict:
    """Look at a pair of clouds.

    Args:
        first: Print of the first.
        second: Print of the second.
        variant: How the second's axes are to be turned first.
        targets: id -> where a cloud lies; a pair of which one is missing is no copy, with the score 0.
        cache: id -> points, filled as clouds are read.
        failures: id -> why a cloud cannot be read, filled likewise.
        same_patient: Whether the manifest says so.
    """
    rest = Level.SAME_PATIENT if same_patient else Level.DIFFERENT
    if first.file_hash == second.file_hash or first.content_hash == second.content_hash:
        level = Level.SAME_FILE if first.file_hash == second.file_hash else Level.SAME_ARRAY
        return Verdict(level=level, agreement=Agreement.of_score(1.0), variant=Variant())
    cache, failures = ({} if cache is None else cache), ({} if failures is None else failures)
    clouds = [_points(targets.get(one.id), cache, failures) for one in (first, second)]
    if clouds[0] is None or clouds[1] is None:
        return Verdict(level=rest, agreement=Agreement.of_score(0.0), variant=variant)
    turned = _turned(clouds[1], variant)
    apart = relative_chamfer(clouds[0], turned)
    same = apart <= SAME_SHAPE and bent(clouds[0], turned) <= max(_ROUNDING, BENT * apart)
    score = float(np.exp(-apart))  # 1 for equal points
    return Verdict(level=Level.SAME_IMAGE if same else rest, agreement=Agreement.of_score(score), variant=variant)


def bent(first: Points, second: Points) -> float:
    """Return how far one cloud is bent into the other, as a share of the distance between neighbouring points.

    It is the root of the mean product of the moves of neighbouring points, along and across: 0 where clouds are equal
    or one is shaken, for then neighbours move apart from each other.

    Args:
        first: (n, 3).
        second: (m, 3), lying about as the first does but for its place and scale.
    """
    from scipy.spatial import cKDTree

    one, two = (_normal(_subsampled(points)).astype(np.float64) for points in (first, second))
    if len(one) > len(two):  # each point of the sparser one has one to go to
        one, two = two, one
    if len(one) <= _NEIGHBOURS:
        return 0.0
    tree, own = cKDTree(two), max(_spacing(one.astype(np.float32)), _spacing(two.astype(np.float32)))
    if own == 0.0:
        return 0.0
    for _ in range(_ROUNDS):  # what is left of a shift, turn and scale after means and sizes were taken away
        goal = two[tree.query(one)[1]]
        design = np.concatenate([one, np.ones((len(one), 1))], axis=1)
        fit = np.linalg.lstsq(design, goal, rcond=None)[0]
        u, stretch, v = np.linalg.svd(fit[:3])
        one = design @ np.concatenate([(u @ v) * stretch.mean(), fit[3:]])
    moves = two[tree.query(one)[1]] - one
    beside = cKDTree(one).query(one, k=_NEIGHBOURS + 1)[1][:, 1:]
    shared = float((moves[:, None] * moves[beside]).sum(axis=-1).mean())
    return float(np.sqrt(max(0.0, shared))) / own


def turns() -> list[Variant]:
    """Return the 24 turns by right angles, the cloud as it is first."""
    return [variant for variant in hashes.all_variants(negated=False) if not _is_mirror(variant)]


def _is_mirror(variant: Variant) -> bool:
    swaps = sum(variant.order[i] > variant.order[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    return (swaps + sum(variant.flips)) % 2 == 1


def _turned(points: Points, variant: Variant) -> Points:
    """Return points with their axes (z, y, x) in another order and direction, as `hashes.turned` turns a grid."""
    axes = points[:, ::-1][:, list(variant.order)]
    signs = np.where(variant.flips, -1.0, 1.0)
    return np.ascontiguousarray((axes * signs)[:, ::-1], dtype=np.float32)


def _points(target: CloudTarget | None, cache: dict[str, Points], failures: dict[str, str]) -> Points | None:
    if target is None:
        return None
    if target.id not in cache:
        try:
            cloud = isolated(partial(read, item=target.item), Path(target.path))
        except (MedSSLError, OSError) as error:
            failures[target.id] = str(error)
            return None
        cache[target.id] = _subsampled(cloud.points)
    return cache[target.id]


def _subsampled(points: Points) -> Points:
    """Return at most 2048 points, the same whatever their order."""
    if len(points) <= _POINTS:
        return points
    order = np.lexsort((points[:, 2], points[:, 1], points[:, 0]))
    chosen = np.random.default_rng(0).permutation(len(points))[:_POINTS]
    return points[order[np.sort(chosen)]]


def _normal(points: Points) -> Points:
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    scale = float(np.linalg.norm(centred, axis=1).mean())
    result: Points = (centred / (scale or 1.0)).astype(np.float32)
    return result


def _spacing(points: Points) -> float:
    from scipy.spatial import cKDTree

    if len(points) < 2:
        return 0.0
    return float(cKDTree(points).query(points, k=2)[0][:, 1].mean())
