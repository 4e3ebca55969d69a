"""The origin of published weights, kept by every run that starts from them: in its folder, then on its card."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from medssl.engine.card import Origin, load_card
from medssl.engine.run import Run
from medssl.errors import CheckpointError

__all__ = ["keep_origin", "kept_origin"]

_FILE = "origin.json"


def keep_origin(run: Run, start: Path | None) -> None:
    """Write where the weights are from that a run starts from; nothing where they were trained here.

    Args:
        run: The run that begins.
        start: The run whose weights it starts from; None where there is none.
    """
    origin = None if start is None else load_card(start).origin
    if origin is not None:
        run.write_text(_FILE, origin.model_dump_json(indent=1) + "\n")


def kept_origin(folder: Path) -> Origin | None:
    """Return what `keep_origin` wrote; None where it wrote nothing.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        return Origin.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, ValueError) as error:
        raise CheckpointError(f"{path}: where the weights are from cannot be read ({error}).") from error
