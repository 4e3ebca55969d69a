"""One cloud against stored prints: its copies, and what comes nearest, without reading the stored clouds again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medssl.reduction import hashes
from medssl.reduction.candidates import Candidate
from medssl.reduction.hashes import Variant
from medssl.reduction.neighbours import hamming_pairs
from medssl.reduction.query import Answer, nearest_first
from pointcloud.reduction.copies import RADIUS
from pointcloud.reduction.prints import CloudPrint, CloudTarget
from pointcloud.reduction.verdict import Points, judge, turns

__all__ = ["ask_cloud"]


def ask_cloud(
    stored: Sequence[CloudPrint],
    targets: Mapping[str, CloudTarget],
    one: CloudPrint,
    target: CloudTarget,
    *,
    radius: int = RADIUS,
    turned: bool = True,
    nearest: int = 5,
) -> list[Answer]:
    """Return what a cloud is to stored ones: copies first, then what only comes nearest.

    Args:
        stored: What to search.
        targets: id -> where a stored cloud lies; one that no longer exists is judged by its hashes alone.
        one: The cloud's print.
        target: Where the cloud lies.
        radius: Differing bits of 511 up to which a stored cloud is looked at.
        turned: Try the 24 turns by right angles.
        nearest: How many to name that are no copies.
    """
    if not stored:
        return []
    codes = hashes.bits(np.stack([other.occupancy for other in stored]))
    variants = turns() if turned else [Variant()]
    asked = hashes.bits(np.stack([hashes.turned(one.occupancy, variant) for variant in variants]))
    proposed: dict[int, Candidate] = {}
    for place, other in enumerate(stored):
        if other.file_hash == one.file_hash or other.content_hash == one.content_hash:
            how = "file" if other.file_hash == one.file_hash else "array"
            proposed[place] = Candidate(first=0, second=place, distance=0.0, how=how)
    near = hamming_pairs(asked, radius, others=codes)
    for turn, place, bits in zip(near.first.tolist(), near.second.tolist(), near.distance.tolist(), strict=True):
        before = proposed.get(place)
        if before is None or bits / hashes.BITS < before.distance:
            how = "field" if variants[turn] == Variant() else "turned field"
            proposed[place] = Candidate(
                first=0, second=place, distance=bits / hashes.BITS, how=how, variant=variants[turn]
            )
    asked_id = "\0asked"  # an id that no row of a manifest has
    places = {**targets, asked_id: replace(target, id=asked_id)}
    cache: dict[str, Points] = {}
    answers: dict[str, Answer] = {}
    for place, seen in proposed.items():
        other = stored[place]
        # It was the asked cloud that was turned, so it comes second.
        verdict = judge(other, replace(one, id=asked_id), seen.variant, places, cache=cache)
        answers[other.id] = Answer(id=other.id, distance=seen.distance, how=seen.how, verdict=verdict)
    apart = np.bitwise_count(codes ^ asked[:1]).sum(axis=1) / hashes.BITS
    for place in np.argsort(apart, kind="stable")[:nearest].tolist():
        name = stored[place].id
        answers.setdefault(name, Answer(id=name, distance=float(apart[place]), how="nearest", verdict=None))
    return nearest_first(answers.values())
