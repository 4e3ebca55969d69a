"""Charts as inline SVG: small, sharp at any width, and in the page's own colours, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from medssl.reporting.chart_data import data_link
from medssl.reporting.chart_marks import colour_class, dot, line_class, swatch

__all__ = ["Marks", "Series", "histogram_chart", "interval_chart", "line_chart", "scatter_chart"]

_WIDTH, _HEIGHT = 360.0, 210.0
_LEFT, _RIGHT, _TOP, _FOOT = 46.0, 18.0, 10.0, 34.0


@dataclass(frozen=True)
class Series:
    """One line: a name, and (x, y) pairs in rising x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Marks:
    """One arm at each place: (place, estimate, low, high, single draws); low and high may be NaN."""

    name: str
    points: Sequence[tuple[str, float, float, float, Sequence[float]]]
    colour: int = 0


@dataclass(frozen=True)
class _Frame:
    """The mapping from values to the drawing."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.low_x) / (self.high_x - self.low_x) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _FOOT - (value - self.low_y) / (self.high_y - self.low_y) * (_HEIGHT - _FOOT - _TOP)


def line_chart(series: Sequence[Series], *, what: str, x_name: str = "step", zero: bool = False) -> str:
    """Return lines over x; "" where nothing is measured at two places at least.

    Args:
        series: The lines; values that are not finite are left out.
        what: What the chart shows, for those who cannot see it.
        x_name: Name of the horizontal axis.
        zero: Whether the vertical axis starts at 0.
    """
    kept = [Series(s.name, [(x, y) for x, y in s.points if math.isfinite(x) and math.isfinite(y)]) for s in series]
    kept = [s for s in kept if s.points]
    if len({x for s in kept for x, _ in s.points}) < 2:
        return ""
    xs = [x for s in kept for x, _ in s.points]
    ys = [y for s in kept for _, y in s.points]
    frame = _frame(min(xs), max(xs), 0.0 if zero else min(ys), max(ys))
    parts = _axes(frame, x_name)
    told = []
    for i, line in enumerate(kept):
        drawn = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline class="line {line_class(i)}" points="{drawn}"/>')
        if len(line.points) <= 12:
            parts += [
                dot(i, frame.x(x), frame.y(y), 2.6, title=f"{line.name}, {x_name} {x:g}: {y:.4g}")
                for x, y in line.points
            ]
        first, last = line.points[0], line.points[-1]
        told.append(f"{line.name} from {first[1]:.3g} at {x_name} {first[0]:g} to {last[1]:.3g} at {last[0]:g}")
    data = data_link(("series", x_name, "value"), ((s.name, float(x), float(y)) for s in kept for x, y in s.points))
    return _svg(parts, f"{what}: {'; '.join(told)}") + _legend([s.name for s in kept], lines=True) + data


def scatter_chart(points: Sequence[tuple[float, float, str, str]], *, what: str, x_name: str, y_name: str) -> str:
    """Return points coloured by group; "" for none.

    Args:
        points: (x, y, group, name), the name shown on hovering.
        what: What the chart shows, for those who cannot see it.
        x_name: Name of the horizontal axis.
        y_name: Name of the vertical axis.
    """
    if not points:
        return ""
    groups = list(dict.fromkeys(group for _, _, group, _ in points))
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    frame = _frame(min(xs), max(xs), min(ys), max(ys))
    parts = _axes(frame, x_name, y_name)
    parts += [
        dot(groups.index(group), frame.x(x), frame.y(y), 4, title=name, more="soft-dot") for x, y, group, name in points
    ]
    counts = ", ".join(f"{sum(p[2] == g for p in points)} {g}" for g in groups)
    data = data_link((x_name, y_name, "group", "name"), ((float(x), float(y), *of) for x, y, *of in points))
    return _svg(parts, f"{what}: {counts}") + _legend(groups) + data


def interval_chart(arms: Sequence[Marks], *, what: str, x_name: str, baseline: float | None = None) -> str:
    """Return estimates with their intervals at named places, arms side by side; "" for none.

    Args:
        arms: What is compared.
        what: What the chart shows, for those who cannot see it.
        x_name: Name of the horizontal axis.
        baseline: A value to mark with a line, such as 0 for differences.
    """
    places = list(dict.fromkeys(point[0] for arm in arms for point in arm.points))
    values = [v for arm in arms for _, *ends, draws in arm.points for v in (*ends, *draws) if math.isfinite(v)]
    if not places or not values:
        return ""
    values += [] if baseline is None else [baseline]
    frame = _frame(-0.5, len(places) - 0.5, min(values), max(values), exact_x=True)
    parts = _axes(frame, x_name, ticks=False)
    for i, place in enumerate(places):
        parts.append(
            f'<text x="{frame.x(i):.1f}" y="{_HEIGHT - _FOOT + 14}" text-anchor="middle">{escape(place)}</text>'
        )
    if baseline is not None:
        at = frame.y(baseline)
        parts.append(f'<line class="mark" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
    told = []
    for i, arm in enumerate(arms):
        shift = 0.16 * (i - (len(arms) - 1) / 2)
        styled = line_class(arm.colour)
        spots = [frame.x(places.index(point[0]) + shift) for point in arm.points]
        if baseline is None and len(spots) > 1:
            drawn = " ".join(f"{x:.1f},{frame.y(p[1]):.1f}" for x, p in zip(spots, arm.points, strict=True))
            parts.append(f'<polyline class="line thin {styled}" points="{drawn}"/>')
        for x, (place, estimate, low, high, draws) in zip(spots, arm.points, strict=True):
            ends = f" ({low:.3f} to {high:.3f})" if math.isfinite(low) else ""
            if ends:
                parts.append(
                    f'<line class="line {styled}" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(low):.1f}" '
                    f'y2="{frame.y(high):.1f}"/>'
                )
            parts += [dot(arm.colour, x, frame.y(d), 2, more="faint") for d in draws if math.isfinite(d)]
            text = f"{arm.name}, {x_name} {place}: {estimate:.3f}{ends}"
            parts.append(dot(arm.colour, x, frame.y(estimate), 4, title=text))
            told.append(text)
    data = data_link(
        ("arm", x_name, "estimate", "low", "high", "draws"),
        ((arm.name, *ends, " ".join(f"{d:.6g}" for d in draws)) for arm in arms for *ends, draws in arm.points),
    )
    return _svg(parts, f"{what}: {'; '.join(told)}") + _legend([a.name for a in arms], [a.colour for a in arms]) + data


def histogram_chart(
    groups: Sequence[tuple[str, Sequence[float]]],
    *,
    what: str,
    x_name: str,
    ends: tuple[float, float],
    marks: Sequence[tuple[float, str]] = (),
    bins: int = 40,
) -> str:
    """Return stacked bars of how many values lie where, with vertical lines at thresholds; "" for no values.

    Args:
        groups: (name, values); values outside of the ends count as the end.
        what: What the chart shows, for those who cannot see it.
        x_name: Name of the horizontal axis.
        ends: The lowest and highest value drawn.
        marks: (value, name) of each threshold.
        bins: Bars over the width.
    """
    low, high = ends
    known = [(name, [v for v in values if math.isfinite(v)]) for name, values in groups]
    known = [(name, values) for name, values in known if values]
    if not known or not high > low:
        return ""
    counts = []
    for _, values in known:
        row = [0] * bins
        for value in values:
            row[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
        counts.append(row)
    frame = _frame(low, high, 0.0, float(max(sum(column) for column in zip(*counts, strict=True))), exact_x=True)
    parts = _axes(frame, x_name, "pairs")
    thick = (frame.x(high) - frame.x(low)) / bins
    for place in range(bins):
        foot = 0
        for i, row in enumerate(counts):
            if row[place]:
                top, under = frame.y(foot + row[place]), frame.y(foot)
                title = f"<title>{escape(known[i][0])}: {row[place]}</title>"
                left = frame.x(low) + place * thick + 0.4
                parts.append(
                    f'<rect class="dot {colour_class(i)}" x="{left:.1f}" y="{top:.1f}" '
                    f'width="{thick - 0.8:.1f}" height="{under - top:.1f}">{title}</rect>'
                )
                foot += row[place]
    for value, name in marks:
        at, title = frame.x(value), f"<title>{escape(name)} {_number(value)}</title>"
        span = f'y1="{_TOP}" y2="{_HEIGHT - _FOOT}"'
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" {span}>{title}</line>')
    told = ", ".join(f"{len(values)} {name}" for name, values in known)
    lines = "; ".join(f"{name} {_number(value)}" for value, name in sorted(marks))
    note = f'<p class="soft small">Dashed lines, from the left: {escape(lines)}.</p>' if lines else ""
    data = data_link(
        ("group", "from", "to", "pairs"),
        (
            (name, low + place * (high - low) / bins, low + (place + 1) * (high - low) / bins, row[place])
            for (name, _), row in zip(known, counts, strict=True)
            for place in range(bins)
            if row[place]
        ),
    )
    legend = _legend([name for name, _ in known], bars=True)
    return _svg(parts, f"{what}: {told}{'; ' if lines else ''}{lines}") + legend + note + data


def _frame(low_x: float, high_x: float, low_y: float, high_y: float, *, exact_x: bool = False) -> _Frame:
    wide = (high_x - low_x) or 1.0
    tall = (high_y - low_y) or abs(high_y) or 1.0
    side = 0.0 if exact_x else 0.02 * wide
    below = 0.0 if low_y == 0 else 0.06 * tall
    return _Frame(low_x - side, high_x + side, low_y - below, high_y + 0.06 * tall)


def _axes(frame: _Frame, x_name: str, y_name: str = "", *, ticks: bool = True) -> list[str]:
    parts = []
    for value in _ticks(frame.low_y, frame.high_y, 4):
        at = frame.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{_number(value)}</text>')
    for value in _ticks(frame.low_x, frame.high_x, 5) if ticks else ():
        parts.append(
            f'<text x="{frame.x(value):.1f}" y="{_HEIGHT - _FOOT + 14}" text-anchor="middle">{_number(value)}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_name)}</text>'
    )
    if y_name:
        parts.append(
            f'<text transform="rotate(-90)" x="{-(_HEIGHT - _FOOT + _TOP) / 2}" y="10" text-anchor="middle">'
            f"{escape(y_name)}</text>"
        )
    return parts


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Return round values between the ends, about so many."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough), rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    """Return a short number: 0.05, 1500, 20k, 7.5e-4."""
    if abs(value) >= 10_000 and value % 1000 == 0:
        return f"{value / 1000:g}k"
    if 0 < abs(value) < 1e-3:
        mantissa, power = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(power)}"
    return f"{value:.4g}"


def _svg(parts: Sequence[str], told: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(told)}">'
        f"{''.join(parts)}</svg>"
    )


def _legend(
    names: Sequence[str], series: Sequence[int] | None = None, *, lines: bool = False, bars: bool = False
) -> str:
    """Return the names beside their signs; none for a single line, whose name is the chart's title."""
    if len(names) < 2:
        return ""
    picked = series if series is not None else range(len(names))
    signs = [f'<i class="swatch {colour_class(i)}"></i>' if bars else swatch(i, line=lines) for i in picked]
    items = "".join(f"<span>{sign}{escape(name)}</span>" for name, sign in zip(names, signs, strict=True))
    return f'<p class="legend">{items}</p>'
