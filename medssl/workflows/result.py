"""What every workflow gives back: the files that it wrote, figures, and the command that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.quoting import quoted

__all__ = ["Command", "Result"]


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


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a workflow found and did; each has a class of its own that adds what it found.

    Attributes:
        written: The files, those that matter first; none after a dry run.
        next: The command that goes on from here.
        on_new: The command that uses what came out on new scans or clouds.
        figures: What a program may want to know, for the JSON of the command line: numbers, words, lists, mappings.
    """

    written: tuple[Path, ...] = ()
    next: Command = field(default=Command(), repr=False)
    on_new: Command = field(default=Command(), repr=False)
    figures: Mapping[str, Any] = field(default_factory=dict, repr=False)

    if not TYPE_CHECKING:  # a checker knows the attributes that there are

        def __getattr__(self, name: str) -> Any:
            """Say where an attribute is that a part of the result has, such as ``rows`` of ``.manifest``."""
            if not name.startswith("_"):
                for part in fields(type(self)):
                    if part.name not in Result.__dataclass_fields__ and hasattr(self.__dict__.get(part.name), name):
                        raise AttributeError(
                            f"'{type(self).__name__}' has no attribute '{name}'; what it found has: .{part.name}.{name}"
                        )
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
