"""A command line of medssl as a value: what a verb proposes next, and what a message tells to run."""

from __future__ import annotations

from medssl.quoting import quoted

__all__ = ["Command"]


class Command(tuple[str, ...]):
    """Words of a command line of medssl, the verb first; empty where there is none.

    Example:
        >>> command = Command("check", "my scans.parquet")
        >>> command[0], str(command), bool(Command())
        ('check', "medssl check 'my scans.parquet'", False)
    """

    __slots__ = ()

    def __new__(cls, *words: object) -> Command:
        """Make it of a verb, paths, options and settings."""
        return super().__new__(cls, map(str, words))

    def __getnewargs__(self) -> tuple[str, ...]:
        """Return the words, each by itself, as a copy and a pickle hand them in."""
        return tuple(self)

    def __str__(self) -> str:
        """Return it as a shell takes it; "" where there is none."""
        return quoted("medssl", *self) if self else ""
