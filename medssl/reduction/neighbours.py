"""Which codes lie near each other: exact search block by block, and multi-index hashing beyond what that can do.

Pairs are told once, the smaller place first, sorted; a search returns the same arrays whatever its block size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError

__all__ = ["Pairs", "cosine_pairs", "distinct", "hamming_pairs", "joined", "multi_index_pairs", "planted_recall"]

Codes = npt.NDArray[np.uint64]
Vectors = npt.NDArray[np.floating]
_BLOCK_BYTES = 32 << 20  # of intermediate results: small enough to stay near the processor
_ONE = np.uint64(1)


@dataclass(frozen=True)
class Pairs:
    """Pairs of places within a radius.

    Attributes:
        first: int64 (n,).
        second: int64 (n,), larger than ``first`` where both are places in one set.
        distance: (n,), differing bits, or 1 - cosine.
        capped: Buckets of codes that were too full to be searched whole; 0 where nothing was left out for it.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    capped: int = 0

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)

    def as_set(self) -> set[tuple[int, int]]:
        """Return the pairs without distances."""
        return set(zip(self.first.tolist(), self.second.tolist(), strict=True))


def hamming_pairs(codes: Codes, radius: int, *, others: Codes | None = None) -> Pairs:
    """Return every pair of codes that differ in at most ``radius`` bits. Exact; time grows with the square.

    Args:
        codes: uint64 (n, words), packed bits.
        radius: Differing bits, inclusive.
        others: uint64 (m, words). Pairs of a code (first) and one of these (second); without them, pairs among the
            codes themselves.

    Raises:
        ConfigError: The codes have different lengths or are no packed codes.
    """
    codes = _checked(codes)
    against = codes if others is None else _checked(others, words=codes.shape[1])
    rows = max(1, _BLOCK_BYTES // (8 * 3 * max(1, len(against))))
    columns = np.ascontiguousarray(against.T)  # word by word, so that each pass runs through memory in order
    half = -(-len(columns) // 2)

    def blocks() -> Iterator[_Found]:
        for start in range(0, len(codes), rows):
            block = codes[start : start + rows]
            from_column = 0 if others is not None else start
            # Codes that differ too much in the first half of their words need no look at the other half.
            apart = np.zeros((len(block), len(against) - from_column), dtype=np.uint16)
            for word in range(half):
                apart += np.bitwise_count(block[:, word, None] ^ columns[word][None, from_column:])
            near, far = np.nonzero(apart <= radius)
            total = apart[near, far]
            for word in range(half, len(columns)):
                total += np.bitwise_count(block[near, word] ^ columns[word][far + from_column])
            kept = total <= radius
            yield near[kept] + start, far[kept] + from_column, total[kept].astype(np.float64)

    return _collected(blocks(), among=others is None)


def cosine_pairs(vectors: Vectors, radius: float, *, others: Vectors | None = None) -> Pairs:
    """Return every pair of vectors with 1 - cosine of at most ``radius``. Exact; time grows with the square.

    Args:
        vectors: (n, d); their length does not matter. A vector of zeros is near nothing.
        radius: 1 - cosine, inclusive, 0 to 2.
        others: (m, d), as in `hamming_pairs`.

    Raises:
        ConfigError: The vectors are not finite, or have different lengths.
    """
    units = unit_vectors(vectors)
    against = units if others is None else unit_vectors(others)
    if against.shape[1] != units.shape[1]:
        raise ConfigError(f"Embeddings of {units.shape[1]} and of {against.shape[1]} numbers cannot be compared.")
    present: npt.NDArray[np.bool_] = np.asarray(against.any(axis=1))
    rows = max(1, _BLOCK_BYTES // (4 * max(1, len(against))))

    def blocks() -> Iterator[_Found]:
        for start in range(0, len(units), rows):
            from_column = 0 if others is not None else start
            block = units[start : start + rows]
            rough = 1.0 - block @ against[from_column:].T
            near, far = np.nonzero(
                (rough <= radius + 1e-5) & present[from_column:] & np.any(block, axis=1, keepdims=True)
            )
            # Pair by pair in float64: the product of a whole block rounds by how it was cut into blocks.
            exact = _cosine_distance(block[near], against[far + from_column])
            kept = exact <= radius
            yield near[kept] + start, far[kept] + from_column, exact[kept]

    return _collected(blocks(), among=others is None)


def unit_vectors(vectors: Vectors) -> npt.NDArray[np.float32]:
    """Return the vectors with length 1, float32; zeros stay zeros.

    Raises:
        ConfigError: They are no table of finite numbers.
    """
    table = np.asarray(vectors, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ConfigError(f"Embeddings are a table (scans, numbers) without NaN or infinity. Got shape {table.shape}.")
    length = np.linalg.norm(table, axis=1, keepdims=True)
    result: npt.NDArray[np.float32] = (table / np.where(length > 0, length, 1.0)).astype(np.float32)
    return result


def multi_index_pairs(
    codes: Codes,
    radius: int,
    *,
    others: Codes | None = None,
    bands: int = 0,
    seed: int = 0,
    cap: int = 1000,
    block: int = 1 << 20,
) -> Pairs:
    """Return pairs of codes that differ in at most ``radius`` bits and agree in all bits of at least one band.

    The bits are dealt to bands at random. Two codes that differ in fewer bits than there are bands agree in one for
    certain (pigeonhole), so with ``bands > radius`` nothing is missed; with fewer, and therefore longer bands, search
    is quicker and recall is less than 1: measure it with `planted_recall`. Memory is that of the codes, of one band's
    order and of one block of candidates.

    Source: M. Norouzi, A. Punjani, D. Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012.

    Args:
        codes: uint64 (n, words).
        radius: Differing bits, inclusive.
        others: uint64 (m, words), as in `hamming_pairs`.
        bands: Bands; 0 takes as many as make a band about as long as log2 of the number of codes less 2, so that a band
            of evenly spread codes puts about four into a bucket.
        seed: Seed of the dealing.
        cap: Codes of one bucket that are compared with each other in full. Of a fuller bucket each code is compared
            with the next ``cap`` in order of the whole code, and the bucket is counted in ``capped``.
        block: Candidates that are checked at a time.
    """
    codes = _checked(codes)
    against = codes if others is None else _checked(others, words=codes.shape[1])
    if min(len(codes), len(against)) < (2 if others is None else 1):
        return _collected(iter(()), among=True)
    both = codes if others is None else np.concatenate([codes, others])
    useful = np.array([bit for bit in range(codes.shape[1] * 64) if _varies(both, bit)], dtype=np.int64)
    bands = bands or max(1, len(useful) // max(1, math.ceil(math.log2(max(2, len(against)))) - 2))
    # Where there are more bands than bits that vary, empty ones put all codes into one bucket, as they should.
    dealt = np.array_split(np.random.default_rng(seed).permutation(useful), bands)
    capped = 0
    found: list[npt.NDArray[np.int64]] = []
    for band in dealt:
        left = _bucketed(codes, band, cap)
        right = left if others is None else _bucketed(against, band, cap)
        pairs, too_full = _bucket_pairs(left, right, radius, cap, block)
        capped += too_full
        found.append(pairs)
        if len(found) > 8:
            found = [distinct(np.concatenate(found))]
    places = distinct(np.concatenate(found))
    first, second = places // len(against), places % len(against)
    distance = np.bitwise_count(codes[first] ^ against[second]).sum(axis=1).astype(np.float64)
    return Pairs(first, second, distance, capped)


def planted_recall(
    codes: Codes, radius: int, *, search: Callable[[Codes], Pairs], planted: int = 1000, seed: int = 0, bits: int = 511
) -> float:
    """Return which share of planted pairs a search finds: copies of codes with up to ``radius`` bits changed.

    Numbers of changed bits are drawn evenly from 0 to the radius, so the share is not flattered by easy pairs alone.

    Args:
        codes: uint64 (n, words), real ones, so that buckets are as skewed as they are.
        radius: As in the search.
        search: Takes codes and returns pairs, such as ``lambda c: multi_index_pairs(c, 40)``.
        planted: Copies; at most as many as there are codes.
        seed: Seed.
        bits: Bits of a code that may change.
    """
    codes = _checked(codes)
    planted = min(planted, len(codes))
    if not planted:
        return 1.0
    generator = np.random.default_rng(seed)
    sources = generator.choice(len(codes), planted, replace=False)
    copies = codes[sources].copy()
    for row in copies:
        for bit in generator.choice(bits, generator.integers(0, radius + 1), replace=False):
            row[bit // 64] ^= _ONE << np.uint64(bit % 64)
    found = search(np.concatenate([codes, copies])).as_set()
    return sum((int(source), len(codes) + k) in found for k, source in enumerate(sources)) / planted


def joined(ends: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return the number of the group of each scan that pairs join, int64 (count,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(count, count))
    found: npt.NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return found


_Found = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def _checked(codes: Codes, words: int | None = None) -> Codes:
    if codes.ndim != 2 or codes.dtype != np.uint64 or (words is not None and codes.shape[1] != words):
        raise ConfigError(
            f"Packed codes are uint64 (n, {words or 'words'}). Got {codes.dtype} {codes.shape}; see hashes.bits."
        )
    return codes


def _collected(blocks: Iterator[_Found], *, among: bool) -> Pairs:
    firsts, seconds, distances = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for first, second, distance in blocks:
        kept = first < second if among else np.ones(len(first), dtype=bool)
        firsts.append(first[kept].astype(np.int64))
        seconds.append(second[kept].astype(np.int64))
        distances.append(distance[kept])
    return Pairs(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(distances))


def _cosine_distance(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    # 1 - cosine by the length of the difference, which is exactly 0 for equal vectors.
    difference = first.astype(np.float64) - second.astype(np.float64)
    result: npt.NDArray[np.float64] = (difference * difference).sum(axis=1) / 2
    return result


def distinct(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the numbers sorted, each once. Several times as quick as `numpy.unique`, which hashes them first."""
    ordered = np.sort(numbers)
    result: npt.NDArray[np.int64] = ordered[np.concatenate([ordered[:1] == ordered[:1], ordered[1:] != ordered[:-1]])]
    return result


def _varies(codes: Codes, bit: int) -> bool:
    column = (codes[:, bit // 64] >> np.uint64(bit % 64)) & _ONE
    return bool(column.any()) and not bool(column.all())


def _band_key(codes: Codes, band: npt.NDArray[np.int64]) -> Codes:
    """Return the bits of a band as one number; of a band of more than 64 bits, a mixture of them."""
    key = np.zeros(len(codes), dtype=np.uint64)
    for bit in band.tolist():
        key = ((key << _ONE) | (key >> np.uint64(63))) ^ ((codes[:, bit // 64] >> np.uint64(bit % 64)) & _ONE)
    return key


@dataclass(frozen=True)
class _Bucketed:
    """Codes sorted by their bits in a band, those of a crowded bucket by the whole code too."""

    codes: Codes
    key: Codes
    order: npt.NDArray[np.intp]


def _bucketed(codes: Codes, band: npt.NDArray[np.int64], cap: int) -> _Bucketed:
    key = _band_key(codes, band)
    crowded = bool(np.unique(key, return_counts=True)[1].max() > cap)
    order = np.lexsort((*codes.T[::-1], key)) if crowded else np.argsort(key, kind="stable")
    return _Bucketed(codes, key[order], order)


def _bucket_pairs(
    one: _Bucketed, two: _Bucketed, radius: int, cap: int, block: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Return pairs of one band as first * n + second, and how many buckets were too full."""
    begins, reach, too_full = _among(one.key, cap) if one is two else _between(one.key, two.key, cap)
    kept: list[npt.NDArray[np.int64]] = []
    begin, ends = 0, np.cumsum(reach)
    while begin < len(reach):
        base = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, base + block, side="right")))
        here = reach[begin:stop]
        total = int(here.sum())
        if total:
            left = np.repeat(np.arange(begin, stop), here)
            right = np.repeat(begins[begin:stop], here) + np.arange(total) - np.repeat(np.cumsum(here) - here, here)
            a, b = one.order[left], two.order[right]
            apart = np.zeros(total, dtype=np.uint16)
            for word in range(one.codes.shape[1]):
                apart += np.bitwise_count(one.codes[:, word][a] ^ two.codes[:, word][b])
            near = apart <= radius
            a, b = a[near], b[near]
            if one is two:
                a, b = np.minimum(a, b), np.maximum(a, b)
            kept.append(distinct(a * len(two.order) + b))
        begin = stop
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64), too_full


_Ranges = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], int]


def _among(key: Codes, cap: int) -> _Ranges:
    """Return from which sorted place on, and for how many, each code is compared, and the buckets cut short by it."""
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    sizes = np.diff(np.append(starts, len(key)))
    last = np.repeat(starts + sizes - 1, sizes)  # the end of the bucket that each sorted place is in
    return np.arange(1, len(key) + 1), np.minimum(last - np.arange(len(key)), cap), int((sizes - 1 > cap).sum())


def _between(one: Codes, two: Codes, cap: int) -> _Ranges:
    """Return the same of codes that are compared with others; of a full bucket, with those at the same share of it."""
    starts, stops = np.searchsorted(two, one, side="left"), np.searchsorted(two, one, side="right")
    mine = np.searchsorted(one, one, side="left")
    share = (np.arange(len(one)) - mine) / (np.searchsorted(one, one, side="right") - mine)
    middle = (starts + share * (stops - starts)).astype(np.intp) - cap // 2
    begins = np.maximum(starts, np.minimum(middle, stops - cap))
    full = np.unique(one[stops - starts > cap])
    return begins, np.minimum(stops - begins, cap), len(full)
