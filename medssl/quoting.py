"""Words of a command line that is shown to be copied."""

from __future__ import annotations

import shlex

__all__ = ["quoted"]


def quoted(*words: object) -> str:
    """Return paths and other words as a shell takes them: those with spaces or signs in quotes.

    Example:
        >>> quoted("my scans/ct", "out")
        "'my scans/ct' out"
    """
    return shlex.join(str(word) for word in words)
