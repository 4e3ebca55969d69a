"""``medssl copy``: a preset as a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medssl.command import Command
from medssl.errors import ConfigError
from medssl.presets import find_preset
from medssl.workflows import events
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.workflows.validate import verb_of
from medssl.writing import atomic_write, file_for

__all__ = ["Copied", "copy_preset"]


@dataclass(frozen=True)
class Copied(Result):
    """A copy of a preset.

    Attributes:
        path: The file; not yet there after a dry run.
    """

    path: Path


@takes_places
def copy_preset(name: str, out: str | Path, *, dry_run: bool = False) -> Copied:
    """Copy a preset to a new file.

    Args:
        name: The preset, such as ``voco`` or ``pretrain/voco``.
        out: Where to; a folder takes the preset's own name. An existing file is never written over.
        dry_run: Only say what would be written.

    Raises:
        ConfigError: There is no such preset, or ``out`` exists.
    """
    source, out = find_preset(name), Path(out)
    target = out / source.name if out.is_dir() else out
    if file_for(target, ".yaml", ".yml").exists():
        raise ConfigError(f"{target}: exists, and is not written over. Choose another name.")
    if dry_run:
        events.message(f"would copy {source} to {target}")
        return events.written(Copied(target, next=Command("copy", name, out)))
    text = source.read_text(encoding="utf-8")
    with atomic_write(target) as aside:
        aside.write_text(text, encoding="utf-8")
    return events.written(Copied(target, written=(target,), next=Command(verb_of(source), target)))
