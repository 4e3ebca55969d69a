"""How often scans that share nothing are called copies or related, by kind and size: a generated benchmark.

Bodies are ellipsoids of their own size, place and texture in air at -1000 HU, 2 mm a voxel; "alike" ones share a fifth
of the variance of their texture, "smooth" ones have a coarse texture, which tells least. Noise has no body at all. Each
kind goes through the real fingerprints and the real search; every proposed pair is looked at, as it lies and turned.
With --all, so many pairs that nothing proposed are looked at as well, as they lie and mirrored. Real strangers are
pairs of two patients of `MEDSSL_DATA`.

    python benchmarks/reduction_strangers.py --sizes 16 24 32 48 --count 40
    MEDSSL_DATA=/data python benchmarks/reduction_strangers.py --sizes --real 30
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from reduction_scans import ONE_BODY, originals
from scipy.ndimage import gaussian_filter

from medssl.formats.scan import Scan, ScanHeader
from medssl.reduction.candidates import candidates
from medssl.reduction.fingerprint import Target, fingerprint_of, read_target
from medssl.reduction.hashes import Variant
from medssl.reduction.index import Index
from medssl.reduction.verify import Level, verify

Array = npt.NDArray[np.int16]
Generator = np.random.Generator
MIRRORED = Variant(order=(0, 1, 2), flips=(False, False, True), negated=False)
MM = 2.0


def texture(size: int, sigma: float, generator: Generator) -> npt.NDArray[np.float64]:
    """Return a smoothed field of noise, (size,) * 3, with the standard deviation 1."""
    field = gaussian_filter(generator.normal(size=(size,) * 3), sigma)
    return np.asarray(field / field.std())


def body(size: int, generator: Generator, *, sigma: float, common: float) -> Array:
    """Return an ellipsoid in air, in HU; ``common`` is the share of its texture's variance that all bodies have."""
    centre = size / 2 + generator.uniform(-0.08, 0.08, 3) * size
    radii = generator.uniform(0.25, 0.42, 3) * size
    places = np.stack(np.meshgrid(*[np.arange(size) + 0.5] * 3, indexing="ij"), axis=-1)
    cover = np.clip((1 - np.sqrt((((places - centre) / radii) ** 2).sum(axis=-1))) * radii.mean() + 0.5, 0, 1)
    own = texture(size, sigma, generator)
    if common:
        own = np.sqrt(common) * texture(size, sigma, np.random.default_rng(99)) + np.sqrt(1 - common) * own
    made = -1000 + cover * (1040 + 60 * own) + 10 * generator.normal(size=own.shape)
    return np.asarray(np.rint(made), dtype=np.int16)


KINDS: dict[str, Callable[[int, Generator], Array]] = {
    "bodies": lambda size, generator: body(size, generator, sigma=1.5, common=0.0),
    "bodies, fine texture": lambda size, generator: body(size, generator, sigma=0.6, common=0.0),
    "bodies, smooth texture": lambda size, generator: body(size, generator, sigma=3.0, common=0.0),
    "bodies, alike by a fifth": lambda size, generator: body(size, generator, sigma=1.5, common=0.2),
    "noise": lambda size, generator: np.rint(100 * generator.normal(size=(size,) * 3)).astype(np.int16),
}


def scan_of(values: Array) -> Scan:
    """Return a scan in HU."""
    path = Path("made.nii.gz")
    affine = np.diag([MM, MM, MM, 1.0])
    header = ScanHeader(
        path=path, paths=(path,), format="nifti", shape=values.shape, affine=affine, dtype="int16", units="HU"
    )
    return Scan(header=header, values=values)


def tell(name: str, scans: Sequence[Scan], owners: Sequence[str], more: int) -> None:
    """Search, look at what is proposed and at ``more`` other pairs, and print a row."""
    begin = time.process_time()
    prints = [
        fingerprint_of(scan, id=f"{n:05d}", size_bytes=1, mtime_ns=1, file_hash=str(n)) for n, scan in enumerate(scans)
    ]
    proposed = [(one.first, one.second, one.variant) for one in candidates(Index(tuple(prints)))]
    proposed = [one for one in proposed if owners[one[0]] != owners[one[1]]]
    known = {one[:2] for one in proposed}
    counts, scores = Counter[Level](), []
    for looked in (proposed, list(itertools.islice(_others(len(scans), known, owners), more))):
        for first, second, variant in looked:
            verdict = verify(prints[first], prints[second], (scans[first], scans[second]), variant=variant)
            counts[verdict.level] += 1
            scores.append((verdict.agreement.score, verdict.agreement.evidence))
    pairs = sum(owners[a] != owners[b] for a, b in itertools.combinations(range(len(scans)), 2))
    false = sum(number for level, number in counts.items() if level.is_copy)
    best = max(scores, default=(0.0, 0.0))
    print(
        f"| {name} | {len(scans)} | {pairs:,} | {len(proposed):,} | {len(scores):,} | {false} | "
        f"{_bound(false, pairs):.1e} | {counts[Level.RELATED]} | {best[0]:.2f} | {best[1]:.1f} | "
        f"{time.process_time() - begin:.0f} |",
        flush=True,
    )


def _others(count: int, known: set[tuple[int, int]], owners: Sequence[str]) -> Iterator[tuple[int, int, Variant]]:
    """Yield pairs that nothing proposed, in an order that is drawn, as they lie and mirrored in turn."""
    pairs = [pair for pair in itertools.combinations(range(count), 2) if pair not in known]
    for number, place in enumerate(np.random.default_rng(0).permutation(len(pairs))):
        first, second = pairs[place]
        if owners[first] != owners[second]:
            yield first, second, MIRRORED if number % 2 else Variant()


def _bound(false: int, pairs: int) -> float:
    """Return the upper end of the exact 95 % interval of a rate, one-sided, were pairs independent."""
    from scipy.stats import beta

    return float(beta.ppf(0.95, false + 1, max(1, pairs - false)))


def main() -> None:
    """Print a row for each kind and size, then for each kind of real scans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=int, default=[16, 24, 32, 48, 96], help="voxels along each axis")
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS), help="of made scans")
    parser.add_argument("--count", type=int, default=40, help="made scans of each kind and size (default 40)")
    parser.add_argument("--all", type=int, default=0, metavar="N", help="look at so many pairs besides")
    parser.add_argument("--real", type=int, default=0, metavar="N", help="real scans of each kind, at most")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    heads = "kind", "scans", "pairs", "proposed", "looked at", "copies", "rate at most", "related", "best score"
    print(f"| {' | '.join(heads)} | its evidence | s |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for size in chosen.sizes:
        for name in chosen.kinds:
            make = KINDS[name]
            generator = np.random.default_rng([chosen.seed, size])
            scans = [scan_of(make(size, generator)) for _ in range(chosen.count)]
            tell(f"{name}, {size}^3", scans, [str(n) for n in range(len(scans))], chosen.all)
    root = os.environ.get("MEDSSL_DATA")
    if not root or not chosen.real:
        return
    one_body = {name: pair[0] for pair in ONE_BODY for name in pair}
    with tempfile.TemporaryDirectory() as scratch:
        found = originals(Path(root), Path(scratch), 0)
        for kind in sorted({one.kind for one in found}):
            of = [one for one in found if one.kind == kind]
            order = np.random.default_rng(chosen.seed).permutation(len(of))[: chosen.real]
            taken = [of[place] for place in sorted(order.tolist())]
            paths = [tuple(map(str, sorted(one.path.glob("*.dcm")))) if one.path.is_dir() else () for one in taken]
            scans = [
                read_target(Target(id=one.id, path=str(one.path), paths=names))
                for one, names in zip(taken, paths, strict=True)
            ]
            tell(f"real, {kind}", scans, [one_body.get(one.patient, one.patient) for one in taken], chosen.all)


if __name__ == "__main__":
    main()
