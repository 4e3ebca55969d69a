"""A finished run, as a Python user holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medssl.engine.run import read_metrics
from medssl.errors import DataError
from medssl.sheet import Sheet
from medssl.workflows.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure
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

    def sheet(self) -> Sheet:
        """Return how far the run came, and where it lies."""
        shown = super().sheet()
        rows = self.metrics if (self.folder / "metrics.jsonl").is_file() else []
        losses = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None]
        told = (("steps", f"{losses[-1][0]:,}; loss {losses[-1][1]:.4g}"),) if losses else ()
        return replace(shown, facts=(*shown.facts[:1], *told, *shown.facts[1:]))

    def plot(self, what: Literal["curves", "views"] = "curves") -> Figure:
        """Draw the run's curves, or what its network saw first; return the figure. Nothing is shown or written.

        Raises:
            DataError: The run has none yet.
        """
        from medssl.engine.pictures import figure_of_file, progress_figure

        if what == "views":
            file = self.folder / "views.png"
            if not file.is_file():
                raise DataError(f"{file}: there is none; medssl pretrain writes it at its first step.")
            return figure_of_file(file)
        figure = progress_figure(self.metrics)
        if figure is None:
            raise DataError(f"{self.folder}: no step was reported yet, so there is no curve to draw.")
        return figure
