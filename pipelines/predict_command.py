"""The command that runs a fine-tuned run on new data, for the last lines of the verbs that make and score one."""

from __future__ import annotations

from pathlib import Path

from medssl.quoting import quoted

__all__ = ["predict_command"]


def predict_command(run: str | Path) -> str:
    """Return the command with SCANS for what the user has; "" where ``run`` is no run but a folder of predictions.

    Example:
        >>> predict_command("no-run")
        ''
    """
    folder = Path(run)
    if not (folder / "card.json").is_file():
        return ""
    return f"medssl predict {quoted(folder)} SCANS --out {quoted(Path('predictions') / folder.resolve().name)}"
