"""Paths in what a run keeps: relative to the run, and of the command no more than names of our own things.

A run may be given away; the places of a machine, and names of folders of scans that stood on a command line, stay
behind.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

__all__ = ["kept_command", "kept_value", "same_place"]

_MOST_UPWARDS = 4  # further up lie folders of the system and of people: of those the last name alone is kept
_OURS = ("store.json", "clouds.json", "run.yaml")
_OUR_FILES = {".yaml", ".yml", ".json"}


def kept_value(value: Any, folder: Path) -> Any:
    """Return a setting as a run keeps it: a path that is absolute or begins with "..", as seen from the run's folder.

    All else stays as it is.

    Args:
        value: A setting, or a mapping or list of settings.
        folder: The run.
    """
    if isinstance(value, Mapping):
        return {key: kept_value(inner, folder) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [kept_value(inner, folder) for inner in value]
    if isinstance(value, str) and value.startswith("..") and Path(value).exists():
        value = str(Path(value).absolute())  # as it stands it would mean another place to whoever reads it elsewhere
    if not isinstance(value, str) or not _is_absolute(value):
        return value
    try:
        way = Path(os.path.relpath(value, folder.absolute()))
    except ValueError:  # another drive
        return _name(value)
    far = sum(part == ".." for part in way.parts) > _MOST_UPWARDS
    return _name(value) if far else way.as_posix()


def same_place(kept: Any, now: Any, folder: Path) -> bool:
    """Tell whether a setting that a run kept may be the place that is named now."""
    if not isinstance(kept, str) or not isinstance(now, str):
        return False
    whole = now if _is_absolute(now) else str(Path(now).absolute())
    return kept in (kept_value(whole, folder), whole)


def kept_command(words: Sequence[str]) -> list[str]:
    """Return the words of a command line as a run keeps them: paths of runs, stores and settings by their last name.

    Of any other path, such as a folder of scans, "PATH" stands there.

    Example:
        >>> kept_command(["medssl", "auto", "/data/JANE_DOE", "train.steps=5", "--out", "no/where"])
        ['medssl', 'auto', 'PATH', 'train.steps=5', '--out', 'PATH']
    """
    return [words[0], *map(_kept_word, words[1:])] if words else []


def _kept_word(word: str) -> str:
    key, equals, value = word.partition("=")
    if equals and "/" not in key:
        return f"{key}={_kept_word(value)}"
    path = Path(word)
    try:
        there = bool(word) and path.exists()
        ours = any((path / name).is_file() for name in _OURS)
    except (OSError, ValueError):
        there = ours = False
    if not there and not any(sign in word for sign in "/\\"):
        return word
    if not there and word.count("/") == 1 and not _is_absolute(word) and (word[0].isdigit() or word[-1:].isdigit()):
        return word  # a share, such as 2/8
    return _name(word) if ours or path.suffix in _OUR_FILES else "PATH"


def _is_absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def _name(path: str) -> str:
    text = path.rstrip("/\\")
    return PureWindowsPath(text).name if "\\" in text else PurePosixPath(text).name
