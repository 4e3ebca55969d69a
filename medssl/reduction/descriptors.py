"""What strategies compare: hashes, small pictures and vectors of scans, of their slices or of blocks of them.

Each scan is read once for each kind of descriptor; what was made stays in a folder, so a killed run makes none twice.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import CacheError, MedSSLError
from medssl.manifest.describe import size_and_time
from medssl.pool import Engine, run_jobs
from medssl.reduction import grids, hashes
from medssl.reduction.fingerprint import Target, read_target
from medssl.reduction.networks import embed_pictures
from medssl.reduction.slices import as_8_bit, difference_hash
from medssl.writing import atomic_write

__all__ = ["Descriptor", "Recipe", "cut_places", "descriptors"]

_VERSION = 1
EDGE = 64
_LOW = 32
Arrays = dict[str, npt.NDArray[Any]]
Kind = Literal["codes", "pictures", "vectors"]
Unit = Literal["scan", "slice", "block"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is made of a scan. Plain values only.

    Attributes:
        unit: Of the whole scan, of each slice, or of each block.
        kind: "codes": dHash of slices exactly as in "Less is More", a 511-bit hash of blocks; "pictures": 64 x 64
            pixels in 8 bits; "vectors": of the network, or the lowest frequencies where there is none.
        axis: 0, 1 or 2: slices along z, y or x.
        block: Voxels of a block (z, y, x).
        stretch: Grey values of pictures between the limits of the whole "scan", or of each "slice" as in the paper.
        network: See `networks.embed_pictures`; "" for none.
    """

    unit: Unit
    kind: Kind
    axis: int = 0
    block: tuple[int, int, int] = (64, 64, 64)
    stretch: Literal["scan", "slice"] = "scan"
    network: str = ""

    @property
    def key(self) -> str:
        """A short name that changes with everything that changes a descriptor."""
        return hashlib.sha256(json.dumps({**asdict(self), "version": _VERSION}).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Descriptor:
    """What was made of one scan.

    Attributes:
        shape: Voxels of the scan (z, y, x), canonical.
        table: A row a part: uint64 (n, words), uint8 (n, planes, y, x) or float32 (n, d).
        starts: int64 (n, 3), first voxel of each part.
        stops: int64 (n, 3), one past the last.
    """

    shape: tuple[int, int, int]
    table: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]


def descriptors(
    targets: Sequence[Target],
    recipe: Recipe,
    folder: Path,
    *,
    workers: int = 1,
    engine: Engine = "processes",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Descriptor], dict[str, str]]:
    """Return id -> descriptor, and id -> reason for scans that cannot be read.

    Args:
        targets: The scans.
        recipe: What to make of them.
        folder: Where descriptors are kept.
        workers: Processes that read.
        engine: Where they run, see `medssl.pool.run_jobs`.
        progress: Called with (scans done, scans in all).

    Raises:
        CacheError: The folder cannot be written to.
    """
    place = folder / f"parts-{recipe.key}"
    found: dict[str, Descriptor] = {}
    failed: dict[str, str] = {}
    files = {target.id: place / f"{_version_of(target)}.npz" for target in targets}
    for name, file in files.items():
        if (known := _load(file)) is not None:
            found[name] = known
    todo = [target for target in targets if target.id not in found]
    if progress:
        progress(len(found), len(targets))
    jobs = {number: (target, recipe, str(files[target.id])) for number, target in enumerate(todo)}
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number, reason in run_jobs(_make, jobs, workers=workers, crashed=_crashed, engine=engine):
            name = todo[number].id
            known = None if reason else _load(files[name])
            if known is None:
                failed[name] = reason or "Its descriptors cannot be read back."
            else:
                found[name] = known
            if progress:
                progress(len(found) + len(failed), len(targets))
    except OSError as error:
        raise CacheError(f"{place}: cannot be written to ({error.strerror}). Free space, or choose another.") from error
    return found, failed


def _make(target: Target, recipe: Recipe, file: str) -> str:
    """Write the descriptors of a scan; return why not, "" where it was done."""
    try:
        arrays = _described(target, recipe)
    except (MedSSLError, OSError, MemoryError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    with atomic_write(Path(file)) as aside, aside.open("wb") as out:
        np.savez_compressed(out, allow_pickle=False, **arrays)
    return ""


def _crashed(job: tuple[Any, ...], why: str) -> str:
    return why


def _described(target: Target, recipe: Recipe) -> Arrays:
    scan = read_target(target)
    values, _ = geometry.to_canonical(scan.values, scan.header.affine)
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer):
        values = np.nan_to_num(values.astype(np.float32))
    limits = grids.clip_limits(values, hounsfield=scan.header.units == "HU")
    z, y, x = (int(n) for n in values.shape)
    starts, stops = cut_places((z, y, x), recipe.unit, recipe.axis, recipe.block)
    parts = [values[tuple(map(slice, a, b))] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
    if recipe.unit == "slice":
        parts = [part.squeeze(axis=recipe.axis) for part in parts]
    table = _TABLES[recipe.unit, recipe.kind](parts, limits, recipe)
    return {"shape": np.array(values.shape), "table": table, "starts": starts, "stops": stops}


def cut_places(
    shape: tuple[int, int, int], unit: str, axis: int = 0, block: tuple[int, int, int] = (64, 64, 64)
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return first and one-past-last voxel of each part of a scan, int64 (n, 3) each.

    Blocks are spread as evenly as whole blocks can be, so that all of the scan lies in one; they overlap where they do
    not fit, and are cut short along an axis that is shorter than they.

    Args:
        shape: Voxels of the scan (z, y, x).
        unit: "scan", "slice" or "block".
        axis: Of slices.
        block: Voxels of a block (z, y, x).
    """
    whole = np.array(shape, dtype=np.int64)
    size = np.minimum(block, whole) if unit == "block" else whole.copy()
    if unit == "slice":
        size[axis] = 1
    along = [
        np.linspace(0, length - step, -(-length // step)).round().astype(np.int64)
        for length, step in zip(whole.tolist(), size.tolist(), strict=True)
    ]
    starts = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)
    return starts, starts + size


def _grey(plane: npt.NDArray[Any], limits: tuple[float, float], stretch: str) -> npt.NDArray[np.uint8]:
    """Return a plane in 8 bits at 64 x 64 pixels."""
    if stretch == "slice":
        return _resized(as_8_bit(plane).astype(np.float32))
    low, high = limits
    scaled = (np.clip(plane.astype(np.float32), low, high) - low) / ((high - low) or 1.0) * 255
    return _resized(scaled)


def _resized(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    small = grids.in_box(plane, tuple((0.0, float(n)) for n in plane.shape), EDGE)
    result: npt.NDArray[np.uint8] = np.clip(small.round(), 0, 255).astype(np.uint8)
    return result


def _slice_codes(parts: Sequence[npt.NDArray[Any]], limits: tuple[float, float], recipe: Recipe) -> npt.NDArray[Any]:
    return np.array([difference_hash(as_8_bit(plane)) for plane in parts], dtype=np.uint64)[:, None]


def _slice_pictures(parts: Sequence[npt.NDArray[Any]], limits: tuple[float, float], recipe: Recipe) -> npt.NDArray[Any]:
    return np.stack([_grey(plane, limits, recipe.stretch) for plane in parts])[:, None]


def _slice_vectors(parts: Sequence[npt.NDArray[Any]], limits: tuple[float, float], recipe: Recipe) -> npt.NDArray[Any]:
    pictures = _slice_pictures(parts, limits, recipe)[:, 0]
    return embed_pictures(pictures, recipe.network) if recipe.network else _frequencies(pictures)


def _scan_pictures(parts: Sequence[npt.NDArray[Any]], limits: tuple[float, float], recipe: Recipe) -> npt.NDArray[Any]:
    """Return the three middle planes of each; the axial one three times of stacks of few slices."""
    result = []
    for part in parts:
        axes = (0, 1, 2) if min(part.shape) >= hashes.SIDE else (0, 0, 0)
        planes = [np.take(part, part.shape[axis] // 2, axis=axis) for axis in axes]
        result.append(np.stack([_grey(plane, limits, recipe.stretch) for plane in planes]))
    return np.stack(result)


def _block_codes(parts: Sequence[npt.NDArray[Any]], limits: tuple[float, float], recipe: Recipe) -> npt.NDArray[Any]:
    return hashes.bits(_coefficients(parts, limits))


def _block_vectors(parts: Sequence[npt.NDArray[Any]], limits: tuple[float, float], recipe: Recipe) -> npt.NDArray[Any]:
    if not recipe.network:
        return _coefficients(parts, limits).reshape(len(parts), -1).astype(np.float32)
    planes = _scan_pictures(parts, limits, recipe)
    vectors = embed_pictures(planes.reshape(-1, EDGE, EDGE), recipe.network)
    mean: npt.NDArray[Any] = vectors.reshape(len(parts), 3, -1).mean(axis=1)
    return mean


def _coefficients(parts: Sequence[npt.NDArray[Any]], limits: tuple[float, float]) -> npt.NDArray[np.float16]:
    low, high = limits
    small = []
    for part in parts:
        clipped = np.clip(part.astype(np.float32), low, high)
        small.append(grids.in_box(clipped, tuple((0.0, float(n)) for n in part.shape), _LOW))
    return np.stack([hashes.coefficients(cube) for cube in small])


def _frequencies(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the lowest 8 x 8 frequencies of each picture but the mean, 63 numbers."""
    from scipy.fft import dctn

    low = dctn(pictures.astype(np.float64), type=2, norm="ortho", axes=(1, 2))[:, : hashes.SIDE, : hashes.SIDE]
    result: npt.NDArray[np.float32] = low.reshape(len(pictures), -1)[:, 1:].astype(np.float32)
    return result


_TABLES: dict[tuple[str, str], Callable[..., npt.NDArray[Any]]] = {
    ("slice", "codes"): _slice_codes,
    ("slice", "pictures"): _slice_pictures,
    ("slice", "vectors"): _slice_vectors,
    ("scan", "codes"): _block_codes,
    ("scan", "pictures"): _scan_pictures,
    ("scan", "vectors"): _block_vectors,
    ("block", "codes"): _block_codes,
    ("block", "pictures"): _scan_pictures,
    ("block", "vectors"): _block_vectors,
}


def _version_of(target: Target) -> str:
    try:
        state = size_and_time(target.files)
    except OSError:
        state = (0, 0)
    return hashlib.sha256(f"{target.id}\0{target.path}\0{state}".encode()).hexdigest()[:32]


def _load(file: Path) -> Descriptor | None:
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            z, y, x = (int(n) for n in arrays["shape"])
            return Descriptor((z, y, x), arrays["table"], arrays["starts"], arrays["stops"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # cut short: it is made again
