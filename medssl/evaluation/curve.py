"""The picture of a few-label comparison: score over the number of labelled patients, and the gain over the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.evaluation.metrics import METRICS
from medssl.evaluation.statistics.comparison import Comparison, Score
from medssl.evaluation.statistics.crossed import Interval
from medssl.writing import atomic_write

__all__ = ["Curve", "Row", "draw_arms", "draw_rows"]

# Okabe and Ito's colours: distinguished by colour-blind readers. The baseline is grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BASELINE_COLOUR = "#6b6b6b"


@dataclass(frozen=True)
class Curve:
    """One arm: for each n the estimate, its interval's ends, and single draws or runs as dots."""

    label: str
    points: Sequence[tuple[int, float, float, float, Sequence[float]]]


@dataclass(frozen=True)
class Row:
    """A row of the picture: scores at the left, gains over the baseline at the right.

    Attributes:
        scores: A curve an arm.
        gains: A curve an arm but the baseline; empty for none.
        baseline: Labels of the curves that are drawn in grey.
        score_title: Title of the left panel.
        score_name: Name of its axis.
        gain_title: Title of the right panel.
        gain_name: Name of its axis.
    """

    scores: Sequence[Curve]
    gains: Sequence[Curve]
    baseline: Sequence[str]
    score_title: str
    score_name: str
    gain_title: str = ""
    gain_name: str = ""


def draw_arms(
    scores: Sequence[Score], comparisons: Sequence[Comparison], path: Path, *, against: str, owner: str = "patient"
) -> Path:
    """Draw the curve of each method with intervals and runs, and the gain over the baseline; a row a way of fitting.

    Args:
        scores: Scores of one metric.
        comparisons: Those against the baseline.
        path: The PNG to write; written aside and renamed.
        against: What the baseline is, in words.
        owner: Whose labels were drawn.
    """
    metric = METRICS[scores[0].metric]
    name = f"{metric.words} ({metric.unit})" if metric.unit else metric.words
    baselines = sorted({c.baseline for c in comparisons})
    title = against if len(baselines) < 2 else "what each is compared with"
    rows = []
    for how in dict.fromkeys(score.how for score in scores):
        own = [score for score in scores if score.how == how]
        compared = [row for row in comparisons if row.how == how]
        curves = [
            Curve(
                arm,
                [
                    _point(s.labels, s.interval, s.run_means if len(s.run_means) > 1 else s.draw_means)
                    for s in own
                    if s.arm == arm
                ],
            )
            for arm in dict.fromkeys(s.arm for s in own)
        ]
        gains = [
            Curve(
                f"{arm} over {baseline}" if len(baselines) > 1 else arm,
                [
                    _point(c.labels, c.difference, c.run_means if len(c.run_means) > 1 else c.draw_means)
                    for c in compared
                    if (c.arm, c.baseline) == (arm, baseline)
                ],
            )
            for arm, baseline in dict.fromkeys((c.arm, c.baseline) for c in compared)
        ]
        start = f"{how}: " if how else ""
        rows.append(
            Row(
                curves,
                gains,
                baselines,
                score_title=f"{start}{name}",
                score_name=name,
                gain_title=f"{start}gain over {title}",
                gain_name=f"difference, {name}",
            )
        )
    return draw_rows(rows, path, owner=owner)


def _point(
    labels: int | None, interval: Interval, dots: Sequence[float]
) -> tuple[int, float, float, float, Sequence[float]]:
    """Return a point with its bar; of no length where there is no interval."""
    low, high = (interval.low, interval.high) if interval.known else (interval.estimate,) * 2
    return labels or 0, interval.estimate, low, high, dots


def draw_rows(rows: Sequence[Row], path: Path, *, owner: str = "patient") -> Path:
    """Draw rows of panels over the number of labelled owners; write a PNG aside and rename it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide = any(row.gains for row in rows)
    figure = Figure(figsize=(10.5 if wide else 6, 4.2 * len(rows)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 2 if wide else 1, squeeze=False)
    for row, axes in zip(rows, panels, strict=True):
        numbers = sorted({point[0] for curve in row.scores for point in curve.points})
        place = {n: i for i, n in enumerate(numbers)}
        others = [curve.label for curve in row.scores if curve.label not in row.baseline]
        others += [curve.label for curve in row.gains if curve.label not in (*others, *row.baseline)]
        colour = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(others)}
        _draw(axes[0], row.scores, place, colour, joined=True)
        axes[0].set(ylabel=row.score_name, title=row.score_title)
        axes[0].legend(frameon=False)
        if row.gains:
            _draw(axes[1], row.gains, place, colour, joined=False)
            axes[1].axhline(0, color=_BASELINE_COLOUR, linewidth=1)
            axes[1].set(ylabel=row.gain_name, title=row.gain_title)
            if not {curve.label for curve in row.gains} <= {curve.label for curve in row.scores}:
                axes[1].legend(frameon=False)
        elif wide:
            axes[1].set_axis_off()
        for panel in axes:
            panel.set_xticks(range(len(numbers)), [str(n) for n in numbers])
            panel.set_xlabel(f"labelled {owner}s")
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(axis="y", color="#e5e5e5")
            panel.set_axisbelow(True)
    with atomic_write(path) as aside:
        figure.savefig(aside, format="png")
    return path


def _draw(
    panel: object, curves: Sequence[Curve], place: dict[int, int], colour: dict[str, str], *, joined: bool
) -> None:
    for i, curve in enumerate(curves):
        shift = 0.09 * (i - (len(curves) - 1) / 2)
        places = [place[n] + shift for n, *_ in curve.points]
        means = [point[1] for point in curve.points]
        ends = [[p[1] - p[2] for p in curve.points], [p[3] - p[1] for p in curve.points]]
        shade = colour.get(curve.label, _BASELINE_COLOUR)
        panel.errorbar(  # type: ignore[attr-defined]
            places,
            means,
            yerr=ends,
            color=shade,
            marker="o",
            markersize=5,
            capsize=3,
            label=curve.label,
            linestyle="-" if joined else "none",
        )
        for at, point in zip(places, curve.points, strict=True):
            panel.scatter([at] * len(point[4]), point[4], s=12, color=shade, alpha=0.35, linewidths=0)  # type: ignore[attr-defined]
