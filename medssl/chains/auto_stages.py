"""What a chain of verbs has done so far: a stage is done again only where its inputs have changed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medssl.domains.deciding import key_of
from medssl.errors import MedSSLError
from medssl.workflows import events
from medssl.writing import atomic_write

__all__ = ["StageRunner", "Stages"]

State = Literal["new", "started", "done", "changed"]


@dataclass(frozen=True)
class Stages:
    """The stages' record, a small JSON file that is written whole at every change.

    Attributes:
        file: Where it lies. A missing or damaged one means that nothing was done: work is repeated, never lost.
    """

    file: Path

    def read(self) -> dict[str, dict[str, Any]]:
        """Return name -> {"key": ..., "done": ...} of every stage that was begun."""
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

    def finish(self, name: str, key: str) -> None:
        """Note that a stage was done with these inputs."""
        self._write(name, {"key": key, "done": True})

    def key_after(self, *names: str) -> str:
        """Return the key of something that depends on these stages: on what they were made from, and if they ended."""
        rows = self.read()
        return key_of([[name, rows.get(name)] for name in names])

    def _write(self, name: str, row: dict[str, Any]) -> None:
        content = self.read() | {name: row}
        with atomic_write(self.file) as aside:
            aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class StageRunner:
    """Runs stages one after another, tells which is on, and keeps the failures of late ones.

    Args:
        stages: What was done so far.
        anew: Do every stage again.
    """

    def __init__(self, stages: Stages, *, anew: bool) -> None:
        self.stages, self.anew = stages, anew
        self.failed: dict[str, str] = {}

    def head(self, name: str, what: str) -> None:
        """Say which stage comes."""
        events.message("")
        events.message(f"== {name}: {what}")

    def command(self, verb: str, *words: object) -> None:
        """Say, to those who want details, the command that does this stage by itself."""
        events.detail("by itself: " + shlex.join(["medssl", verb, *map(str, words)]))

    def ready(self, name: str, key: str, output: Path) -> bool:
        """Return whether a stage need not be done, and say so."""
        done = not self.anew and self.stages.state(name, key) == "done" and output.exists()
        if done:
            events.message(f"already done, and its inputs have not changed: {output}")
        return done

    def train(self, name: str, key: str, out: Path, start: Callable[[dict[str, bool]], Any]) -> None:
        """Start a training run, or go on with one of the same inputs; one of other inputs is moved aside.

        Args:
            name: The stage.
            key: Its inputs.
            out: The run's folder.
            start: Trains, given ``resume`` and ``overwrite``.

        Raises:
            Interrupted: The run was told to stop.
        """
        from medssl.engine.loop import Interrupted

        state = self.stages.state(name, key)
        resume = state == "started" and not self.anew and (out / "run.yaml").is_file()
        occupied = out.exists() and not resume
        if occupied and state == "changed" and not self.anew:
            events.message(f"{out} was made from other scans or settings, so the run starts again")
        self.stages.begin(name, key)
        try:
            with events.part(name):
                start({"resume": resume, "overwrite": occupied})
        except Interrupted:
            events.message("run the same command to continue from here")
            raise
        self.stages.finish(name, key)

    def late(
        self, name: str, what: str, *, key: str, output: Path, command: Sequence[object], work: Callable[[], Any]
    ) -> None:
        """Do a stage whose failure must not lose what is there already; note in ``failed`` why it failed.

        Args:
            name: The stage.
            what: What it does, for the heading.
            key: Its inputs.
            output: The file that it leaves.
            command: The words of the command that does it by itself.
            work: Does it.
        """
        self.head(name, what)
        if self.ready(name, key, output):
            return
        self.command(str(command[0]), *command[1:])
        try:
            with events.part(name):
                work()
        except MedSSLError as error:
            self.failed[name] = str(error)
        except Exception as error:  # a bug or a full disk in a late stage loses no trained network
            self.failed[name] = f"{type(error).__name__}: {error}"
        else:
            self.stages.finish(name, key)
            return
        events.warning(f"'{name}' failed: {self.failed[name]}")
