"""How objects show themselves in a terminal and in a notebook: a title, facts under each other, and a small table.

Text of files reaches a screen by `medssl.quoting.visible` and a page escaped; a page needs no script and no network.
"""

from __future__ import annotations

import html
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medssl.quoting import visible

__all__ = ["Sheet", "ShowsItself", "counts", "said"]

_MOST_ROWS = 12
_WIDEST = 60


@dataclass(frozen=True, repr=False)
class Sheet:
    """What an object shows of itself.

    Attributes:
        title: One line: what it is, and how much of it.
        facts: Names and what is said of each; empty ones are left out.
        heads: Heads of the table; none: there is no table.
        rows: Its rows; the first are shown, the others counted.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(
        cls, title: str, facts: Mapping[str, Any], heads: Sequence[str] = (), rows: Iterable[Sequence[Any]] = ()
    ) -> Sheet:
        """Return a sheet of values of any kind; a fact without a value is left out."""
        told = tuple((name, text) for name, value in facts.items() if (text := said(value)))
        return cls(title, told, tuple(heads), tuple(tuple(said(cell) for cell in row) for row in rows))

    def text(self) -> str:
        """Return it for a terminal: a few aligned lines."""
        facts = [(visible(name), visible(text)) for name, text in self.facts]
        wide = max((len(name) for name, _ in facts), default=0)
        lines = [visible(self.title), *(f"  {name:<{wide}}  {text}" for name, text in facts)]
        if self.heads:
            cells = [[_short(visible(cell)) for cell in row] for row in (self.heads, *self.rows[:_MOST_ROWS])]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            lines += ["  " + "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*lines, *([f"  {self._rest}"] if self._rest else [])])

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        facts = "".join(f"<tr><th>{_cell(name)}</th><td>{_cell(text)}</td></tr>" for name, text in self.facts)
        heads = "".join(f"<th>{_cell(head)}</th>" for head in self.heads)
        rows = "".join(f"<tr>{''.join(f'<td>{_cell(c)}</td>' for c in row)}</tr>" for row in self.rows[:_MOST_ROWS])
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if heads else ""
        rest = f"<p>{_cell(self._rest)}</p>" if self._rest else ""
        return f"<p><b>{_cell(self.title)}</b></p>{f'<table>{facts}</table>' if facts else ''}{table}{rest}"

    @property
    def _rest(self) -> str:
        more = len(self.rows) - _MOST_ROWS
        return f"... and {more} more" if more > 0 else ""


class ShowsItself:
    """An object that says what it is in a terminal and in a notebook, by its `sheet`."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = ShowsItself.__repr__  # type: ignore[method-assign]  # else a dataclass writes its own

    @abstractmethod
    def sheet(self) -> Sheet:
        """Return what is shown of it."""

    def __repr__(self) -> str:
        """Show it in a terminal."""
        return self.sheet().text()

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return self.sheet()._repr_html_()


def said(value: Any) -> str:
    """Return a value in a few words: of what holds many things their number, "" of nothing.

    Example:
        >>> said((1, 2, 3)), said({"a": 1}), said(0.5), said(None), said(("ct", "pet"))
        ('1, 2, 3', '1', '0.5', '', 'ct, pet')
    """
    if value is None or value == () or value == "":
        return ""
    if isinstance(value, ShowsItself):
        return value.sheet().title
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return str(len(value)) if value else ""
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        plain = all(isinstance(one, str | int | float) for one in value) and len(value) <= _MOST_ROWS
        return ", ".join(map(said, value)) if plain else str(len(value))
    return repr(value).splitlines()[0] if not isinstance(value, str | int) and hasattr(value, "frame") else str(value)


def counts(names: Iterable[str]) -> str:
    """Return how often each name stands there.

    Example:
        >>> counts(["train", "test", "train", ""])
        'train 2, test 1, none 1'
    """
    found: dict[str, int] = {}
    for name in names:
        found[name or "none"] = found.get(name or "none", 0) + 1
    return ", ".join(f"{name} {n}" for name, n in found.items())


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _cell(text: str) -> str:
    return html.escape(visible(text))
