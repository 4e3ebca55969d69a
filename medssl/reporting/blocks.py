"""What a page consists of: a handful of kinds of block, plain data that the template lays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from medssl.reporting.pictures import Plane

__all__ = ["Block", "Charts", "Details", "Listing", "Overlays", "Picture", "Section", "Table", "Text", "Tiles"]


@dataclass(frozen=True)
class Block:
    """Anything on the page; ``kind`` names its macro in the template."""

    kind: ClassVar[str] = ""


@dataclass(frozen=True)
class Text(Block):
    """A paragraph; ``tone`` is "", "soft", "good", "bad", "doubt" or "head" (a small heading)."""

    kind: ClassVar[str] = "text"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Tiles(Block):
    """Large numbers with what they count."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table(Block):
    """A table; on a phone each row becomes a card, of a ``matrix`` it stays a table: rows and columns mean the same."""

    kind: ClassVar[str] = "table"
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    note: str = ""
    matrix: bool = False


@dataclass(frozen=True)
class Charts(Block):
    """Charts side by side: (title, SVG, note). The SVG is made in `charts` and goes in as it is."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Picture(Block):
    """A picture with its alternative text and caption."""

    kind: ClassVar[str] = "picture"
    source: str
    width: int
    height: int
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Overlays(Block):
    """Three planes of a scan with contours: (caption, alternative text, planes) each.

    Attributes:
        figures: One a scan.
        contours: Name of each contour set, in the order of ``Plane.paths``.
        boxed: Whether the planes show body boxes.
        small: Whether they are thumbnails.
    """

    kind: ClassVar[str] = "overlays"
    figures: Sequence[tuple[str, str, Sequence[Plane]]]
    contours: Sequence[str] = ()
    boxed: bool = False
    small: bool = False


@dataclass(frozen=True)
class Listing(Block):
    """Names and values; values may be long."""

    kind: ClassVar[str] = "listing"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Details(Block):
    """Blocks that open on a click."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        blocks: What it holds.
    """

    key: str
    title: str
    blocks: Sequence[Block]
