"""Tables of colours: which class a colour of a mask stands for, as a file beside the masks says."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from medssl.errors import FormatError

__all__ = ["NAMES", "Colour", "colour_table_of", "read_colour_table"]

Colour = tuple[int, int, int]
NAMES = ("label_colours", "label_colors", "class_dict")
_SUFFIXES = (".json", ".csv")
_LEVELS = 4  # the masks' folder, and three above it


def colour_table_of(path: Path) -> Path | None:
    """Return the table that holds for a mask or a folder of masks: the nearest above it, None where there is none.

    Args:
        path: The mask's file or folder.
    """
    folder = path if path.is_dir() else path.parent
    for level in (folder, *folder.parents)[:_LEVELS]:
        for name in NAMES:
            for suffix in _SUFFIXES:
                table = level / f"{name}{suffix}"
                if table.is_file():
                    return table
    return None


def read_colour_table(path: Path) -> dict[Colour, int]:
    """Return colour -> class.

    Args:
        path: JSON such as ``{"1": [255, 0, 0], "2": "#00ff00"}`` (class -> colour), or CSV with the columns r, g, b
            and, where classes are not the numbers of the rows from 0, ``value``.

    Raises:
        FormatError: It is no such table, or gives one colour two classes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _of_json(path, json.loads(text)) if path.suffix.lower() == ".json" else _of_csv(path, text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise FormatError(path, f"The table of colours cannot be read ({error}).") from error
    table: dict[Colour, int] = {}
    for colour, value in pairs:
        if table.setdefault(colour, value) != value:
            raise FormatError(path, f"The table of colours gives {colour} to the classes {table[colour]} and {value}.")
        if not 0 <= value <= 32767:
            raise FormatError(path, f"The table of colours has the class {value}; 0 to 32767 is allowed.")
    return table


def _of_json(path: Path, content: Any) -> list[tuple[Colour, int]]:
    if not isinstance(content, dict):
        raise FormatError(path, 'The table of colours is not an object such as {"1": [255, 0, 0]}.')
    return [(_colour(path, colour), int(value)) for value, colour in content.items()]


def _of_csv(path: Path, text: str) -> list[tuple[Colour, int]]:
    lines = [line for line in text.splitlines() if line.strip()]
    rows = list(csv.DictReader(lines, delimiter=max(",;\t", key=(lines or [""])[0].count)))
    plain = [{(key or "").strip().lower(): (cell or "").strip() for key, cell in row.items() if key} for row in rows]
    if not plain or not {"r", "g", "b"} <= set(plain[0]):
        raise FormatError(path, "The table of colours has no columns r, g and b.")
    return [
        (_colour(path, [row["r"], row["g"], row["b"]]), int(row.get("value") or number))
        for number, row in enumerate(plain)
    ]


def _colour(path: Path, said: Any) -> Colour:
    if isinstance(said, str) and len(said.lstrip("#")) == 6:
        said = [int(said.lstrip("#")[n : n + 2], 16) for n in (0, 2, 4)]
    parts = [int(part) for part in said] if isinstance(said, list) else []
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise FormatError(
            path, f"The table of colours has the colour {said!r}; [red, green, blue] from 0 to 255 is one."
        )
    return parts[0], parts[1], parts[2]
