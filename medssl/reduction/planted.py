"""How many copies a search finds, measured on the user's own scans: altered copies of a few are made and looked for.

A copy is found where its fingerprint proposes the pair and looking at the pair calls it a copy; other scans play no
part in that, so the copies need not be among them. What a search among very many loses besides is
`candidates.search_recall`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import MedSSLError
from medssl.formats.scan import Scan
from medssl.pool import Engine, run_jobs
from medssl.reduction import fingerprint as prints
from medssl.reduction.candidates import RADIUS, candidates
from medssl.reduction.fingerprint import Fingerprint, Target
from medssl.reduction.index import Index
from medssl.reduction.verify import verify
from medssl.writing import disk_faults

__all__ = ["ALTERED", "JOURNAL", "altered", "planted_copies"]

JOURNAL = "planted.jsonl"
_MOST_VOXELS = 1 << 27  # larger scans are not altered: each copy is a whole scan in memory
_RULES = f"{prints.VERSION}/1"
Values = npt.NDArray[Any]


def altered(scan: Scan, kind: str) -> Scan:
    """Return a copy of a scan as another tool might have written it.

    Args:
        scan: The scan.
        kind: A key of ``ALTERED``.
    """
    values, affine = geometry.to_canonical(scan.values, scan.header.affine)
    changed, affine = _MADE[kind](np.nan_to_num(np.asarray(values, dtype=np.float32)), affine)
    header = replace(scan.header, affine=affine, shape=changed.shape, dtype=str(changed.dtype), units="arbitrary")
    return Scan(header=header, values=changed)


def planted_copies(
    chosen: Sequence[tuple[Fingerprint, Target]],
    *,
    count: int,
    radius: int = RADIUS,
    seed: int = 0,
    journal: Path | None = None,
    workers: int = 1,
    engine: Engine = "processes",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[int, int]]:
    """Return kind of change -> (copies found, copies planted).

    Args:
        chosen: Scans to choose from.
        count: How many to make copies of.
        radius: Differing bits of 511 up to which hashes propose a pair.
        seed: Seed of the choice; which scans are chosen does not hang on their order.
        journal: File of results, so that a run that goes on does not plant again.
        workers: Processes.
        engine: Where they run, see `medssl.pool.run_jobs`.
        progress: Called with (scans done, scans in all).
    """
    fit = [pair for pair in chosen if int(np.prod(pair[0].shape)) <= _MOST_VOXELS and pair[0].field.any()]
    fit.sort(key=lambda pair: hashlib.sha256(f"{seed}\0{pair[0].id}".encode()).digest())
    fit = fit[:count]
    known = _read(journal)
    results: dict[int, Mapping[str, bool]] = {}
    for place, (one, _) in enumerate(fit):
        if (key := _key(one, radius)) in known:
            results[place] = known[key]
    if progress:
        progress(len(results), len(fit))
    jobs = {place: (*pair, radius) for place, pair in enumerate(fit) if place not in results}
    for place, found in run_jobs(_plant, jobs, workers=workers, crashed=lambda job, why: {}, engine=engine):
        results[place] = found
        if journal is not None and found:
            journal.parent.mkdir(parents=True, exist_ok=True)
            with disk_faults(journal), journal.open("ab") as file:
                line = json.dumps({"key": _key(fit[place][0], radius), "found": found})
                file.write(b"\n" + line.encode() + b"\n")
        if progress:
            progress(len(results), len(fit))
    return {
        kind: (sum(r[kind] for r in results.values() if kind in r), sum(kind in r for r in results.values()))
        for kind in ALTERED
        if any(kind in r for r in results.values())
    }


def _plant(one: Fingerprint, target: Target, radius: int) -> dict[str, bool]:
    """Return whether each altered copy of a scan is found; nothing where it cannot be read any more."""
    try:
        scan = prints.read_target(target)
    except (MedSSLError, OSError):
        return {}
    found = {}
    for kind in ALTERED:
        copy = altered(scan, kind)
        other = prints.fingerprint_of(copy, id="", size_bytes=0, mtime_ns=0, file_hash=kind)
        pool = Index((other, one))
        # Each proposal of the pair turns the copy's axes; looking is done the way round that it is done in a search.
        proposed = candidates(pool, radius=radius)
        found[kind] = any(verify(other, one, (copy, scan), variant=p.variant).level.is_copy for p in proposed)
    return found


def _eight_bits(values: Values, affine: geometry.Affine) -> tuple[Values, geometry.Affine]:
    low, high = np.percentile(values, (0.5, 99.5))
    scaled = (np.clip(values, low, high) - low) / ((high - low) or 1.0) * 255
    return scaled.round().astype(np.uint8), affine


def _resampled(values: Values, affine: geometry.Affine) -> tuple[Values, geometry.Affine]:
    from scipy.ndimage import zoom

    smaller = zoom(values, [max(1, round(n * 0.75)) / n for n in values.shape], order=1)
    steps = np.array([a / b for a, b in zip(values.shape, smaller.shape, strict=True)])[::-1]
    return smaller, affine @ np.diag([*steps, 1.0])


def _flipped(values: Values, affine: geometry.Affine) -> tuple[Values, geometry.Affine]:
    return np.ascontiguousarray(values[:, ::-1]), affine


def _cut(values: Values, affine: geometry.Affine) -> tuple[Values, geometry.Affine]:
    return np.ascontiguousarray(values[len(values) // 5 :]), affine


def _noisy(values: Values, affine: geometry.Affine) -> tuple[Values, geometry.Affine]:
    low, high = np.percentile(values, (0.5, 99.5))
    noise = np.random.default_rng(values.size).standard_normal(values.shape, dtype=np.float32)
    return values + noise * np.float32(0.02 * (high - low)), affine


def _padded(values: Values, affine: geometry.Affine) -> tuple[Values, geometry.Affine]:
    margin = [(0, 0), *((max(1, n // 12),) * 2 for n in values.shape[1:])]
    return np.pad(values, margin, constant_values=float(values.min())), affine


_MADE: dict[str, Callable[[Values, geometry.Affine], tuple[Values, geometry.Affine]]] = {
    "in 8 bits": _eight_bits,
    "resampled": _resampled,
    "with noise": _noisy,
    "padded": _padded,
    "flipped, header unchanged": _flipped,
    "cut by a fifth along z": _cut,
}
ALTERED = tuple(_MADE)


def _key(one: Fingerprint, radius: int) -> str:
    return f"{one.file_hash[:32]}:{radius}:{_RULES}"


def _read(journal: Path | None) -> dict[str, dict[str, bool]]:
    known: dict[str, dict[str, bool]] = {}
    if journal is None or not journal.is_file():
        return known
    for line in journal.read_bytes().splitlines():
        try:
            row = json.loads(line)
            known[row["key"]] = {str(kind): bool(found) for kind, found in row["found"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # empty, or cut short when its writer was killed
    return known
