"""How series are distinguished: by colour, by dashes of lines and by shapes of points, never by colour alone.

Eight colours and four dashes (or shapes) turn at different pace: 32 series differ in the pair, neighbours in both.
"""

from __future__ import annotations

from html import escape

__all__ = ["colour_class", "dot", "line_class", "swatch"]

_COLOURS = 8  # classes c0 .. c7 of the page's style
_STYLES = 4  # classes d0 .. d3: dashes


def colour_class(series: int) -> str:
    """Return the class of its colour, for what has neither dashes nor shape, such as bars."""
    return f"c{series % _COLOURS}"


def line_class(series: int) -> str:
    """Return the classes of a line: its colour and its dashes."""
    return f"{colour_class(series)} d{_style(series)}"


def dot(series: int, x: float, y: float, size: float, *, title: str = "", more: str = "") -> str:
    """Return a point: a circle, square, triangle or diamond of about the same area.

    Args:
        series: Whose point it is.
        x: Its centre.
        y: Its centre.
        size: Radius of the circle.
        title: Shown on hovering; none for "".
        more: Further classes.
    """
    said = f"<title>{escape(title)}</title>" if title else ""
    kind = f'class="dot {colour_class(series)}{" " if more else ""}{more}"'
    style = _style(series)
    if style == 0:
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="{size:g}">{said}</circle>'
    a = size * (0.89, 1.35, 1.25)[style - 1]
    corners = (
        ((-a, -a), (a, -a), (a, a), (-a, a)),
        ((0, -a), (1.1 * a, 0.75 * a), (-1.1 * a, 0.75 * a)),
        ((0, -a), (a, 0), (0, a), (-a, 0)),
    )[style - 1]
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon {kind} points="{path}">{said}</polygon>'


def swatch(series: int, *, line: bool) -> str:
    """Return the sign of a series in a legend: a piece of its line, or its point."""
    drawn = (
        f'<line class="line {line_class(series)}" x1="0" x2="26" y1="6" y2="6"/>' if line else dot(series, 13, 6, 4.2)
    )
    return f'<svg class="sign" viewBox="0 0 26 12" aria-hidden="true">{drawn}</svg>'


def _style(series: int) -> int:
    return (series + series // _COLOURS) % _STYLES
