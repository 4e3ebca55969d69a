"""The command that runs a fine-tuned run on new data, for the last lines of the verbs that make and score one."""

from __future__ import annotations

from pathlib import Path

from medssl.command import Command
from medssl.domains.domain import domain_of_card
from medssl.engine.card import load_card
from medssl.errors import CheckpointError

__all__ = ["predict_command"]


def predict_command(run: str | Path) -> Command:
    """Return the command with SCANS or CLOUDS for what the user has; none where ``run`` is but a folder of predictions.

    Example:
        >>> bool(predict_command("no-run"))
        False
    """
    folder = Path(run)
    if not (folder / "card.json").is_file():
        return Command()
    try:
        new = f"{domain_of_card(load_card(folder)).noun.upper()}S"
    except CheckpointError:
        return Command()  # nothing that predict would take
    return Command("predict", folder, new, "--out", Path("predictions") / folder.resolve().name)
