"""Copies among point clouds: a hash that does not know the order of points, an occupancy hash, and Chamfer distance.

A copy may be reordered, moved, scaled, turned by right angles (y up, z up), thinned out, or shaken a little. What
proposes a pair is the 511-bit hash of the occupancy of a 32^3 grid about the centre of the cloud; what decides is
the mean distance of each point from the other cloud, as a share of the distance between neighbouring points of one
cloud. Sampling a surface anew leaves that at about 1, and so does, for small organs, another patient's: on 252 pairs
of one organ of two patients the smallest was 0.95, on shaken copies the largest 0.23. What was sampled anew is
therefore not called a copy.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medssl.errors import MedSSLError
from medssl.manifest.describe import file_hash, size_and_time
from medssl.pool import Engine, run_jobs
from medssl.reduction import hashes
from medssl.reduction.agreement import Agreement
from medssl.reduction.candidates import Candidate
from medssl.reduction.duplicates import Found, Match
from medssl.reduction.groups import lead
from medssl.reduction.hashes import Variant
from medssl.reduction.neighbours import Pairs, hamming_pairs
from medssl.reduction.verify import Level, Verdict
from pointcloud.describe import shape_hash
from pointcloud.formats.reading import read
from pointcloud.primitives.chamfer import nearest_distances

__all__ = [
    "JOURNAL",
    "RADIUS",
    "SAME_SCORE",
    "CloudPrint",
    "CloudTarget",
    "Points",
    "cloud_print",
    "cloud_prints",
    "find_cloud_copies",
    "judge",
    "relative_chamfer",
    "stored_prints",
    "turns",
]

JOURNAL = "clouds.jsonl"
RADIUS = 77  # differing bits of 511
SAME_SHAPE = 0.5  # relative Chamfer distance up to which one cloud is a copy of the other
SAME_SCORE = float(np.exp(-SAME_SHAPE))  # the same as a score
_SIDE = 32
_REACH = 1.05  # of the farthest point: the grid's half side
_POINTS = 2048  # that are compared
_VERSION = 1
Points = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CloudTarget:
    """A cloud to look at. Plain values only.

    Attributes:
        id: Its name in the manifest.
        path: The file.
        item: Which cloud of the file.
    """

    id: str
    path: str
    item: int = 0


@dataclass(frozen=True, kw_only=True)
class CloudPrint:
    """What is kept of a cloud to find its copies.

    Attributes:
        id: Its name in the manifest.
        file_hash: SHA-256 of the file, and which cloud of it.
        content_hash: Of the points, whatever their order.
        count: Points.
        occupancy: float16 (8, 8, 8), coefficients of the occupancy; see `medssl.reduction.hashes`.
    """

    id: str
    file_hash: str
    content_hash: str
    count: int
    occupancy: hashes.Coefficients


def cloud_prints(
    targets: Sequence[CloudTarget],
    folder: Path,
    *,
    workers: int = 1,
    engine: Engine = "processes",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[CloudPrint], dict[str, str]]:
    """Return prints sorted by id, and id -> reason for clouds that cannot be read.

    Args:
        targets: The clouds.
        folder: Where prints are kept, one line a cloud, so that a killed run reads none twice.
        workers: Processes; 1 works in this one.
        engine: Where they run, see `medssl.pool.run_jobs`.
        progress: Called with (clouds done, clouds in all).
    """
    known = _read_journal(folder / JOURNAL)
    found: dict[str, CloudPrint] = {}
    failed: dict[str, str] = {}
    keys = {target.id: _key(target) for target in targets}
    for target in targets:
        if (row := known.get(keys[target.id])) is not None:
            found[target.id] = _print_of(target.id, row)
    todo = [target for target in targets if target.id not in found]
    if progress:
        progress(len(found), len(targets))
    jobs = {number: (target,) for number, target in enumerate(todo)}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / JOURNAL).open("ab") as journal:
        for number, row in run_jobs(_described, jobs, workers=workers, crashed=_crashed, engine=engine):
            name = todo[number].id
            if "reason" in row:
                failed[name] = row["reason"]
            else:
                found[name] = _print_of(name, row)
                # A line that a killed run left unfinished ends here and is skipped when read.
                journal.write(b"\n" + json.dumps({"key": keys[name], **row}).encode() + b"\n")
                journal.flush()
            if progress:
                progress(len(found) + len(failed), len(targets))
    return [found[name] for name in sorted(found)], failed


def cloud_print(target: CloudTarget) -> CloudPrint | str:
    """Return the print of one cloud, or why it cannot be read."""
    row = _described(target)
    return row["reason"] if "reason" in row else _print_of(target.id, row)


def stored_prints(folder: Path, targets: Sequence[CloudTarget]) -> list[CloudPrint]:
    """Return the prints that a folder holds of clouds, sorted by id, as they were last read; no cloud is read.

    Args:
        folder: The folder of fingerprints.
        targets: The clouds; those without a print are left out.
    """
    latest = {key.rsplit(":", 2)[0]: row for key, row in _read_journal(folder / JOURNAL).items()}
    rows = {target.id: latest.get(_key(target).rsplit(":", 2)[0]) for target in targets}
    return [_print_of(name, row) for name, row in sorted(rows.items()) if row is not None]


def find_cloud_copies(
    prints: Sequence[CloudPrint],
    targets: Mapping[str, CloudTarget],
    *,
    radius: int = RADIUS,
    worth: Mapping[str, float] | None = None,
    patients: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Look at every pair of clouds that may be copies.

    Args:
        prints: Sorted by id.
        targets: id -> where a cloud lies.
        radius: Differing bits of 511 up to which the occupancy proposes a pair.
        worth: id -> what it is worth keeping for; by default its points.
        patients: id -> patient or object; clouds of one are told as such where they are no copies.
        progress: Called with (pairs done, pairs in all).
    """
    proposed = _candidates(prints, radius)
    owner = patients or {}
    cache: dict[str, Points] = {}
    failures: dict[str, str] = {}
    matches = []
    for done, one in enumerate(proposed, 1):
        first, second = prints[one.first], prints[one.second]
        same = first.id in owner and owner[first.id] == owner.get(second.id)
        verdict = judge(first, second, one.variant, targets, cache=cache, failures=failures, same_patient=same)
        matches.append(Match(first=first.id, second=second.id, candidate=one, verdict=verdict))
        if progress:
            progress(done, len(proposed))
    ids = [one.id for one in prints]
    place = {name: number for number, name in enumerate(ids)}
    copies = [match for match in matches if match.verdict.level.is_copy]
    pairs = Pairs(
        np.array([place[m.first] for m in copies], dtype=np.int64),
        np.array([place[m.second] for m in copies], dtype=np.int64),
        np.array([1.0 - m.verdict.agreement.score for m in copies], dtype=np.float64),
    )
    values = [float(one.count) if worth is None else worth[one.id] for one in prints]
    matches.sort(key=lambda match: (match.first, match.second))
    return Found(tuple(matches), lead(ids, pairs, worth=values), failures, 1.0)


def relative_chamfer(first: Points, second: Points) -> float:
    """Return the mean distance to the other cloud, both ways, over the mean distance of neighbours in the sparser one.

    Both are compared about their mean at the scale of their mean distance from it, at most 2048 points of each.

    Args:
        first: (n, 3).
        second: (m, 3).
    """
    one, two = (torch.from_numpy(_normal(_thinned(points)))[None] for points in (first, second))
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
        return Verdict(level=level, agreement=_agreement(1.0), variant=Variant())
    cache, failures = ({} if cache is None else cache), ({} if failures is None else failures)
    clouds = [_points(targets.get(one.id), cache, failures) for one in (first, second)]
    if clouds[0] is None or clouds[1] is None:
        return Verdict(level=rest, agreement=_agreement(0.0), variant=variant)
    apart = relative_chamfer(clouds[0], _turned(clouds[1], variant))
    score = float(np.exp(-apart))  # 1 for equal points
    return Verdict(
        level=Level.SAME_IMAGE if apart <= SAME_SHAPE else rest, agreement=_agreement(score), variant=variant
    )


def _agreement(score: float) -> Agreement:
    return Agreement(
        score=score, explained=None, correlation=score, unevenness=0.0, overlap=1.0, shift_mm=(0.0, 0.0, 0.0)
    )


def _candidates(prints: Sequence[CloudPrint], radius: int) -> list[Candidate]:
    """Return each pair once: equal files or points, and near occupancies under the 24 turns by right angles."""
    found: dict[tuple[int, int], Candidate] = {}
    for how in ("file", "array"):
        clusters: dict[str, list[int]] = {}
        for number, one in enumerate(prints):
            clusters.setdefault(one.file_hash if how == "file" else one.content_hash, []).append(number)
        for members in clusters.values():
            for low, high in itertools.combinations(members, 2):
                found.setdefault((low, high), Candidate(first=low, second=high, distance=0.0, how=how))
    stored = [one.occupancy for one in prints]
    if len(stored) > 1:
        codes = hashes.bits(np.stack(stored))
        for variant in turns():
            near = hamming_pairs(
                codes, radius, others=hashes.bits(np.stack([hashes.turned(c, variant) for c in stored]))
            )
            for a, b, d in zip(near.first.tolist(), near.second.tolist(), near.distance.tolist(), strict=True):
                before = found.get((a, b))
                if a < b and (before is None or d / hashes.BITS < before.distance):
                    how = "field" if variant == Variant() else "turned field"
                    found[a, b] = Candidate(first=a, second=b, distance=d / hashes.BITS, how=how, variant=variant)
    return [found[pair] for pair in sorted(found)]


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


def _described(target: CloudTarget) -> dict[str, Any]:
    try:
        cloud = read(Path(target.path), item=target.item)
        whole = file_hash([Path(target.path)])
    except (MedSSLError, OSError, MemoryError) as error:
        return {"reason": " ".join(str(error).split())}
    stored = hashes.coefficients(_occupancy(cloud.points))
    return {
        "file_hash": f"{whole}#{target.item}",
        "content_hash": shape_hash(cloud),
        "count": len(cloud),
        "occupancy": base64.b64encode(stored.astype("<f2").tobytes()).decode(),
    }


def _occupancy(points: Points) -> npt.NDArray[np.float32]:
    """Return how full each cell of a 32^3 grid about the mean is, (z, y, x), smoothed over neighbouring cells."""
    from scipy.ndimage import gaussian_filter

    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    reach = float(np.linalg.norm(centred, axis=1).mean()) * 2.0 * _REACH  # the mean is steadier than the farthest point
    cells = np.floor((centred / (reach or 1.0) + 1.0) / 2.0 * _SIDE).astype(np.int64)
    cells = cells[((cells >= 0) & (cells < _SIDE)).all(axis=1)]
    grid = np.zeros((_SIDE,) * 3, dtype=np.float32)
    np.add.at(grid, (cells[:, 2], cells[:, 1], cells[:, 0]), 1.0)
    result: npt.NDArray[np.float32] = gaussian_filter(grid / max(1, len(cells)), 1.0)
    return result * np.float32(_SIDE**3)


def _points(target: CloudTarget | None, cache: dict[str, Points], failures: dict[str, str]) -> Points | None:
    if target is None:
        return None
    if target.id not in cache:
        try:
            cloud = read(Path(target.path), item=target.item)
        except (MedSSLError, OSError) as error:
            failures[target.id] = str(error)
            return None
        cache[target.id] = _thinned(cloud.points)
    return cache[target.id]


def _thinned(points: Points) -> Points:
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


def _key(target: CloudTarget) -> str:
    try:
        state = size_and_time([Path(target.path)])
    except OSError:
        state = (0, 0)
    return f"{_VERSION}:{target.path}#{target.item}:{state[0]}:{state[1]}"


def _print_of(name: str, row: Mapping[str, Any]) -> CloudPrint:
    stored = np.frombuffer(base64.b64decode(row["occupancy"]), dtype="<f2").reshape((hashes.SIDE,) * 3)
    return CloudPrint(
        id=name,
        file_hash=row["file_hash"],
        content_hash=row["content_hash"],
        count=int(row["count"]),
        occupancy=stored.astype(np.float16),
    )


def _read_journal(path: Path) -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    if path.is_file():
        for line in path.read_bytes().splitlines():
            try:
                row = json.loads(line)
                _print_of("", row)
                known[row["key"]] = row
            except (ValueError, KeyError, TypeError):
                continue  # empty, or cut short when its writer was killed
    return known


def _crashed(job: tuple[Any, ...]) -> dict[str, Any]:
    return {"reason": "The process that read it died: the file is damaged, or memory ran out."}
