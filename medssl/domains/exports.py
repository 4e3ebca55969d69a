"""What exporting asks of a kind of data: the forms that its networks have, and what writes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Exported", "Exports", "Form"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: The files.
        max_difference: Greatest difference from torch's outputs; None where the form cannot be run here.
        said: What there is to say, a line each.
        warned: What there is to warn of.
        following: The command that uses it, "" for none.
    """

    files: tuple[Path, ...]
    max_difference: float | None = None
    said: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    following: str = ""


@dataclass(frozen=True)
class Form:
    """A network in the form of another program.

    Attributes:
        words: What the network is, in one line.
        more: What else there is to say of it before it is written.
        write: Writes it.
    """

    words: str
    more: str
    write: Any


class Exports(ABC):
    """Exporting networks on a kind of data; it holds no state."""

    @abstractmethod
    def ready(self, run: Path, to: str, out: Path, settings: Any) -> Form:
        """Return a run's network, ready to be written.

        Args:
            run: A run that has ended.
            to: A form that the table has for this kind of data.
            out: Where to: a file for ONNX, a folder for the others.
            settings: Of ``export``.

        Raises:
            CheckpointError: The run has no finished network.
            DataError: Its card says too little.
        """
