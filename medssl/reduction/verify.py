"""What two scans are to each other, from how well they agree.

A perceptual hash only proposes; what decides is looking at both scans. It needs voxels of 5 mm or less: coarser ones
hold no detail by which two bodies differ, and such pairs should be looked at by a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from medssl.formats.scan import Scan
from medssl.reduction.agreement import WORTH_A_LOOK, Agreement, compare
from medssl.reduction.fingerprint import Fingerprint
from medssl.reduction.hashes import Variant

__all__ = [
    "EXPLAINED",
    "RELATED",
    "RELATED_STRANGERS",
    "SAME_FUNCTION",
    "SAME_IMAGE",
    "SAME_VALUES",
    "UNEVEN",
    "Level",
    "Verdict",
    "verify",
]

# SAME_IMAGE, UNEVEN, EXPLAINED and RELATED_STRANGERS are what the rule of benchmarks/reduction_limits.py gives.
SAME_IMAGE = 0.68  # correlation of the detail from which two scans are one image
SAME_VALUES = 0.99  # share of the variance that a change of intensities alone explains
UNEVEN = 6.94  # unevenness from which two scans are one body at two moments: 9.9 and more for ED and ES, of copies 4.0
SAME_FUNCTION = WORTH_A_LOOK  # from which one image in a narrow window is the other, where `SAME_VALUES` holds
EXPLAINED = 0.81  # share of the variance below which two scans on one grid are two bodies, however alike in detail
RELATED = 0.55  # from which scans of one patient show one body at one time, or nearly
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


_EXACT = Agreement(score=1.0, explained=1.0, correlation=1.0, overlap=1.0, shift_mm=(0.0, 0.0, 0.0), unevenness=0.0)
_UNSEEN = Agreement(score=0.0, explained=None, correlation=0.0, overlap=0.0, shift_mm=(0.0, 0.0, 0.0), unevenness=0.0)


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

    "related" is another kernel, phase or echo of one acquisition, or a repetition; what is done with it is the user's
    policy. Two frames of a beating heart agree as well as a smoothed copy does (0.8 to 0.98 for cine MRI), but what
    differs is all in one place; a copy differs everywhere alike or not at all. Between scans of one patient whose
    voxels lie on each other, one must besides be a function of the other's intensities to be its copy.

    Heads and hearts of two patients agree by chance up to a point, most of all where slices are thick. So scans that
    the manifest does not give to one patient need `RELATED_STRANGERS` to be related, for that moves scans between
    splits, and, where voxels lie on each other, `EXPLAINED` to be copies. A narrow window takes most of the detail
    away, but what is left is a function of the other's intensities: then `SAME_FUNCTION` is enough.

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
    explained = 1.0 if seen.explained is None else seen.explained
    least = SAME_VALUES if same_patient else EXPLAINED
    whole = seen.explained is not None and seen.explained >= SAME_VALUES and seen.score >= SAME_FUNCTION
    if whole or (seen.score >= SAME_IMAGE and explained >= least and seen.unevenness <= UNEVEN):
        level = Level.SAME_IMAGE
    else:
        level = Level.RELATED if seen.score >= (RELATED if same_patient else RELATED_STRANGERS) else rest
    return Verdict(level=level, agreement=seen, variant=variant)
