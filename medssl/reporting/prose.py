"""From numbers to sentences: counts, and what held-out signals say about when to stop.

What comparisons say is in `medssl.evaluation.statistics.wording`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "SIGNALS",
    "Signal",
    "collapse_sentence",
    "counted",
    "counted_of",
    "owner_of",
    "percent",
    "signal_of",
    "stopping_sentence",
]

_FEWEST_PROBES = 4
_SMALL_CHANGE = 0.02  # of the whole change, over the last quarter: what counts as standing still
_ROOM_FOR_RANK = 2


@dataclass(frozen=True)
class Signal:
    """How to read a signal: its name in words, and whether more is better (None: it judges no quality)."""

    words: str
    rising: bool | None


SIGNALS: dict[str, Signal] = {
    "reconstruction": Signal("reconstruction error", False),
    "position_accuracy": Signal("share of crops placed correctly", True),
    "position_error_mm": Signal("position error (mm)", False),
    "knn_error_mm": Signal("position error of nearest neighbours (mm)", False),
    "retrieval": Signal("share of views whose other view is the nearest", True),
    "part_accuracy": Signal("share of images whose nearest in another scan shows the same part", True),
    "region_retrieval": Signal("share of regions found again in the other version", True),
    "group_agreement": Signal("share of places that both views put into one group", True),
    "scan_retrieval": Signal("share of regions found again in other scans", True),
    "knn_accuracy": Signal("share of clouds classified right by their nearest neighbours", True),
    "crop_place_r2": Signal("R2 of where small crops lie", True),
    "crop_content_r2": Signal("R2 of the structures in small crops", True),
    "completion": Signal("distance of the completed cloud", False),
    "prediction": Signal("error of the predicted features", None),  # the teacher who is predicted moves
    "dice": Signal("Dice", True),
    "soft_dice": Signal("soft Dice", True),
    "loss": Signal("loss", False),
    "spread": Signal("spread of what is compared", None),
    "effective_rank": Signal("effective rank of the features", None),
    "information": Signal("what the teacher tells of an item, in nats,", None),
}


def signal_of(name: str) -> Signal | None:
    """Return how to read a signal, None where nothing is known of it; parts of `joined` put their name in front.

    Example:
        >>> signal_of("contrast_retrieval") == signal_of("retrieval")
        True
    """
    return SIGNALS.get(name) or next((signal for key, signal in SIGNALS.items() if name.endswith(f"_{key}")), None)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "scan"), counted(1200, "scan")
        ('1 scan', '1,200 scans')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def counted_of(items: int, noun: str, patients: int) -> str:
    """Return how many items of how many patients; clouds that are each of their own are objects without patients.

    Example:
        >>> counted_of(3, "scan", 2), counted_of(3, "cloud", 3)
        ('3 scans of 2 patients', '3 clouds')
    """
    owner = owner_of(items, noun, patients)
    return counted(items, noun) if owner == noun else f"{counted(items, noun)} of {counted(patients, owner)}"


def owner_of(items: int, noun: str, patients: int) -> str:
    """Return what intervals and tests are over: "patient", or "cloud" where clouds are each of their own.

    Example:
        >>> owner_of(3, "cloud", 3), owner_of(3, "cloud", 2), owner_of(3, "scan", 3)
        ('cloud', 'patient', 'patient')
    """
    return noun if noun == "cloud" and items == patients else "patient"


def percent(level: float) -> str:
    """Return a confidence level as people write it.

    Example:
        >>> percent(0.95)
        '95 %'
    """
    return f"{100 * level:g} %"


def stopping_sentence(name: str, points: Sequence[tuple[float, float]], *, steps: int | None = None) -> str:
    """Say what a held-out signal says about when to stop; "" for one that judges no quality.

    The best probe is compared with the last one, and the change over the last quarter of the run with the whole
    change and with how much the signal jumps from probe to probe.

    Args:
        name: The signal, without ``held_out/``.
        points: (step, value), in rising step.
        steps: Steps that were planned.
    """
    signal = signal_of(name)
    if signal is None or signal.rising is None:
        return ""
    known = [(s, v) for s, v in points if math.isfinite(v)]
    if len(known) < _FEWEST_PROBES:
        return (
            f"Held-out {signal.words}: {counted(len(known), 'probe')} are too few to say when to stop; lower "
            "train.probe_every."
        ).replace("1 probe are", "1 probe is")
    at, values = np.array(known, dtype=float).T
    better = values if signal.rising else -values
    best = int(np.argmax(better))
    jump = float(np.median(np.abs(np.diff(better)))) if len(better) > 2 else 0.0
    before = int(np.flatnonzero(at <= at[-1] - 0.25 * (at[-1] - at[0]))[-1])
    last_quarter = better[-1] - better[before]
    whole = better[-1] - better[0]
    span = f"{values[0]:.3g} at step {at[0]:,.0f} to {values[-1]:.3g} at step {at[-1]:,.0f}"
    head = f"Held-out {signal.words} went from {span}"
    stopped = f" (of {steps:,} planned)" if steps and at[-1] < steps else ""
    if better.max() - better[0] <= 0:
        return f"{head}{stopped}; no later probe was better than the first, so by this signal nothing was learned."
    fall = better[best] - better[-1]
    if best < len(better) - 1 and fall > max(2 * jump, 0.05 * (better.max() - better.min())):
        return (
            f"{head}{stopped}; it was best at step {at[best]:,.0f} ({values[best]:.3g}) and got worse afterwards: by "
            f"this signal, about {at[best]:,.0f} steps are enough."
        )
    if last_quarter > _SMALL_CHANGE * abs(whole) and last_quarter > 0:
        share = last_quarter / whole if whole > 0 else 1.0
        return (
            f"{head}{stopped} and was still improving: {share:.0%} of the change came in the last quarter. By this "
            "signal, more steps may pay."
        )
    return f"{head}{stopped} and did not change over the last quarter: by this signal, more steps would add little."


def collapse_sentence(values: Mapping[str, float], settings: Mapping[str, Any]) -> str:
    """Say whether what the method compares had collapsed at the last probe or report; "" where nothing measures it."""
    limits = {
        "spread": settings.get("train.collapse_spread"),
        "effective_rank": settings.get("train.collapse_rank"),
        "information": settings.get("train.collapse_information"),
    }
    if int(settings.get("train.batch_size") or 0) < _ROOM_FOR_RANK * float(limits["effective_rank"] or 0):
        del limits["effective_rank"]  # the rank of so few windows is small whatever the features are
    known = {n: (values[n], float(limit)) for n, limit in limits.items() if n in values and limit is not None}
    if not known:
        return ""
    low = [f"{SIGNALS[n].words} {v:.3g}, under {limit:g}" for n, (v, limit) in known.items() if v < limit]
    if low:
        return f"It looks collapsed: {'; '.join(low)}."
    told = " and ".join(
        f"{SIGNALS[n].words} {v:.3g} (a collapse is under {limit:g})" for n, (v, limit) in known.items()
    )
    return f"No collapse: {told}."
