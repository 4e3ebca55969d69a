"""One scan against stored fingerprints: its copies, and what comes nearest, without comparing the stored ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from medssl.errors import MedSSLError
from medssl.formats.scan import Scan
from medssl.pool import isolated
from medssl.reduction import hashes
from medssl.reduction.candidates import RADIUS, Candidate, candidates
from medssl.reduction.fingerprint import Fingerprint, Target, read_target
from medssl.reduction.index import Index
from medssl.reduction.neighbours import hamming_pairs
from medssl.reduction.verify import Level, Verdict, verify

__all__ = ["Answer", "Stored", "ask", "nearest_first"]

_PARTS = ("slices", "point_codes")
_PART_RADIUS = 8  # differing bits of 63 up to which two slices or points may be of one place
_LEAST_PARTS = 2
_NEAREST = 5
_MOST = 300  # scans that are compared in full: the nearest ones where more may be
_QUERY = ""  # an id that no scan of a manifest has


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One stored scan and what the asked one is to it.

    Attributes:
        id: The stored scan.
        distance: Share of differing bits of the nearest hash, 0 to 1.
        how: Which hash; "nearest" for what only comes nearest and was not looked at.
        verdict: What looking came to; None where it was not looked at.
    """

    id: str
    distance: float
    how: str
    verdict: Verdict | None


class Stored:
    """Stored fingerprints with their hashes, to be asked many times."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.codes = {which: index.codes(which) for which in ("field", "box")}
        self.parts = {}
        for which in _PARTS:
            each = [getattr(one, which) for one in index.fingerprints]
            codes = np.concatenate([np.zeros(0, np.uint64), *each])
            scan = np.repeat(np.arange(len(index)), [len(one) for one in each])
            self.parts[which] = codes[codes != 0], scan[codes != 0]

    def near(self, one: Fingerprint, *, radius: int = RADIUS, turned: bool = True) -> Index:
        """Return the stored scans that may be copies of a scan: equal, within the radius, or alike in parts."""
        chosen = np.zeros(len(self.index), dtype=bool)
        distance = np.full(len(self.index), np.inf)
        for place, other in enumerate(self.index.fingerprints):
            chosen[place] = other.file_hash == one.file_hash or other.content_hash == one.content_hash
            distance[place] = 0.0 if chosen[place] else np.inf
        for which, codes in self.codes.items():
            asked = _codes_of(one, which, turned=turned)
            if asked.any() and len(codes):
                found = hamming_pairs(asked, radius, others=codes)
                np.minimum.at(distance, found.second, found.distance)
        for which, (codes, scan) in self.parts.items():
            asked = getattr(one, which)
            asked = asked[asked != 0]
            if not len(asked) or not len(codes):
                continue
            found = hamming_pairs(asked[:, None], _PART_RADIUS, others=codes[:, None])
            votes = np.bincount(scan[found.second], minlength=len(self.index))
            several = votes >= _LEAST_PARTS
            distance[several] = np.minimum(distance[several], hashes.BITS - np.minimum(votes[several], hashes.BITS))
        places = np.flatnonzero(np.isfinite(distance))
        places = np.sort(places[np.argsort(distance[places], kind="stable")[:_MOST]])
        return Index(tuple(self.index.fingerprints[place] for place in places))

    def nearest(self, one: Fingerprint, count: int = _NEAREST) -> list[tuple[str, float]]:
        """Return (id, share of differing bits) of the stored scans whose hashes come nearest, nearest first."""
        best = np.full(len(self.index), np.inf)
        for which, codes in self.codes.items():
            asked = _codes_of(one, which, turned=False)[0]
            present = codes.any(axis=1)
            apart = np.bitwise_count(codes ^ asked[None]).sum(axis=1) / hashes.BITS
            best = np.minimum(best, np.where(present & bool(asked.any()), apart, np.inf))
        order = [int(place) for place in np.argsort(best, kind="stable")[:count] if np.isfinite(best[place])]
        return [(self.index.ids[place], float(best[place])) for place in order]


def ask(
    stored: Stored,
    one: Fingerprint,
    scan: Scan,
    targets: Mapping[str, Target],
    *,
    radius: int = RADIUS,
    turned: bool = True,
    nearest: int = _NEAREST,
) -> list[Answer]:
    """Return what a scan is to stored ones: copies first, then related ones, then what only comes nearest.

    Args:
        stored: What to search.
        one: The scan's fingerprint.
        scan: The scan.
        targets: id -> where a stored scan lies; one that no longer exists is judged by its hashes alone.
        radius: Differing bits of 511 up to which a stored scan is looked at.
        turned: Look for flipped, swapped and negated copies as well.
        nearest: How many to name that are no copies.
    """
    asked = replace(one, id=_QUERY)
    near = stored.near(one, radius=radius, turned=turned)
    pool = Index((asked, *near.fingerprints))
    answers: dict[str, Answer] = {}
    for proposed in candidates(pool, radius=radius, turned=turned):
        if proposed.first == 0:
            other = pool.fingerprints[proposed.second]
            verdict = _judged(asked, scan, other, targets.get(other.id), proposed)
            answers[other.id] = Answer(id=other.id, distance=proposed.distance, how=proposed.how, verdict=verdict)
    for name, distance in stored.nearest(one, nearest):
        answers.setdefault(name, Answer(id=name, distance=distance, how="nearest", verdict=None))
    return nearest_first(answers.values())


def nearest_first(answers: Iterable[Answer]) -> list[Answer]:
    """Return answers by level, then by score, then by the distance of the hashes."""
    return sorted(answers, key=_order)


def _judged(one: Fingerprint, scan: Scan, other: Fingerprint, target: Target | None, proposed: Candidate) -> Verdict:
    scans = None
    equal = one.file_hash == other.file_hash or one.content_hash == other.content_hash
    if not equal and target is not None:
        try:
            scans = (scan, isolated(read_target, target))
        except (MedSSLError, OSError):
            scans = None
    return verify(one, other, scans, variant=proposed.variant)


def _codes_of(one: Fingerprint, which: str, *, turned: bool) -> hashes.Code:
    stored = getattr(one, which)
    variants = hashes.all_variants() if turned else hashes.all_variants()[:1]
    if not stored.any():
        return np.zeros((len(variants), hashes.WORDS), dtype=np.uint64)
    return hashes.bits(np.stack([hashes.turned(stored, variant) for variant in variants]))


def _order(answer: Answer) -> tuple[int, float, float, str]:
    if answer.verdict is None:
        return len(Level), 0.0, answer.distance, answer.id
    level, score = answer.verdict.level, answer.verdict.agreement.score
    return list(Level).index(level), -score, answer.distance, answer.id
