"""Intervals, scores and comparisons in words: the one place for headers, cells and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from medssl.evaluation.few_label import SCRATCH
from medssl.evaluation.metrics import metric_of
from medssl.evaluation.statistics.comparison import Comparison, Score
from medssl.evaluation.statistics.crossed import Interval

__all__ = [
    "LUCK",
    "TWO_RUNS",
    "Table",
    "across",
    "comparison_rows",
    "header",
    "interval_text",
    "notes_of",
    "p_text",
    "score_rows",
    "sentence",
    "sentences",
    "told_together",
]

Table = tuple[list[str], list[list[str]]]
LUCK = "one run: variation between runs is not included"
# Two values say little of their spread: `benchmarks/coverage.py`, "runs differ most". A wider interval was tried and
# is no way out (docs/decisions.md).
TWO_RUNS = "two runs: where runs differ most, it contains the true value in 88 of 100 cases, not 95"


def interval_text(interval: Interval | None, *, signed: bool = False, digits: int = 3) -> str:
    """Return an estimate and its interval; "not defined" where there is none, as for the AUROC of a single class.

    Example:
        >>> interval_text(Interval(estimate=0.81, low=0.8, high=0.824, level=0.95, runs=1, draws=1, patients=9))
        '0.810 [0.800, 0.824]'
    """
    if interval is None:
        return "-"
    if math.isnan(interval.estimate):
        return "not defined"
    form = f"{'+' if signed else ''}.{digits}f"
    if not interval.known:
        return f"{interval.estimate:{form}} (no interval)"
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def p_text(p: float) -> str:
    """Return a p value as people write it, "-" where there is none.

    Example:
        >>> p_text(0.00004), p_text(0.0312)
        ('< 0.0001', '0.0312')
    """
    return "-" if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def header(intervals: Sequence[Interval], *, unit: str = "patient") -> str:
    """Return what the intervals of a table are: their level, what varied in them, and what did not.

    Example:
        >>> header([Interval(estimate=0, low=0, high=0, level=0.95, runs=1, draws=8, patients=30)])
        '95 % t interval over draws and patients; one run: variation between runs is not included'
    """
    known = [interval for interval in intervals if interval.known]
    if not known:
        return "no intervals"
    axes = [axis for axis in ("runs", "draws", "patients") if any(axis in interval.sampled for interval in known)]
    told = f"{100 * known[0].level:g} % t interval over {_listed([f'{unit}s' if a == 'patients' else a for a in axes])}"
    single = sum(interval.runs == 1 for interval in known)
    if single:
        told += (
            f"; {LUCK}" if single == len(known) else "; where there is one run, variation between runs is not included"
        )
    if any(interval.runs == 2 for interval in known):
        told += f"; {TWO_RUNS}"
    return told


def notes_of(scores: Sequence[Score], comparisons: Sequence[Comparison] = ()) -> list[str]:
    """Return why scores and comparisons of a table have no interval, and what they leave out; once for each reason."""
    found: dict[str, dict[str, list[str]]] = {}  # reason -> metric -> who

    def note(why: str, metric: str, who: str) -> None:
        found.setdefault(why, {}).setdefault(metric_of(metric).words, []).append(who)

    for score in scores:
        if score.interval.note:
            note(score.interval.note, score.metric, f"{score.arm} ({score.target})" if score.target else score.arm)
    for row in comparisons:
        who = f"{row.arm} against {row.baseline}"
        if row.difference.note:
            note(row.difference.note, row.metric, who)
        if row.left_out:
            note(f"{_counted(row.left_out, row.unit)} without a score in one of the runs left out", row.metric, who)
        if row.unfinished:
            at = "" if row.labels is None else f" with {row.labels}"
            note(f"only over the draws that every run has been through{at}, {row.unfinished} left out", row.metric, who)
    told = []
    for why, metrics in found.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for metric, arms in metrics.items():
            alike.setdefault(tuple(dict.fromkeys(arms)), []).append(metric)
        told.append(f"{'; '.join(f'{_listed(names)} of {_listed(_few(own))}' for own, names in alike.items())}: {why}.")
    return told


def _few(names: Sequence[str], shown: int = 4) -> list[str]:
    return [*names[:shown], f"{len(names) - shown} more"] if len(names) > shown else list(names)


def score_rows(scores: Sequence[Score], *, baseline: str = "") -> Table:
    """Return heads and rows of a table of arms: a row for each arm, way of fitting and number of labels.

    Args:
        scores: The scores.
        baseline: The arm that goes first at each number.
    """
    metrics = list(dict.fromkeys(score.metric for score in scores))
    heads = ["how", "n", "arm", "target", *(_head(name) for name in metrics), "each run", "draws"]
    groups: dict[tuple[str, int | None, str, str], dict[str, Score]] = {}
    for score in scores:
        groups.setdefault((score.how, score.labels, score.arm, score.target), {})[score.metric] = score
    order = sorted(groups, key=lambda g: (g[0], g[1] or 0, g[2] != baseline)) if baseline else list(groups)
    rows = []
    for how, labels, arm, target in order:
        own = groups[how, labels, arm, target]
        first = next(iter(own.values()))
        rows.append(
            [
                how,
                "" if labels is None else str(labels),
                arm,
                target,
                *(interval_text(own[m].interval, digits=metric_of(m).digits) if m in own else "" for m in metrics),
                ", ".join(f"{v:.3f}" for v in first.run_means) if len(first.run_means) > 1 else "",
                str(len(first.draw_means)) if len(first.draw_means) > 1 else "",
            ]
        )
    return _filled(heads, rows)


def comparison_rows(comparisons: Sequence[Comparison]) -> Table:
    """Return heads and rows of a table of comparisons, without the columns that are empty in every row."""
    heads = [
        "how",
        "n",
        "run",
        "against",
        "metric",
        "difference",
        "each run",
        "ahead",
        "better",
        "worse",
        "p",
        "p Holm",
        "verdict",
    ]
    rows = []
    for row in comparisons:
        digits, (better, worse) = row.of.digits, (row.above, row.below)[:: row.of.sign]
        rows.append(
            [
                row.how,
                "" if row.labels is None else str(row.labels),
                row.arm,
                row.baseline,
                _head(row.metric),
                interval_text(row.difference, signed=True, digits=digits),
                ", ".join(f"{v:+.{digits}f}" for v in row.run_means) if len(row.run_means) > 1 else "",
                f"{row.ahead}/{row.pairs}" if row.pairs > 1 else "",
                str(better) if better >= 0 else "",
                str(worse) if worse >= 0 else "",
                p_text(row.p),
                p_text(row.p_holm),
                row.verdict,
            ]
        )
    return _filled(heads, rows)


def sentence(row: Comparison, *, of: str = "") -> str:
    """Say what a comparison found, its verdict included.

    Args:
        row: The comparison.
        of: What the metric is of, such as "of diagnosis (well, ill)"; "" where that is not known.
    """
    start = f"With {_counted(row.labels, f'labelled {row.unit}')}, " if row.labels is not None else ""
    if math.isnan(row.difference.estimate):
        about = f"{row.change} on {row.of.words}" if row.change else f"{row.arm} and {row.baseline} in {row.of.words}"
        told = f"{start}nothing can be said of {about}{' ' if of else ''}{of}{_where(row)}: {_judgement(row)}."
        return told if start else _capital(told)
    told = f"{start}{_changed(row, of)} by {_difference(row)}{_where(row)}: {_judgement(row)}."
    return told if start or not row.change else _capital(told)


def sentences(rows: Sequence[Comparison], *, of: str = "") -> tuple[str, str]:
    """Say in one breath what the same comparison found at several numbers of labelled patients.

    Args:
        rows: The comparisons, each with its ``labels``; at least one.
        of: As for `sentence`.

    Returns:
        The verdict: "better" or "worse" where some are and none says the contrary, else "inconclusive"; and a sentence
        with every difference and interval.
    """
    ordered = sorted(rows, key=lambda row: row.labels or 0)
    if len(ordered) == 1:
        return ordered[0].verdict, sentence(ordered[0], of=of)
    first = ordered[0]
    sizes = _listed([str(row.labels) for row in ordered])
    told = ", ".join(_difference(row) for row in ordered)
    said = f"With {sizes} labelled {first.unit}s, {_changed(first, of)} by {told}{_where(first)}: "
    kinds = {"better": "an improvement", "worse": "a loss", "inconclusive": "inconclusive"}
    groups = {kind: [str(row.labels) for row in ordered if row.verdict == kind] for kind in kinds}
    held = {kind: members for kind, members in groups.items() if members}
    if len(held) == 1:
        said += f"{kinds[next(iter(held))]} at each"
    else:
        said += "; ".join(f"{kinds[kind]} with {_listed(members)}" for kind, members in held.items())
    corrected = [p_text(row.p_holm) for row in ordered if not math.isnan(row.p_holm)]
    over = f" for {first.questions} questions" if first.questions > 1 else ""
    said += f" (p {_listed(corrected)} after Holm's correction{over})." if len(corrected) == len(ordered) else "."
    clear = [kind for kind in ("better", "worse") if groups[kind]]
    return clear[0] if len(clear) == 1 else "inconclusive", said


def across(rows: Sequence[Comparison], *, of: str = "") -> tuple[str, str]:
    """Say in one breath what the same comparison found in several ways of fitting, each at one number of labels.

    Args:
        rows: The comparisons, each with its ``how``; of one arm, baseline and metric.
        of: As for `sentence`.

    Returns:
        As `sentences`.
    """
    first = rows[0]
    if len(rows) == 1:
        return first.verdict, sentence(first, of=of)
    start = f"With {_counted(first.labels, f'labelled {first.unit}')}, " if first.labels is not None else ""
    told = ", ".join(f"{_difference(row)} ({row.how})" for row in rows)
    said = f"{start}{_changed(replace(first, how=''), of)} by {told}{_where(first)}: "
    kinds = {"better": "an improvement", "worse": "a loss", "inconclusive": "inconclusive"}
    held = {kind: [row for row in rows if row.verdict == kind] for kind in kinds}
    groups = [
        f"{kinds[kind]} by {_listed([row.how for row in own]) if len(own) < len(rows) else 'each'} "
        f"(p {_listed([p_text(row.p_holm) for row in own])} after Holm's correction for {first.questions} questions)"
        for kind, own in held.items()
        if own
    ]
    said += f"{'; '.join(groups)}."
    clear = [kind for kind in ("better", "worse") if held[kind]]
    verdict = clear[0] if len(clear) == 1 else "inconclusive"
    return verdict, said if start or not first.change else _capital(said)


def told_together(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Return the comparisons of one arm, baseline, way of fitting and metric in groups: one sentence each."""
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for row in comparisons:
        groups.setdefault((row.arm, row.baseline, row.how, row.metric), []).append(row)
    return list(groups.values())


def _changed(row: Comparison, of: str) -> str:
    metric = f"{row.of.words} ({row.how})" if row.how else row.of.words
    metric += f" {of}" if of else ""
    return f"{row.change} changed {metric}" if row.change else f"{row.arm} differs from {row.baseline} in {metric}"


def _difference(row: Comparison) -> str:
    found, digits = row.difference, row.of.digits
    unit = f" {row.of.unit}" if row.of.unit else ""
    if math.isnan(found.estimate):
        return "an unknown amount"
    told = f"{found.estimate:+.{digits}f}{unit}"
    return f"{told} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]" if found.known else told


def _where(row: Comparison) -> str:
    """Return what the difference is over, in brackets."""
    found = row.difference
    counts = [
        _counted(found.runs, "pretraining run") if found.runs > 1 else "",
        _counted(found.draws, "draw") if found.draws > 1 else "",
        _counted(found.patients, f"test {row.unit}"),
    ]
    over = _listed([count for count in counts if count])
    if not found.known:
        return f" on {over}"
    luck = LUCK if found.runs == 1 else ""
    if found.runs > 1 and row.baseline_runs == 1 and row.baseline != SCRATCH:
        luck = f"one run of {row.baseline}: variation between runs is not included"
    two = TWO_RUNS if 2 in (found.runs, row.baseline_runs) else ""
    said = "".join(f"; {words}" for words in (luck, two) if words)
    return f" ({100 * found.level:g} % CI over {over}{said})"


def _judgement(row: Comparison) -> str:
    over = f" for {row.questions} questions" if row.questions > 1 and "questions" not in row.reason else ""
    p = "" if math.isnan(row.p_holm) else f" (p {p_text(row.p_holm)} after Holm's correction{over})"
    return f"{row.reason}{p}" if row.verdict != "inconclusive" else f"inconclusive, because {row.reason}{p}"


def _head(metric: str) -> str:
    own = metric_of(metric)
    return f"{own.words}, {own.unit}" if own.unit else own.words


def _filled(heads: list[str], rows: list[list[str]]) -> Table:
    kept = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    return [heads[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
