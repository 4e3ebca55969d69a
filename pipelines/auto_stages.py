"""What a chain of verbs has done so far: a stage is done again only where its inputs have changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medssl.formats.files import written_aside

__all__ = ["Stages", "key_of"]

State = Literal["new", "started", "done", "changed"]


def key_of(*inputs: Any) -> str:
    """Return a short hash of anything that JSON can hold: the name of a stage's inputs.

    Example:
        >>> key_of({"b": 1, "a": 2}) == key_of({"a": 2, "b": 1})
        True
    """
    text = json.dumps(inputs, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Stages:
    """The stages' record, a small JSON file that is written whole at every change.

    Attributes:
        file: Where it lies. A missing or damaged one means that nothing was done: work is repeated, never lost.
    """

    file: Path

    def read(self) -> dict[str, dict[str, Any]]:
        """Return name -> {"key": ..., "done": ..., "facts": ...} of every stage that was begun."""
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def state(self, name: str, key: str) -> State:
        """Return whether a stage was done or begun with these inputs, with others ("changed"), or not at all."""
        row = self.read().get(name)
        if not isinstance(row, dict):
            return "new"
        if row.get("key") != key:
            return "changed"
        return "done" if row.get("done") else "started"

    def begin(self, name: str, key: str) -> None:
        """Note that a stage was begun with these inputs."""
        self._write(name, {"key": key, "done": False})

    def finish(self, name: str, key: str, facts: dict[str, Any] | None = None) -> None:
        """Note that a stage was done with these inputs."""
        self._write(name, {"key": key, "done": True, "facts": facts or {}})

    def facts(self, name: str) -> dict[str, Any]:
        """Return what was noted when the stage was done."""
        return dict(self.read().get(name, {}).get("facts", {}))

    def _write(self, name: str, row: dict[str, Any]) -> None:
        content = self.read() | {name: row}
        with written_aside(self.file) as aside:
            aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
