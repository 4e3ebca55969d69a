"""What a fine-tuning run's card says of the structures that it was trained on."""

from __future__ import annotations

from pathlib import Path

from medssl.engine.card import load_card
from medssl.errors import MedSSLError

__all__ = ["unseen_of"]


def unseen_of(run: Path) -> tuple[str, ...]:
    """Return the structures that no scan showed which a run was trained on; none where nothing says so."""
    try:
        said = load_card(run).method.get("unseen", ())
    except MedSSLError:
        return ()  # a folder of predictions of another tool
    return tuple(str(name) for name in said)
