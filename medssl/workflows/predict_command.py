"""The command that runs a fine-tuned run on new data, for the last lines of the verbs that make and score one."""

from __future__ import annotations

from pathlib import Path

from medssl.domains.domain import domain_of_card
from medssl.engine.card import load_card
from medssl.errors import CheckpointError
from medssl.quoting import quoted

__all__ = ["predict_command"]


def predict_command(run: str | Path) -> str:
    """Return the command with SCANS or CLOUDS for what the user has; "" where ``run`` is but a folder of predictions.

    Example:
        >>> predict_command("no-run")
        ''
    """
    folder = Path(run)
    if not (folder / "card.json").is_file():
        return ""
    try:
        new = f"{domain_of_card(load_card(folder)).noun.upper()}S"
    except CheckpointError:
        return ""  # nothing that predict would take
    return f"medssl predict {quoted(folder)} {quoted(new)} --out {quoted(Path('predictions') / folder.resolve().name)}"
