"""An entry and its statistics as a line of ``store.json`` has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medssl.errors import CacheError
from medssl.normalising import Statistics
from medssl.store.entry import ONE, Channel, Entry

__all__ = ["Known", "Packed", "Parsed", "entry_of", "line_of", "row_of", "statistics_of_rows", "statistics_rows"]

Known = tuple[Statistics | None, ...]  # of each channel, None of one that the case lacks


class Parsed(Mapping[str, Known]):
    """Statistics by the scan's id, made of their rows where they are asked for: they are most of a listing.

    Args:
        rows: As ``store.json`` has them.
        where: The file, for errors.

    Raises:
        CacheError: What is asked for is damaged.
    """

    def __init__(self, rows: Mapping[str, Any], where: str) -> None:
        self._rows, self._where = rows, where

    def __getitem__(self, scan: str) -> Known:
        row = self._rows[scan]
        try:
            return statistics_of_rows(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CacheError(
                f"{self._where}: the statistics of {scan!r} are damaged ({error!r}). Run `medssl cache` again."
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class Packed(Mapping[str, Known]):
    """Statistics by the scan's id, held as lines: as objects they take ten times the memory."""

    def __init__(self, lines: Mapping[str, str]) -> None:
        self._lines = lines

    def __getitem__(self, scan: str) -> Known:
        return statistics_of_rows(json.loads(self._lines[scan]))

    def line(self, scan: str) -> str:
        """Return the statistics of a scan as they are held."""
        return self._lines[scan]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def line_of(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def row_of(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON has it; a single channel without a name leaves no trace: older versions read it too."""
    row = asdict(entry)
    for each in (row, *row["more"]):  # what a run says of its input is none of the store's
        del each["scheme"], each["numbers"]
    if entry.channel == ONE:
        del row["channel"]
    if not entry.more:
        del row["more"]
    return row


def entry_of(row: Mapping[str, Any]) -> Entry:
    """Return the entry of a row."""
    values = {name: _tuples(value) for name, value in row.items() if name != "more"}
    more = ({name: _tuples(value) for name, value in channel.items()} for channel in row.get("more", ()))
    return Entry(**values, more=tuple(Channel(**channel) for channel in more))


def statistics_rows(known: Sequence[Statistics | None]) -> list[dict[str, Any] | None]:
    """Return the statistics of a scan as JSON has them."""
    return [None if one is None else asdict(one) for one in known]


def statistics_of_rows(rows: Sequence[Mapping[str, Any] | None]) -> Known:
    """Return the statistics of a scan."""
    kept = ({name: _tuples(value) for name, value in row.items()} if row is not None else None for row in rows)
    return tuple(None if row is None else Statistics(**row) for row in kept)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
