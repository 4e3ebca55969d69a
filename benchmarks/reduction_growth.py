"""How the cost of ``medssl reduce`` grows with the number of scans: time, pairs, memory, and the power of each.

Real scans come first: brains, hippocampi, hearts (two frames each), CT crops. Where they run out, more are made of them
and are said to be: two scans of the kind, the one running into the other at a random border, bent by a smooth random
field of some voxels. A tenth of all scans are altered copies (noise, 8 bits, a smaller grid, cut on all sides). Bodies
are made up: ellipsoids with texture of their own in air, of one outline or of many. Each size runs the whole verb on a
manifest, in a process of its own with one worker: fingerprints, search, comparison, planted copies, page.

    MEDSSL_DATA=/data python benchmarks/reduction_growth.py --kinds brains --sizes 100 200 400 800
    python benchmarks/reduction_growth.py --kinds bodies outline --sizes 100 1000 10000
    MEDSSL_DATA=/data python benchmarks/reduction_growth.py --proposals --sizes 100 1000   # search alone
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from processor_time import processor_seconds
from scipy import ndimage

from medssl.formats.nifti import write_nifti
from medssl.formats.reading import read
from medssl.formats.scan import Scan, ScanHeader
from medssl.reduction.fingerprint import Fingerprint, fingerprint_of
from medssl.reduction.index import Index
from medssl.reduction.planted import altered

SEED = 0
REAL = {
    "brains": "lgg_flair/images/*.nii.gz",
    "hippocampi": "hippocampus/imagesTr/hippocampus_*.nii.gz",
    "hearts": "acdc/patient*/*_frame??.nii.gz",
    "ct": "ct/*.nii.gz",
}
MADE_UP = ("bodies", "outline")
ALTERED = ("with noise", "in 8 bits", "resampled", "cut")
COPY_OF = 10  # every tenth scan is an altered copy of the one before it
CT_CROP = 64  # voxels
TARGET = 1.2

Values = npt.NDArray[Any]
Made = tuple[Values, npt.NDArray[np.float64], str]


def body(number: int, *, outline: bool) -> Made:
    """Return an ellipsoid in air, 40^3 at 3 mm: its texture is its own, its outline that of all if asked for."""
    generator = np.random.default_rng([SEED, number])
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    radii = np.array([0.85, 0.7, 0.6]) if outline else generator.uniform(0.45, 0.9, 3)
    middle = np.zeros(3) if outline else generator.uniform(-0.1, 0.1, 3)
    inside = (((grid - middle[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(axis=0) < 1
    texture = ndimage.gaussian_filter(generator.standard_normal(inside.shape), 1.5)
    values = np.where(inside, 40 + 60 * texture / texture.std(), -1000) + 5 * generator.standard_normal(inside.shape)
    return values.astype(np.int16), np.diag([3.0, 3.0, 3.0, 1.0]), "HU"


def recombined(one: Made, two: Made, generator: np.random.Generator) -> Made:
    """Return two scans that run into each other, bent smoothly by some voxels."""
    values, affine, units = one
    sizes = [a / b for a, b in zip(values.shape, two[0].shape, strict=True)]
    other = ndimage.zoom(two[0].astype(np.float32), sizes, order=1)[tuple(slice(0, n) for n in values.shape)]
    other = np.pad(other, [(0, a - b) for a, b in zip(values.shape, other.shape, strict=True)], mode="edge")

    def smooth() -> Values:
        coarse = generator.standard_normal((3, 4, 4))
        return ndimage.zoom(coarse, [n / m for n, m in zip(values.shape, coarse.shape, strict=True)], order=1)

    share = np.clip(0.5 + smooth(), 0, 1)
    scale = float(values.std()) / max(1e-6, float(other.std()))
    mixed = share * values + (1 - share) * ((other - other.mean()) * scale + values.mean())
    bend = np.array([0.05 * n for n in values.shape])
    places = np.indices(values.shape) + np.stack([smooth() * far for far in bend])
    return ndimage.map_coordinates(mixed.astype(np.float32), places, order=1, mode="nearest"), affine, units


def made(kind: str, number: int, data: Path | None) -> tuple[Made, str]:
    """Return scan ``number`` of a kind, and how it came about: "real", "recombined", "made up" or "altered"."""
    if number % COPY_OF == COPY_OF - 1:
        (values, affine, units), _ = made(kind, number - 1, data)
        way = ALTERED[number // COPY_OF % len(ALTERED)]
        if way == "cut":
            cut = tuple(slice(n // 10, n - n // 10) for n in values.shape)
            return (np.ascontiguousarray(values[cut]), affine, units), "altered"
        header = ScanHeader(
            path=Path(), paths=(), format="nifti", shape=values.shape, affine=affine, dtype=str(values.dtype)
        )
        copy = altered(Scan(header=header, values=values), way)
        return (copy.values, copy.header.affine, "arbitrary"), "altered"
    if kind in MADE_UP:
        return body(number, outline=kind == "outline"), "made up"
    assert data is not None
    paths = sorted(data.glob(REAL[kind]))
    generator = np.random.default_rng([SEED, number])
    first = number - number // COPY_OF  # among those that are no copies
    if first < len(paths) and kind != "ct":
        return _read(paths[first]), "real"
    one, two = (_read(paths[int(place)]) for place in generator.choice(len(paths), 2, replace=False))
    if kind == "ct":
        one, two = _crop(one, generator), _crop(two, generator)
    return recombined(one, two, generator), "recombined"


def _read(path: Path) -> Made:
    scan = read(path)
    return scan.values, scan.header.affine, scan.header.units


def _crop(one: Made, generator: np.random.Generator) -> Made:
    starts = [int(generator.integers(0, max(1, n - CT_CROP + 1))) for n in one[0].shape]
    return one[0][tuple(slice(start, start + CT_CROP) for start in starts)], one[1], one[2]


def printed(kind: str, number: int, data: Path | None) -> tuple[Fingerprint, str]:
    """Return the fingerprint of a scan, which is not written."""
    (values, affine, units), how = made(kind, number, data)
    name = f"scan{number:05d}"
    header = ScanHeader(
        path=Path(name),
        paths=(Path(name),),
        format="nifti",
        shape=values.shape,
        affine=affine,
        dtype=str(values.dtype),
        units=units,  # type: ignore[arg-type]
    )
    one = fingerprint_of(Scan(header=header, values=values), id=name, size_bytes=1, mtime_ns=1, file_hash=name)
    return one, how


def search_alone(kind: str, sizes: list[int], data: Path | None) -> list[dict[str, Any]]:
    """Time the proposals for the first so many scans, each size once."""
    from medssl.reduction.candidates import propose

    prints, ways, rows = [], [], []
    for number in range(max(sizes)):
        one, how = printed(kind, number, data)
        prints.append(one)
        ways.append(how)
    for count in sorted(sizes):
        begin = time.process_time()
        found = propose(Index(tuple(prints[:count])))
        spent = time.process_time() - begin
        rows.append(_row(kind, count, ways, spent, len(found.pairs), found.unlike, found.crowded, _peak_mb()))
        rows[-1]["copies"] = _copies([(prints[p.first].id, prints[p.second].id) for p in found.pairs])
        print(_line(rows[-1]), flush=True)
    return rows


def whole_verb(kind: str, count: int, work: Path, data: Path | None) -> dict[str, Any]:
    """Write the scans and run the verb in a process of its own."""
    folder = work / f"{kind}-{count}"
    folder.mkdir(parents=True)
    ways = []
    for number in range(count):
        (values, affine, _), how = made(kind, number, data)
        write_nifti(folder / f"scan{number:05d}.nii", values, affine)
        ways.append(how)
    command = [sys.executable, __file__, "--one", str(folder)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    one = json.loads(told)
    row = _row(kind, count, ways, one["processor"], one["looked"], one["unlike"], one["crowded"], one["peak_mb"])
    row["copies"] = _copies([(a, b) for a, b in one["same"]])
    print(_line(row), flush=True)
    return row


def _verb(folder: Path) -> None:
    """Index and reduce a folder; print what it cost as JSON. The index is not counted."""
    from medssl.manifest.build import build_manifest
    from medssl.manifest.schema import write_manifest
    from medssl.workflows.reduce import reduce

    manifest, _ = build_manifest(folder, depth="header", workers=1)
    path = folder / "scans.parquet"
    write_manifest(manifest, path)
    begin = processor_seconds()
    with contextlib.redirect_stdout(io.StringIO()):
        result = reduce(path, out=folder / "kept.parquet", workers=1)
    assert result.found is not None
    matches = result.found.matches
    same = [(Path(m.first).stem, Path(m.second).stem) for m in matches if m.verdict.level.is_copy]
    told = {"processor": processor_seconds() - begin, "looked": len(matches), "same": same, "peak_mb": _peak_mb()}
    print(json.dumps(told | {"unlike": result.found.unlike, "crowded": result.found.crowded}))


def _copies(pairs: list[tuple[str, str]]) -> tuple[int, int]:
    """Return how many of the pairs are an altered copy and what it was made of, and how many are not."""
    numbers = [sorted(int(name[4:9]) for name in pair) for pair in pairs]
    right = sum(b == a + 1 and b % COPY_OF == COPY_OF - 1 for a, b in numbers)
    return right, len(pairs) - right


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _row(
    kind: str, count: int, ways: list[str], spent: float, pairs: int, unlike: int, crowded: int, peak: float
) -> dict[str, Any]:
    real = ways[:count].count("real")
    named = {"kind": kind, "scans": count, "real": real, "processor": spent, "pairs": pairs}
    return named | {"unlike": unlike, "crowded": crowded, "peak": peak, "made": ways[:count].count("altered")}


def _line(row: dict[str, Any]) -> str:
    right, others = row["copies"]
    return (
        f"| {row['kind']} | {row['scans']} | {row['real']} | {row['processor']:.1f} | {row['pairs']} | {right} of "
        f"{row['made']} | {others} | {row['unlike']} | {row['crowded']} | {row['peak']:.0f} |"
    )


def _powers(rows: list[dict[str, Any]], what: Callable[[dict[str, Any]], float]) -> list[str]:
    told = []
    for few, many in itertools.pairwise(rows):
        power = math.log(max(1e-9, what(many)) / max(1e-9, what(few))) / math.log(many["scans"] / few["scans"])
        told.append(f"{few['scans']} to {many['scans']}: {power:.2f}")
    return told


def main() -> None:
    """Run each kind at each size and print the table and the powers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", choices=(*REAL, *MADE_UP), default=["bodies"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[100, 200, 400])
    parser.add_argument("--proposals", action="store_true", help="time the search alone, on fingerprints in memory")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        _verb(chosen.one)
        return
    root = os.environ.get("MEDSSL_DATA")
    data = Path(root) if root else None
    if data is None and set(chosen.kinds) & set(REAL):
        parser.error("set MEDSSL_DATA to the folder of real scans, or ask for --kinds bodies outline")
    print("| kind | scans | real | processor, s | pairs | copies among them | others | unlike | crowded | memory, MB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for kind in chosen.kinds:
        with tempfile.TemporaryDirectory() as work:
            sizes = sorted(chosen.sizes)
            if chosen.proposals:
                rows = search_alone(kind, sizes, data)
            else:
                rows = [whole_verb(kind, count, Path(work), data) for count in sizes]
        for what in ("processor", "pairs"):
            print(f"\n{kind}: power of {what}: {', '.join(_powers(rows, lambda row, w=what: row[w]))}")
    print(f"\nThe target is a power of at most {TARGET}.")


if __name__ == "__main__":
    main()
