"""Why a scan or cloud could not be stored, noted where its record would lie.

Any process that makes the listing of a store finds the notes of all, whichever shard or machine wrote them.
"""

from __future__ import annotations

import json
from pathlib import Path

from medssl.writing import atomic_write

__all__ = ["NOT_HERE", "forget_failure", "note_failure", "note_name", "noted_failure"]

NOT_HERE = (
    "It was stored by another machine, and is not in this folder. All machines must see the store under the same path: "
    "give --out on a disk that they share."
)
_DAMAGED = "It could not be stored, and the note that says why is damaged."


def note_name(stem: str) -> str:
    """Return the name of the note of a version; ``stem`` names its files."""
    return f"{stem}.failed.json"


def note_failure(folder: Path, stem: str, reason: str) -> None:
    """Write down why a version could not be stored; ``reason`` is kept as it is, so it holds no names."""
    with atomic_write(folder / note_name(stem)) as aside:
        aside.write_text(json.dumps({"reason": reason}, ensure_ascii=False) + "\n", encoding="utf-8")


def noted_failure(folder: Path, stem: str) -> str | None:
    """Return why a version could not be stored; None where nobody has failed at it."""
    path = folder / note_name(stem)
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return _DAMAGED


def forget_failure(folder: Path, stem: str) -> None:
    """Remove the note of a version that is stored now."""
    (folder / note_name(stem)).unlink(missing_ok=True)
