"""What goes wrong in silence, said aloud: a loss that is not finite, a collapse, a starved loader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from medssl.batch import Batch
from medssl.engine.meters import Report
from medssl.engine.train_settings import TrainSettings
from medssl.errors import MedSSLError
from medssl.writing import atomic_write

__all__ = ["CollapseWatch", "NonFiniteLossError", "StarvationWatch", "save_batch"]

_PATIENCE = 3  # reports in a row before a collapse is believed


class NonFiniteLossError(MedSSLError):
    """The loss or its gradient became NaN or infinite."""

    def __init__(self, step: int, *, scans: Sequence[str], batch: Path | None, checkpoint: Path | None) -> None:
        self.step = step
        where = f"The batch is saved in {batch}. " if batch else ""
        back = f"The last checkpoint before it is {checkpoint}. " if checkpoint else "There is no checkpoint yet. "
        super().__init__(
            f"Step {step}: the loss or its gradient is NaN or infinite. Scans in the batch: {', '.join(scans)}. "
            f"{where}{back}"
            "Look first at these scans (`medssl check`); then try a lower train.lr, a longer train.warmup, "
            "a smaller train.clip, or train.precision=32-true."
        )


def save_batch(batch: Batch, scans: Sequence[str], path: Path) -> Path:
    """Write a batch and the ids of its scans, for a look at what broke a step; load with ``weights_only=True``."""
    content = {name: value.cpu() for name, value in batch.tensors().items()}
    with atomic_write(path) as aside:
        torch.save({**content, "scans": list(scans)}, aside)
    return path


class CollapseWatch:
    """Notices embeddings that have become the same for every input.

    A method says how what its objective compares lies with the signals "spread" (0 when all are one point) and
    "effective_rank" (1 when they lie on a line); a signal it does not give is not watched. The encoder's own features
    would tell nothing: those of a normalising network share a large constant, whatever it learned. After the warm-up,
    a signal that stays under its threshold for three reports is told once, and again if it recovered in between.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self._limits = {"spread": settings.collapse_spread, "effective_rank": settings.collapse_rank}
        self._after = settings.warmup * settings.steps
        self._low: dict[str, int] = dict.fromkeys(self._limits, 0)

    def look(self, report: Report) -> list[str]:
        """Return what there is to warn of."""
        told = []
        for name, limit in self._limits.items():
            value = report.values.get(f"signal/{name}")
            if value is None or report.step <= self._after:
                continue
            self._low[name] = self._low[name] + 1 if value < limit else 0
            if self._low[name] == _PATIENCE:
                told.append(
                    f"step {report.step}: {name} is {value:.3g}, under {limit:g}, for {_PATIENCE} reports: the "
                    "embeddings are collapsing. Try a lower train.lr, a larger train.batch_size or stronger views; "
                    "views.png shows whether two views of a scan still differ."
                )
        return told


class StarvationWatch:
    """Notices a loader that cannot keep up; tells it once. The first report holds the start-up and is passed over."""

    def __init__(self, settings: TrainSettings) -> None:
        self._limit = settings.starved
        self._threads = settings.threads
        self._seen = 0
        self._told = False

    def look(self, report: Report) -> list[str]:
        """Return what there is to warn of."""
        self._seen += 1
        if self._told or self._seen < 2 or report.data_wait <= self._limit:
            return []
        self._told = True
        return [
            f"step {report.step}: {report.data_wait:.0%} of the time goes by waiting for data. Raise train.threads "
            f"(now {self._threads}), or put the store on a local disk."
        ]
