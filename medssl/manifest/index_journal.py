"""What was read of a folder so far, so that a killed index goes on, and several machines can read parts of one folder.

Each process adds lines to a file of its own beside the manifest, and all read all of them. A line holds where its row
was made of the very same source in the same way, and the files are as they were. The files hold paths, as a manifest
does; they are for the user alone, and are removed once the manifest is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medssl.errors import DiskError
from medssl.manifest.columns import COLUMNS
from medssl.manifest.describe import CONTENT_SCHEME
from medssl.manifest.freshness import state_of
from medssl.manifest.sources import Source

__all__ = ["IndexJournal"]

_VERSION = 1  # raise when the same source comes to give another row
_SUFFIX = "jsonl"


class IndexJournal:
    """The rows that were read for a manifest that is still to be written.

    Args:
        manifest: Its file.
        shard: (index from 0, count) of the part that this process reads.
        recipe: What rows depend on beside their source: depth, how labels and series are understood.
        fresh: Leave out what earlier calls have read; of several parts, what this one has.

    Attributes:
        shard: As given.
    """

    def __init__(
        self, manifest: Path, shard: tuple[int, int] = (0, 1), *, recipe: Mapping[str, Any], fresh: bool = False
    ) -> None:
        self.shard = shard
        self._manifest = manifest
        self._recipe = json.dumps([_VERSION, CONTENT_SCHEME, dict(recipe)], sort_keys=True)
        part, parts = shard
        self._own = manifest.with_name(f".{manifest.name}.read-{part + 1}-of-{parts}.{_SUFFIX}")
        self._rows: dict[str, dict[str, Any]] = {}
        if fresh and parts == 1:
            self.remove()
        elif fresh:
            self._own.unlink(missing_ok=True)
        for file in self._files():
            self._rows |= _lines(file)

    def known(self, source: Source) -> dict[str, Any] | None:
        """Return the row of a source that was read by an earlier call, or another shard, and still holds."""
        row = self._rows.get(self._key(source))
        if row is None:
            return None
        whole = dict.fromkeys(COLUMNS) | row
        try:
            return row if state_of(whole) == "same" else None
        except OSError:
            return row if whole["error"] is not None else None  # what is not there is not there still

    def add(self, source: Source, row: Mapping[str, Any]) -> None:
        """Keep a row, one with an error too: other shards need not wait for it. The next index tries its scan again.

        Raises:
            DiskError: The file cannot be written to.
        """
        # A line that a killed run left unfinished ends here and is skipped when read.
        line = "\n" + json.dumps({"key": self._key(source), "row": row}, ensure_ascii=False) + "\n"
        try:
            self._own.parent.mkdir(parents=True, exist_ok=True)
            self._own.touch(mode=0o600)
            with self._own.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise DiskError.of(self._own, error) from error

    def remove(self) -> None:
        """Remove the files of all shards: the manifest has all of it."""
        for file in self._files():
            with suppress(OSError):
                file.unlink()

    def _files(self) -> list[Path]:
        start = f".{self._manifest.name}.read-"
        try:
            return sorted(
                file
                for file in self._manifest.parent.iterdir()
                if file.name.startswith(start) and file.suffix == f".{_SUFFIX}"
            )
        except OSError:
            return []

    def _key(self, source: Source) -> str:
        return hashlib.sha256((self._recipe + json.dumps(asdict(source), default=str)).encode()).hexdigest()


def _lines(file: Path) -> dict[str, dict[str, Any]]:
    found = {}
    try:
        with file.open("rb") as lines:
            for line in lines:
                try:
                    said = json.loads(line)
                    found[said["key"]] = dict(said["row"])
                except (ValueError, KeyError, TypeError):
                    continue
    except OSError:
        return {}
    return found
