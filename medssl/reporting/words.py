"""From numbers to sentences: what a comparison found, and what held-out signals say about when to stop.

Nothing here is kinder than its numbers: an interval that holds 0 is called inconclusive, a loss is called a loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl.evaluation.curve import METRIC_NAMES
from medssl.evaluation.pooling import PooledComparison
from medssl.evaluation.summary import Comparison

__all__ = [
    "SIGNALS",
    "Signal",
    "collapse_sentence",
    "comparison_sentence",
    "comparison_sentences",
    "counted",
    "counted_of",
    "name_of",
    "owner_of",
    "percent",
    "signal_of",
    "stopping_sentence",
]

_LEVEL = 0.05
_FEWEST_PROBES = 4
_SMALL_CHANGE = 0.02  # of the whole change, over the last quarter: what counts as standing still
# Two-sided Wilcoxon over n patients cannot fall below 2 / 2^n; so many are needed for p < 0.05.
_FEWEST_FOR_TEST = 6
_ROOM_FOR_RANK = 2


@dataclass(frozen=True)
class Signal:
    """How to read a signal: its name in words, and whether more is better (None: it judges no quality)."""

    words: str
    rising: bool | None


SIGNALS: dict[str, Signal] = {
    "reconstruction": Signal("reconstruction error", False),
    "position_accuracy": Signal("share of crops placed right", True),
    "position_error_mm": Signal("position error (mm)", False),
    "knn_error_mm": Signal("position error of nearest neighbours (mm)", False),
    "retrieval": Signal("share of views whose other view is the nearest", True),
    "part_accuracy": Signal("share of images whose nearest in another scan shows the same part", True),
    "region_retrieval": Signal("share of regions found again in the other version", True),
    "scan_retrieval": Signal("share of regions found again in other scans", True),
    "knn_accuracy": Signal("share of clouds told by their nearest neighbours", True),
    "completion": Signal("distance of the completed cloud", False),
    "prediction": Signal("error of the predicted features", None),  # the teacher who is predicted moves
    "dice": Signal("Dice", True),
    "soft_dice": Signal("soft Dice", True),
    "loss": Signal("loss", False),
    "spread": Signal("spread of what is compared", None),
    "effective_rank": Signal("effective rank of the features", None),
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


def name_of(metric: str) -> str:
    """Return a metric's name in words."""
    return METRIC_NAMES.get(metric, metric)


def comparison_sentence(
    found: Comparison, *, change: str, labelled: int | None = None, owner: str = "patient"
) -> tuple[str, str]:
    """Say what a comparison found.

    Args:
        found: The comparison.
        change: What was changed, as a noun: "pretraining"; "" where it is only known that there are two runs.
        labelled: Labelled patients that both were trained with, where known.
        owner: What is counted, as a noun; see `owner_of`.

    Returns:
        The verdict ("better", "worse" or "inconclusive") and one or two sentences.
    """
    mean, unit = found.result.mean, " mm" if found.metric.endswith("_mm") else ""
    digits = 2 if unit else 3
    with_labels = f"With {counted(labelled, 'labelled patient')}, " if labelled is not None else ""
    metric = name_of(found.metric).removesuffix(" (mm)")
    differs = f"{change} changed {metric} by" if change else f"{found.arm} differs from {found.baseline} in {metric} by"
    sentence = f"{with_labels}{_capital(differs) if change and not with_labels else differs} "
    sentence += f"{mean.estimate:+.{digits}f}{unit}"
    patients = mean.cases
    if not (math.isfinite(mean.low) and math.isfinite(mean.high)):
        told = "too few for an interval, so this is inconclusive."
        return "inconclusive", f"{sentence} on {counted(patients, f'test {owner}')}; {told}"
    sentence += f" ({percent(mean.level)} CI {mean.low:+.{digits}f} to {mean.high:+.{digits}f}) on "
    sentence += counted(patients, f"test {owner}")
    rising = not unit
    excludes = mean.low > 0 or mean.high < 0
    gain = (mean.estimate > 0) == rising
    p = f"p after Holm's correction {_p(found.p_holm)}"
    if not excludes:
        return "inconclusive", f"{sentence}: inconclusive, since the interval holds 0 ({p})."
    if patients < _FEWEST_FOR_TEST:
        return "inconclusive", (
            f"{sentence}. The interval leaves 0 out, but {counted(patients, owner)} cannot settle it: no "
            f"paired test of fewer than {_FEWEST_FOR_TEST} reaches p < {_LEVEL} ({p})."
        )
    if not found.p_holm < _LEVEL:  # nor where there is no p
        return "inconclusive", (
            f"{sentence}. The interval leaves 0 out, but the paired test does not confirm it ({p})."
        )
    if gain:
        return "better", f"{sentence}: an improvement ({p})."
    return "worse", f"{sentence}: a loss, {change or found.arm} made it worse ({p})."


def comparison_sentences(found: Sequence[Comparison], *, change: str) -> tuple[str, str]:
    """Say in one breath what the same comparison found at several numbers of labelled patients.

    Args:
        found: The comparisons, each with its ``n``; at least one.
        change: What was changed, as a noun: "pretraining".

    Returns:
        The verdict: "better" or "worse" where some are and none says the contrary, else "inconclusive"; and a sentence
        with every difference and interval.
    """
    if len(found) == 1:
        return comparison_sentence(found[0], change=change, labelled=found[0].n)
    ordered = sorted(found, key=lambda one: one.n or 0)
    verdicts = {one.n: comparison_sentence(one, change=change)[0] for one in ordered}
    unit = " mm" if ordered[0].metric.endswith("_mm") else ""
    digits = 2 if unit else 3
    told = ", ".join(
        f"{m.estimate:+.{digits}f}{unit} [{m.low:+.{digits}f}, {m.high:+.{digits}f}]"
        for m in (one.result.mean for one in ordered)
    )
    sizes = _listed([str(one.n) for one in ordered])
    metric = name_of(ordered[0].metric).removesuffix(" (mm)")
    mean = ordered[0].result.mean
    sentence = f"With {sizes} labelled patients, {change} changed {metric} by {told} ({percent(mean.level)} CI) on "
    sentence += f"{counted(mean.cases, 'test patient')}: "
    kinds = {"better": "an improvement", "worse": "a loss", "inconclusive": "inconclusive"}
    groups = {kind: [str(n) for n, verdict in verdicts.items() if verdict == kind] for kind in kinds}
    held = {kind: members for kind, members in groups.items() if members}
    if len(held) == 1:
        sentence += f"{kinds[next(iter(held))]} at each."
    else:
        sentence += "; ".join(f"{kinds[kind]} with {_listed(members)}" for kind, members in held.items()) + "."
    both = groups["better"] and groups["worse"]
    verdict = (
        "inconclusive" if both else "better" if groups["better"] else "worse" if groups["worse"] else "inconclusive"
    )
    return verdict, _capital(sentence)


def pooled_sentence(found: Sequence[PooledComparison], *, metric: str) -> tuple[str, str]:
    """Say what a method brought over several pretraining runs of it; luck of a single run does not count.

    Args:
        found: The method at each number of labelled patients; at least one.
        metric: The metric that the differences are of.

    Returns:
        The verdict: "better" or "worse" where an interval leaves 0 out and none says the contrary, else "inconclusive";
        and a sentence with every difference and interval.
    """
    ordered = sorted(found, key=lambda one: one.n)
    unit = " mm" if metric.endswith("_mm") else ""
    digits, sign = (2, -1) if unit else (3, 1)
    told = ", ".join(
        f"{m.estimate:+.{digits}f}{unit} [{m.low:+.{digits}f}, {m.high:+.{digits}f}]" for m in (o.mean for o in ordered)
    )
    clear = {sign * np.sign(o.mean.low) for o in ordered if o.mean.low > 0 or o.mean.high < 0}
    verdict = "better" if clear == {1} else "worse" if clear == {-1} else "inconclusive"
    where = _listed([str(o.n) for o in ordered if o.mean.low > 0 or o.mean.high < 0])
    first = ordered[0]
    patients = (
        "1 labelled patient"
        if [o.n for o in ordered] == [1]
        else (f"{_listed([str(o.n) for o in ordered])} labelled patients")
    )
    end = f"the interval leaves 0 out with {where}." if clear else "every interval holds 0."
    return verdict, (
        f"With {patients}, pretraining ({first.method}) changed {name_of(metric).removesuffix(' (mm)')} by {told} "
        f"({percent(first.mean.level)} CI over {len(first.run_means)} pretraining runs, {first.mean.draws} draws and "
        f"{counted(first.mean.cases, 'test patient')}): {end}"
    )


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
    return f"{head}{stopped} and stood still over the last quarter: by this signal, more steps would add little."


def collapse_sentence(values: Mapping[str, float], settings: Mapping[str, Any]) -> str:
    """Say whether what the method compares had collapsed at the last probe or report; "" where nothing measures it."""
    limits = {"spread": settings.get("train.collapse_spread"), "effective_rank": settings.get("train.collapse_rank")}
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


def _p(p: float) -> str:
    return "not defined" if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
