"""Channels by name: in which order a case has them, which of those in a cohort make its cases, and what one case is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from medssl.manifest.rules.owners import Owner

__all__ = [
    "body_of",
    "chosen_channels",
    "frame_names",
    "is_view",
    "joined_names",
    "ordered_channels",
    "split_names",
    "unlike",
]

# Spellings of one contrast stand at one place: sequences of the head, the prostate's, CT, its phases, PET.
_KNOWN = (
    r"t1(w|n|_?pre|_?native)?|mprage|spgr",
    r"t1_?(ce|c|cd|gd|km|post|wce|contrast)|ce_?t1w?",
    r"t2(w|s|_?tse)?",
    r"flair|t2_?f|t2_?flair",
    r"pdw?",
    r"adc",
    r"dwi|hbv|b\d{1,4}",
    r"ct|cta|ctres|ncct|cect",
    r"(ct_|t1_)?(native|nativ|pre)",
    r"(ct_|t1_)?arterial",
    r"(ct_|t1_)?(portal|venous|portal_venous)",
    r"(ct_|t1_)?(delayed|late)",
    r"pt|pet|suv(bw)?",
)
# Of what stands in a name, what shows another part of the body or another moment; runs and processing do not.
_BODY = re.compile(r"(frame|phase|slice|part|chunk|patch)\d+|l|r|lh|rh|left|right|ed|es")
_SIDES = {"lh": "l", "left": "l", "rh": "r", "right": "r"}
# Views in other planes have thick slices of their own: no channels unless somebody says so (PI-CAI, PROSTATEx, M&Ms).
_VIEWS = {"sag", "cor", "sagittal", "coronal", "sa", "la", "sax", "lax", "2ch", "4ch"}
_FEWEST = 2  # channels of a case, and cases that have them
_NAMES = ","  # between the names of channels that are frames of one file


def ordered_channels(names: Iterable[str], said: Sequence[str] = ()) -> tuple[str, ...]:
    """Return channels in the order that a case has them: as said, then as is usual for such images, then by name.

    Args:
        names: The channels; spellings that differ in case are one, and the first is kept.
        said: The order that a person or a dataset.json gives.

    Example:
        >>> ordered_channels(["flair", "t1", "t2", "t1ce"]), ordered_channels(["pet", "swi", "ct"])
        (('t1', 't1ce', 't2', 'flair'), ('ct', 'pet', 'swi'))
        >>> ordered_channels(["t1", "t2"], said=["T2"])
        ('t2', 't1')
    """
    places = {name.casefold(): place for place, name in enumerate(said)}
    once: dict[str, str] = {}
    for name in names:
        once.setdefault(name.casefold(), name)
    return tuple(
        once[name] for name in sorted(once, key=lambda n: (places.get(n, len(places)), _usual_place(n), _number(n), n))
    )


def chosen_channels(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    """Return the channels of a cohort's cases: those that lose the fewest scans; empty where there are no cases.

    Among what patients have, and what two of them share, it is the set with the most scans in patients that have all
    of it; at least two channels of at least two patients. A sequence that a few patients lack stays a channel; one
    that a few patients have does not become one.

    Args:
        sets: The channels of each patient's visit.

    Example:
        >>> four, three = frozenset({"t1", "t1ce", "t2", "flair"}), frozenset({"t1", "t1ce", "t2"})
        >>> sorted(chosen_channels([four] * 10 + [three] * 2))
        ['flair', 't1', 't1ce', 't2']
        >>> chosen_channels([frozenset({"T1w"})] * 97 + [frozenset({"T1w", "T2w"})] * 3)
        frozenset()
    """
    counts: dict[frozenset[str], int] = {}
    for own in sets:
        counts[own] = counts.get(own, 0) + 1
    seen = sorted(counts, key=lambda own: (-counts[own], sorted(own)))[:64]  # a cohort of oddities is no cohort
    tried = {one & other for one in seen for other in seen} - {frozenset()}
    full = {one: sum(count for own, count in counts.items() if own >= one) for one in tried}
    tried = {one for one in tried if full[one] >= _FEWEST or len(one) < _FEWEST}
    best = max(tried, key=lambda one: (len(one) * full[one], len(one), sorted(one)), default=frozenset[str]())
    return best if len(best) >= _FEWEST else frozenset()


def body_of(owner: Owner) -> str:
    """Return what makes two scans of one visit different bodies: frame, side and the folders above the patient."""
    words = sorted(_SIDES.get(word, word) for word in owner.part.split("_") if _BODY.fullmatch(word))
    return "/".join(folder.casefold() for folder in owner.home) + "|" + "-".join(words)


def is_view(channel: str) -> bool:
    """Tell whether a name says that the scan is a view in another plane.

    Example:
        >>> is_view("cor"), is_view("t2_sag"), is_view("t2_tra"), is_view("t2w")
        (True, True, False, False)
    """
    return bool(_VIEWS & set(channel.casefold().split("_")))


def split_names(channel: str) -> tuple[str, ...]:
    """Return the names of the channels that a file's frames are; () where the file is one channel."""
    return tuple(name.strip() for name in channel.split(_NAMES)) if _NAMES in channel else ()


def joined_names(names: Iterable[str]) -> str:
    """Return names as the column ``channel`` has them for a file whose frames are channels."""
    return _NAMES.join(name.replace(_NAMES, " ") for name in names)


def frame_names(count: int) -> tuple[str, ...]:
    """Return names for frames that nothing names."""
    return tuple(f"frame{number}" for number in range(count))


def unlike(one: str, other: str) -> bool:
    """Return whether two names are known to be those of different contrasts.

    Example:
        >>> unlike("t1", "T2w"), unlike("t1", "T1w"), unlike("t1", "site2")
        (True, False, False)
    """
    places = {_usual_place(name.casefold()) for name in (one, other)}
    return len(places) == 2 and len(_KNOWN) not in places


def _usual_place(name: str) -> int:
    return next((place for place, pattern in enumerate(_KNOWN) if re.fullmatch(pattern, name)), len(_KNOWN))


def _number(name: str) -> int:
    found = re.search(r"\d+$", name)
    return int(found[0]) if found else 0
