"""The last lines of a workflow whose value is no `Result`: what was written, and what to run next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl.quoting import visible
from medssl.workflows.events import listener

__all__ = ["closed"]


def closed(written: Path | Sequence[Path] | None, next_command: str = "", *, on_new: str = "", **facts: Any) -> None:
    """Close a workflow or a chain: say what was written and what to run next.

    Args:
        written: The file or files, or None for a dry run or a verb that writes nothing.
        next_command: The command that goes on from here.
        on_new: The command that uses what came out on new scans or clouds.
        facts: More for the JSON object.
    """
    paths = [written] if isinstance(written, Path) else list(written or [])
    listener().facts.update(written=[str(path) for path in paths], next=next_command or None, **facts)
    for path in paths:
        listener().tell(f"wrote {visible(str(path))}", "written")
    if next_command and not listener().quiet and not listener().within:
        listener().tell(f"next: {next_command}", "next")
    if on_new and not listener().quiet and not listener().within:
        listener().tell(f"on new data: {on_new}", "next")
