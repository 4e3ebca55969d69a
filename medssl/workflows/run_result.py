"""A finished run, as a Python user holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.engine.run import read_metrics
from medssl.workflows.result import Result

if TYPE_CHECKING:
    from torch import nn

__all__ = ["RunResult"]


@dataclass(frozen=True)
class RunResult(Result):
    """What ``medssl.pretrain(...)`` returns.

    Attributes:
        folder: The run's folder.
        read: Reads its encoder; one of volumes where None.
    """

    folder: Path
    read: Callable[[Path], nn.Module] | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> Path | None:
        """The run's folder."""
        return self.folder

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one a report."""
        return read_metrics(self.folder)

    def encoder(self) -> Any:
        """Return the trained encoder, in evaluation mode, on the CPU."""
        from medssl.engine.card import load_encoder

        return (self.read or load_encoder)(self.folder)

    def plot(self) -> Path:
        """Draw progress.png anew, and return where it is."""
        from medssl.engine.pictures import draw_progress

        draw_progress(self.metrics, self.folder / "progress.png")
        return self.folder / "progress.png"
