"""What two scans are to each other, from how well they agree.

A perceptual hash only proposes; what decides is looking at both scans. It needs voxels of 5 mm or less: coarser ones
hold no detail by which two bodies differ, and such pairs should be looked at by a person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from medssl.formats.scan import Scan
from medssl.reduction.agreement import Agreement, compare
from medssl.reduction.fingerprint import Fingerprint
from medssl.reduction.hashes import Variant

__all__ = [
    "BEYOND",
    "BEYOND_DOUBT",
    "EQUAL",
    "EVIDENCE",
    "EXPLAINED",
    "EXPLAINED_WHERE_DOUBTFUL",
    "RELATED",
    "RELATED_STRANGERS",
    "SAME_IMAGE",
    "SAME_VALUES",
    "SHARED",
    "UNEVEN",
    "Level",
    "Verdict",
    "verify",
]

# SAME_IMAGE, UNEVEN, EXPLAINED and RELATED_STRANGERS are what the rule of benchmarks/reduction_limits.py gives.
SAME_IMAGE = 0.68  # correlation of the detail from which two scans are one image
SAME_VALUES = 0.97  # how far one is a function of the other's numbers from which only intensities were changed
UNEVEN = 6.6  # unevenness from which two scans are one body at two moments: most phases reach 7.9, copies 5.3
EXPLAINED = 0.81  # share of the variance below which two scans on one grid are two bodies, however alike in detail
RELATED = 0.55  # from which scans of one patient show one body at one time, or nearly
EVIDENCE = 7.0  # standard deviations above strangers: less is chance, given all shifts and turns that are tried
SHARED = 0.55  # correlation of the detail that bodies of one region may share: organs and bones lie where they lie
BEYOND = 10.5  # standard deviations above that, needed of strangers; of synthetic torsos one pair in 600 has more
BEYOND_DOUBT = 20.0  # the same, from which that alone will do: synthetic torsos reach 15.4 (18,000 pairs)
EXPLAINED_WHERE_DOUBTFUL = 0.97  # share of the variance needed below that: torsos reach .95, copies on one grid .99
EQUAL = 0.5  # share of voxels that hold one number in both from which two scans come from one acquisition
RELATED_STRANGERS = 0.74  # the same of scans that nobody says are of one patient; brains of two reached 0.65


class Level(StrEnum):
    """What two scans are to each other. They are never merged: each asks for something else."""

    SAME_FILE = "same file"
    SAME_ARRAY = "same array"
    SAME_IMAGE = "same image"
    RELATED = "related"
    SAME_PATIENT = "same patient"
    DIFFERENT = "different"

    @property
    def is_copy(self) -> bool:
        """Whether one of the two may be left out: a copy of the file, of the array or of the image."""
        return self in (Level.SAME_FILE, Level.SAME_ARRAY, Level.SAME_IMAGE)


_CERTAIN = 1.0 - 1e-6  # a score of 1 would be evidence without end
_EXACT = Agreement.of_score(1.0)
_UNSEEN = Agreement.of_score(0.0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What looking at a pair came to.

    Attributes:
        level: What they are to each other.
        agreement: The numbers behind it.
        variant: How the second's axes were turned first.
    """

    level: Level
    agreement: Agreement
    variant: Variant


def verify(
    first: Fingerprint,
    second: Fingerprint,
    scans: tuple[Scan, Scan] | None = None,
    *,
    variant: Variant | None = None,
    same_patient: bool = False,
) -> Verdict:
    """Say what two scans are to each other.

    One is a copy of the other where its numbers are a function of the other's (8 bits, a window, a new scale or sign:
    `SAME_VALUES`), whatever was cut or blanked. Else the detail inside both bodies has to agree (`SAME_IMAGE`): by more
    than bodies so small or smooth do by chance (`EVIDENCE`); by more than bodies of one anatomy do (`BEYOND`), for of
    16 x 20 x 20 voxels the edges of organs are all the detail there is; everywhere alike (`UNEVEN`); and where voxels
    lie on each other, intensities have to explain each other (`EXPLAINED`). Where the agreement lies barely beyond that
    of one anatomy (up to `BEYOND_DOUBT`), they have to explain nearly all (`EXPLAINED_WHERE_DOUBTFUL`), which cannot be
    seen on another grid: such scans, all of them very small, are related at most. Two frames of a beating heart agree
    as well as a smoothed copy does (0.8 to 0.98 for cine MRI), but what differs is all in one place.

    Phases, kernels and contrasts of one patient agree in all of that. So scans that the manifest gives to one patient
    are copies only where one is a function of the other; on another grid that cannot be seen, and they are "related":
    another kernel, phase or echo of one acquisition, or a repetition. What is done with those is the user's policy.

    Heads and hearts of two patients agree by chance up to a point, most of all where slices are thick. So other scans
    need `RELATED_STRANGERS` to be related, for that moves scans between splits. Whoever they are of, scans are related
    where most of their voxels hold the very same number (`EQUAL`).

    Args:
        first: Fingerprint of the first.
        second: Fingerprint of the second.
        scans: Both scans; needed only where neither file nor array is the same. Without them such a pair is
            "same patient" or "different", with the score 0.
        variant: How the second's axes are to be turned, as the hashes found.
        same_patient: Whether the manifest says so.
    """
    if first.file_hash == second.file_hash or first.content_hash == second.content_hash:
        level = Level.SAME_FILE if first.file_hash == second.file_hash else Level.SAME_ARRAY
        return Verdict(level=level, agreement=_EXACT, variant=Variant())
    rest = Level.SAME_PATIENT if same_patient else Level.DIFFERENT
    variant = variant or Variant()
    if scans is None:
        return Verdict(level=rest, agreement=_UNSEEN, variant=variant)
    seen = compare(*scans, variant=variant)
    beyond = _beyond(seen)
    telling = seen.evidence >= EVIDENCE and (same_patient or beyond >= BEYOND)
    function = (seen.function or 0.0) >= SAME_VALUES
    alike = seen.score >= SAME_IMAGE and seen.unevenness <= UNEVEN and (seen.explained or 1.0) >= EXPLAINED
    certain = beyond >= BEYOND_DOUBT or (seen.explained or 0.0) >= EXPLAINED_WHERE_DOUBTFUL
    if function or (telling and alike and certain and not same_patient):
        level = Level.SAME_IMAGE
    elif seen.equal >= EQUAL or (telling and seen.score >= (RELATED if same_patient else RELATED_STRANGERS)):
        level = Level.RELATED
    else:
        level = rest
    return Verdict(level=level, agreement=seen, variant=variant)


def _beyond(seen: Agreement) -> float:
    """Return by how many standard deviations a score lies above `SHARED`, given as many independent cells."""
    told = math.atanh(min(seen.score, _CERTAIN))
    return seen.evidence * (1.0 - math.atanh(SHARED) / told) if told > 0.0 else 0.0
