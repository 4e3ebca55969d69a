"""What is kept of a cloud to find its copies: hashes of its file, its points, and where about its mean they lie."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedSSLError
from medssl.manifest.describe import file_hash, size_and_time
from medssl.pool import Engine, run_jobs
from medssl.reduction import hashes
from medssl.writing import disk_faults
from pointcloud.describe import shape_hash
from pointcloud.formats.reading import read

__all__ = ["JOURNAL", "CloudPrint", "CloudTarget", "cloud_print", "cloud_prints", "stored_prints"]

JOURNAL = "clouds.jsonl"
_SIDE = 32
_REACH = 1.05  # of the farthest point: the grid's half side
_VERSION = 1


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
        workers: Processes that read.
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
    with disk_faults(folder), (folder / JOURNAL).open("ab") as journal:
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


def _occupancy(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
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


def _key(target: CloudTarget) -> str:
    try:
        state = size_and_time([Path(target.path)])
    except OSError:
        state = (0, 0)
    place = hashlib.sha256(target.path.encode("utf-8", "surrogateescape")).hexdigest()[:32]  # no path is kept
    return f"{_VERSION}:{place}#{target.item}:{state[0]}:{state[1]}"


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


def _crashed(job: tuple[Any, ...], why: str) -> dict[str, Any]:
    return {"reason": why}
