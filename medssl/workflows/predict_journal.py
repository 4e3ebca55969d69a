"""What a folder of predictions remembers: one line for each thing that began and ended, so that nothing is done twice.

``journal.jsonl`` only grows. A line that was being written when the process died is passed over. What a folder holds
and the journal does not name is the user's, and is never written over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.errors import ConfigError
from medssl.locking import LOCK
from medssl.quoting import quoted
from medssl.writing import disk_faults, sync

__all__ = ["JOURNAL", "WORK", "Done", "Journal"]

JOURNAL = "journal.jsonl"
WORK = ".medssl-work"
_ASIDE = ".writing-"  # begins the names of files that `medssl.writing` has not renamed yet
_VERSION = 1
_BEGINS = '{"version": '


@dataclass(frozen=True)
class Done:
    """How an item ended.

    Attributes:
        key: Hash of its bytes and of how it was prepared.
        files: Names of its files in the folder.
        rows: Its rows of the table.
        differs: How it differs from what was trained on.
        reason: Why it failed, "" where it did not.
    """

    key: str
    files: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    differs: tuple[str, ...] = ()
    reason: str = ""


@dataclass
class Journal:
    """The journal of a folder.

    Args:
        folder: The folder of predictions.
        made_with: Hash of the runs and of how they predict.
        done: Item -> how it ended last.
        own: Names of files that predict wrote, or was about to.
    """

    folder: Path
    made_with: str
    done: dict[str, Done] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, folder: Path, made_with: str, *, overwrite: bool = False) -> Journal:
        """Open the journal of a folder, or begin one.

        Args:
            folder: Made where it is missing.
            made_with: Of the predictions that will be written.
            overwrite: Begin anew where the folder holds predictions of other runs or settings.

        Raises:
            ConfigError: The folder holds what predict did not write, or predictions of other runs or settings.
        """
        lines = _lines(folder / JOURNAL)
        if not lines:
            there = [] if not folder.is_dir() else sorted(path.name for path in folder.iterdir())
            ours = (LOCK, WORK, JOURNAL)  # a journal without a line: the disk was full, or the process died
            strange = [name for name in there if name not in ours and not name.startswith(_ASIDE)]
            if strange:
                shown = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
                raise ConfigError(
                    f"{folder}: --out holds what predict did not write ({shown}). Give a new folder, or an empty one."
                )
        for path in folder.glob(f"{_ASIDE}*"):  # what was being written when the process died
            path.unlink(missing_ok=True)
        before = next((line["made_with"] for line in lines if "made_with" in line), made_with)
        journal = cls(folder, made_with)
        journal._take(lines)
        if before != made_with:
            if not overwrite:
                raise ConfigError(
                    f"{folder}: --out holds predictions of another run or of other settings. Give another folder, or "
                    f"let them be replaced with --overwrite."
                )
            journal._forget()
            lines = []
        if not lines:
            journal._append({"version": _VERSION, "made_with": made_with})
        return journal

    def name_of(self, wanted: Sequence[str]) -> list[str]:
        """Return which of these names stand in the folder and are not predict's own."""
        return [name for name in wanted if name not in self.own and (self.folder / name).exists()]

    def finished(self, item: str, key: str) -> Done | None:
        """Return how an item ended, where that was well, of the same bytes, and its files are there."""
        done = self.done.get(item)
        if done is None or done.reason or done.key != key:
            return None
        return done if all((self.folder / name).is_file() for name in done.files) else None

    def begin(self, item: str, files: Sequence[str]) -> None:
        """Note which files an item is about to write."""
        new = [name for name in files if name not in self.own]
        if new:
            self._append({"begins": item, "files": new})
            self.own |= set(new)

    def end(self, item: str, done: Done) -> None:
        """Note how an item ended, once its files are on the disk."""
        line = {"item": item, "key": done.key, "files": done.files, "rows": done.rows, "differs": done.differs}
        self._append({**line, "reason": done.reason} if done.reason else line)
        self.done[item] = done

    def _append(self, line: Mapping[str, Any]) -> None:
        path = self.folder / JOURNAL
        with disk_faults(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            fresh = not path.exists()
            with path.open("ab") as file:
                if not fresh and file.tell() and not _ends_whole(path):
                    file.write(b"\n")  # the line that was being written when the process died
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                sync(self.folder)

    def _take(self, lines: Sequence[Mapping[str, Any]]) -> None:
        for line in lines:
            self.own |= set(line.get("files", ()))
            if "item" in line:
                self.done[line["item"]] = Done(
                    key=line["key"],
                    files=tuple(line["files"]),
                    rows=tuple(line["rows"]),
                    differs=tuple(line["differs"]),
                    reason=line.get("reason", ""),
                )

    def _forget(self) -> None:
        """Remove what predict wrote before, and the journal of it."""
        for name in sorted(self.own):
            if Path(name).name == name:
                (self.folder / name).unlink(missing_ok=True)
        (self.folder / JOURNAL).unlink(missing_ok=True)
        self.done.clear()
        self.own.clear()


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal.

    Raises:
        ConfigError: It is no journal, or one of another release.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    if "\n" not in text and _BEGINS.startswith(text[: len(_BEGINS)]):
        return []  # the first line was never whole
    found = []
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict):
            found.append(said)
    if text.strip() and (not found or found[0].get("version") != _VERSION):
        raise ConfigError(
            f"{path}: no journal of predictions that this release reads. Give another --out than {quoted(path.parent)}."
        )
    return found


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
