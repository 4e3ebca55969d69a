"""The picture of a few-label comparison: score over the number of labelled patients, and the gain over the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.evaluation.class_arms import ArmTable
from medssl.evaluation.summary import FewLabelSummary
from medssl.writing import written_aside

__all__ = ["METRIC_NAMES", "Curve", "Row", "draw_arms", "draw_few_label", "draw_rows"]

METRIC_NAMES = {
    "dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)", "nsd": "surface Dice",
    "auroc": "AUROC", "auprc": "AUPRC", "balanced_accuracy": "balanced accuracy", "accuracy": "accuracy",
    "brier": "Brier score", "ece": "calibration error", "f1": "F1", "part_iou": "mean IoU of parts",
}  # fmt: skip
# Okabe and Ito's colours: told apart by colour-blind readers. The baseline is grey.
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


def draw_few_label(summary: FewLabelSummary, path: Path) -> Path:
    """Draw the curve of each arm with its intervals and draws, and beside it the paired differences; write a PNG.

    Args:
        summary: The tables of the comparison.
        path: The file to write; written aside and renamed.
    """
    arms = list(dict.fromkeys(row.arm for row in summary.sizes))
    baselines = sorted({comparison.baseline for comparison in summary.comparisons} or {arms[0]})
    name = METRIC_NAMES.get(summary.metric, summary.metric)
    scores = [
        Curve(
            arm, [(r.n, r.mean.estimate, r.mean.low, r.mean.high, r.draw_means) for r in summary.sizes if r.arm == arm]
        )
        for arm in arms
    ]
    gains = [
        Curve(arm, [(c.n or 0, c.result.median.estimate, c.result.median.low, c.result.median.high, ())
                    for c in summary.comparisons if c.arm == arm])
        for arm in arms
    ]  # fmt: skip
    row = Row(
        scores,
        [curve for curve in gains if curve.points],
        baselines,
        score_title=f"{name} on the test patients",
        score_name=name,
        gain_title=f"gain over {', '.join(baselines)}, per patient",
        gain_name=f"median paired difference, {name}",
    )
    return draw_rows([row], path)


def draw_arms(table: ArmTable, path: Path, *, against: str, owner: str = "patient") -> Path:
    """Draw the curve of each method with intervals and runs, and the gain over the baseline; a row a way of fitting.

    Args:
        table: The comparison.
        path: The PNG to write; written aside and renamed.
        against: What the baseline is, in words.
        owner: Whose labels were drawn.
    """
    name = METRIC_NAMES.get(table.metric, table.metric)
    baselines = sorted({c.baseline for c in table.comparisons})
    rows = []
    for how in dict.fromkeys(row.how for row in table.scores):
        arms = list(dict.fromkeys(row.arm for row in table.scores if row.how == how))
        scores = [
            Curve(arm, [(r.n, r.mean.estimate, r.mean.low, r.mean.high, r.run_means)
                        for r in table.scores if (r.how, r.arm) == (how, arm)])
            for arm in arms
        ]  # fmt: skip
        gains = [
            Curve(arm, [(c.n, c.difference.estimate, c.difference.low, c.difference.high, c.run_means)
                        for c in table.comparisons if (c.how, c.arm) == (how, arm)])
            for arm in arms
        ]  # fmt: skip
        rows.append(
            Row(
                scores, [curve for curve in gains if curve.points], baselines, score_title=f"{how}: {name}",
                score_name=name, gain_title=f"{how}: gain over {against}", gain_name=f"difference, {name}",
            )
        )  # fmt: skip
    return draw_rows(rows, path, owner=owner)


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
        colour = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(others)}
        _draw(axes[0], row.scores, place, colour, joined=True)
        axes[0].set(ylabel=row.score_name, title=row.score_title)
        axes[0].legend(frameon=False)
        if row.gains:
            _draw(axes[1], row.gains, place, colour, joined=False)
            axes[1].axhline(0, color=_BASELINE_COLOUR, linewidth=1)
            axes[1].set(ylabel=row.gain_name, title=row.gain_title)
        elif wide:
            axes[1].set_axis_off()
        for panel in axes:
            panel.set_xticks(range(len(numbers)), [str(n) for n in numbers])
            panel.set_xlabel(f"labelled {owner}s")
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(axis="y", color="#e5e5e5")
            panel.set_axisbelow(True)
    with written_aside(path) as aside:
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
            places, means, yerr=ends, color=shade, marker="o", markersize=5, capsize=3, label=curve.label,
            linestyle="-" if joined else "none",
        )  # fmt: skip
        for at, point in zip(places, curve.points, strict=True):
            panel.scatter([at] * len(point[4]), point[4], s=12, color=shade, alpha=0.35, linewidths=0)  # type: ignore[attr-defined]
