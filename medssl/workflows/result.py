"""What every workflow gives back: the files that it wrote, figures, and the command that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.command import Command
from medssl.errors import DataError
from medssl.sheet import Sheet, ShowsItself

__all__ = ["Result"]


@dataclass(frozen=True, kw_only=True)
class Result(ShowsItself):
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

    @property
    def place(self) -> Path | None:
        """Where a verb looks that takes this as a path: a folder, else the first file; None after a dry run."""
        return self.written[0] if self.written else None

    def sheet(self) -> Sheet:
        """Return what it shows of itself: what was found, the files, and the commands that follow."""
        own = [part for part in fields(self) if part.repr and part.name not in Result.__dataclass_fields__]
        found = {part.name.replace("_", " "): getattr(self, part.name) for part in own}
        return Sheet.of(type(self).__name__, {**found, **self._ending()})

    def _ending(self) -> dict[str, str]:
        files = [str(path) for path in self.written[:3]]
        more = [f"and {len(self.written) - 3} more"] if len(self.written) > 3 else []
        return {"written": ", ".join([*files, *more]), "next": str(self.next), "on new data": str(self.on_new)}

    def __fspath__(self) -> str:
        """Return the place as text, so that a result may stand where a path is wanted.

        Raises:
            DataError: Nothing was written.
        """
        if self.place is None:
            raise DataError(
                f"A {type(self).__name__} that wrote nothing, as after a dry run, is no place to read from. Run the "
                "verb first, or give a path."
            )
        return str(self.place)

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
