"""Searching 10^4 to 10^6 codes for near pairs: time, memory, recall on planted pairs, and how they grow.

Codes have 512 bits. Half of the set is random; the other half lies in clumps of ten around common centres, 25 % of the
bits apart from them, as scans of one protocol do. Copies of a thousand codes with 0 to 40 changed bits are planted.

    python benchmarks/reduction_search.py            # up to 10^6; faiss beside it where it is installed
    python benchmarks/reduction_search.py --most 100000
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import subprocess
import sys
import time

import numpy as np
import numpy.typing as npt

from medssl.reduction.neighbours import multi_index_pairs

RADIUS = 40
PLANTED = 1000
WORDS = 8
Codes = npt.NDArray[np.uint64]


def made(count: int, seed: int) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Return codes, the planted copies last, and for each copy the place of what it copies."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 2**64, (count - PLANTED, WORDS), dtype=np.uint64)
    clumped = (count - PLANTED) // 2 // 10 * 10
    # And of two random words has a quarter of its bits set.
    change = generator.integers(0, 2**64, (clumped, WORDS), dtype=np.uint64)
    change &= generator.integers(0, 2**64, (clumped, WORDS), dtype=np.uint64)
    codes[:clumped] = np.repeat(codes[: clumped // 10], 10, axis=0) ^ change
    sources = generator.choice(count - PLANTED, PLANTED, replace=False)
    copies = codes[sources].copy()
    for row in copies:
        for bit in generator.choice(WORDS * 64, generator.integers(0, RADIUS + 1), replace=False):
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return np.concatenate([codes, copies]), sources


def one(way: str, count: int, seed: int) -> None:
    """Search once and print a row. It runs in a process of its own, so that peak memory is its own."""
    codes, sources = made(count, seed)
    before = _peak_mb()
    wall, processor = time.perf_counter(), time.process_time()
    found = multi_index_pairs(codes, RADIUS).as_set() if way == "medssl" else _faiss_pairs(codes)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    planted = zip(sources.tolist(), range(count - PLANTED, count), strict=True)
    recall = sum(pair in found for pair in planted) / PLANTED
    print(f"{way} {count} {seed} {wall:.2f} {processor:.2f} {_peak_mb():.0f} {before:.0f} {recall:.4f} {len(found)}")


def _faiss_pairs(codes: Codes) -> set[tuple[int, int]]:
    """Search with IndexBinaryMultiHash, 32 tables of 16 bits, one thread: the settings that find these."""
    import faiss

    faiss.omp_set_num_threads(1)
    packed = codes.view(np.uint8)
    index = faiss.IndexBinaryMultiHash(WORDS * 64, 32, 16)
    index.add(packed)
    limits, _, places = index.range_search(packed, RADIUS + 1)
    first = np.repeat(np.arange(len(codes)), np.diff(limits.astype(np.int64)))
    kept = first < places
    return set(zip(first[kept].tolist(), places[kept].tolist(), strict=True))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run each size in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1_000_000, help="codes of the largest set (default 1000000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "COUNT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one[0], int(chosen.one[1]), chosen.seed)
        return
    ways = ["medssl"]
    try:
        import faiss  # noqa: F401
    except ImportError:
        print("faiss is not installed, so it is left out: pip install faiss-cpu\n")
    else:
        ways.append("faiss")
    print(f"512 bits, radius {RADIUS}, {PLANTED} planted pairs, seed {chosen.seed}\n")
    print("| way | codes | wall, s | processor, s | peak memory, MB | of it before the search, MB | recall | pairs |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for way in ways:
        spent: list[tuple[int, float]] = []
        for count in (10_000, 100_000, 1_000_000):
            if count > chosen.most:
                continue
            command = [sys.executable, __file__, "--one", way, str(count), "--seed", str(chosen.seed)]
            row = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            spent.append((count, float(row[4])))
            print(f"| {way} | {count:,} | {' | '.join((*row[3:8], row[8]))} |", flush=True)
        for (few, short), (many, long) in itertools.pairwise(spent):
            print(
                f"\n{way}: processor time grows from {few:,} to {many:,} codes with the power "
                f"{math.log(long / short) / math.log(many / few):.2f} of their number.",
                end="",
            )
        print("\n")


if __name__ == "__main__":
    main()
