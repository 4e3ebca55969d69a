"""The picture of a few-label comparison: score over the number of labelled patients, and the gain over the baseline."""

from __future__ import annotations

from pathlib import Path

from medssl.evaluation.summary import FewLabelSummary
from medssl.writing import written_aside

__all__ = ["METRIC_NAMES", "draw_few_label"]

METRIC_NAMES = {"dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)", "nsd": "surface Dice"}
# Okabe and Ito's colours: told apart by colour-blind readers. The baseline is grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BASELINE_COLOUR = "#6b6b6b"


def draw_few_label(summary: FewLabelSummary, path: Path) -> Path:
    """Draw the curve of each arm with its intervals and draws, and beside it the paired differences; write a PNG.

    Args:
        summary: The tables of the comparison.
        path: The file to write; written aside and renamed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    arms = list(dict.fromkeys(row.arm for row in summary.sizes))
    numbers = sorted({row.n for row in summary.sizes})
    place = {n: i for i, n in enumerate(numbers)}
    baselines = {comparison.baseline for comparison in summary.comparisons} or {arms[0]}
    compared = [arm for arm in arms if any(c.arm == arm for c in summary.comparisons)]
    others = [arm for arm in arms if arm not in baselines]
    colour = {arm: _COLOURS[i % len(_COLOURS)] for i, arm in enumerate(others)}
    name = METRIC_NAMES.get(summary.metric, summary.metric)

    figure = Figure(figsize=(10.5, 4.2) if compared else (6, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if compared else 1, squeeze=False)[0]
    for i, arm in enumerate(arms):
        rows = sorted((row for row in summary.sizes if row.arm == arm), key=lambda row: row.n)
        shift = 0.09 * (i - (len(arms) - 1) / 2)
        places = [place[row.n] + shift for row in rows]
        means = [row.mean.estimate for row in rows]
        ends = [
            [row.mean.estimate - row.mean.low for row in rows],
            [row.mean.high - row.mean.estimate for row in rows],
        ]
        shade = colour.get(arm, _BASELINE_COLOUR)
        panels[0].errorbar(places, means, yerr=ends, color=shade, marker="o", markersize=5, capsize=3, label=arm)
        for at, row in zip(places, rows, strict=True):
            panels[0].scatter([at] * len(row.draw_means), row.draw_means, s=12, color=shade, alpha=0.35, linewidths=0)
    panels[0].set(ylabel=name, title=f"{name} on the test patients")
    panels[0].legend(frameon=False)
    if compared:
        for i, arm in enumerate(compared):
            own = [c for c in summary.comparisons if c.arm == arm]
            places = [place[c.n or 0] + 0.09 * (i - (len(compared) - 1) / 2) for c in own]
            medians = [c.result.median for c in own]
            panels[1].errorbar(
                places,
                [m.estimate for m in medians],
                yerr=[[m.estimate - m.low for m in medians], [m.high - m.estimate for m in medians]],
                color=colour.get(arm, _BASELINE_COLOUR),
                marker="o",
                markersize=5,
                capsize=3,
                linestyle="none",
                label=arm,
            )
        panels[1].axhline(0, color=_BASELINE_COLOUR, linewidth=1)
        panels[1].set(
            ylabel=f"median paired difference, {name}", title=f"gain over {', '.join(sorted(baselines))}, per patient"
        )
    for panel in panels:
        panel.set_xticks(range(len(numbers)), [str(n) for n in numbers])
        panel.set_xlabel("labelled patients")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e5e5e5")
        panel.set_axisbelow(True)
    with written_aside(path) as aside:
        figure.savefig(aside, format="png")
    return path
