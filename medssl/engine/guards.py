"""What goes wrong in silence, said aloud: a loss that is not finite, a collapse, a starved loader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from medssl.batch import Batch
from medssl.engine.meters import Report
from medssl.engine.train_settings import TrainSettings
from medssl.errors import MedSSLError
from medssl.writing import atomic_write

__all__ = ["CollapseWatch", "DistillationWatch", "NonFiniteLossError", "StarvationWatch", "save_batch"]

_PATIENCE = 3  # reports in a row before a collapse is believed
_RISE = 0.1  # of its least: how far a distillation loss may climb, beyond what its teacher's entropy explains


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


class DistillationWatch:
    """Notices a teacher over prototypes that tells nothing, and a student that no longer follows.

    What the teacher tells of an item is the entropy of the prototypes in use less the mean entropy of its answers, in
    nats: 0 where it answers the same for every item, be that one prototype or all evenly (the loss then stands at the
    logarithm of their number), at most the logarithm of the items. The loss of a student that follows falls; it may
    climb where the teacher's answers become softer, by as much as their entropy does, and no further.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self._limit = settings.collapse_information
        self._after = settings.warmup * settings.steps
        self._low: dict[str, int] = {}
        self._high: dict[str, int] = {}
        self._recent: dict[str, list[tuple[float, float]]] = {}
        self._least: dict[str, tuple[float, float]] = {}

    def look(self, report: Report) -> list[str]:
        """Return what there is to warn of."""
        if report.step <= self._after:
            return []
        told = []
        for key, entropy in report.values.items():
            if key.startswith("signal/") and key.endswith("teacher_entropy"):
                part = key.removeprefix("signal/").removesuffix("teacher_entropy")  # "" or, of joined methods, NAME_
                told += self._same_for_all(report, part, entropy) + self._rises(report, part, entropy)
        return told

    def _same_for_all(self, report: Report, part: str, entropy: float) -> list[str]:
        used = report.values.get(f"signal/{part}prototypes_used")
        if used is None:
            return []
        told = math.log(max(used, 1.0)) - entropy
        self._low[part] = self._low.get(part, 0) + 1 if told < self._limit else 0
        if self._low[part] != _PATIENCE:
            return []
        kind = "evenly over all prototypes" if entropy > 0.5 * math.log(max(used, 2.0)) else "with one prototype"
        loss = report.values.get(f"part/{part}distillation")
        stands = "" if loss is None else f" (loss {loss:.4g})"
        return [
            f"step {report.step}: the teacher answers {kind} whatever it sees{stands}; it tells {max(told, 0.0):.2g} "
            f"nats of an item, under {self._limit:g}, for {_PATIENCE} reports: there is nothing to learn from it. Try "
            "method.head_norm=batch_plain, encoder.pool=prenorm or grid, a lower method.teacher_temperature, or "
            "method.assign=sinkhorn."
        ]

    def _rises(self, report: Report, part: str, entropy: float) -> list[str]:
        loss = report.values.get(f"part/{part}distillation")
        if loss is None:
            return []
        recent = self._recent.setdefault(part, [])
        recent.append((loss, entropy))
        del recent[:-_PATIENCE]
        if len(recent) < _PATIENCE:
            return []
        now = (sum(pair[0] for pair in recent) / _PATIENCE, sum(pair[1] for pair in recent) / _PATIENCE)
        least = self._least.setdefault(part, now)
        if now[0] <= least[0]:
            self._least[part] = least = now
        unexplained = now[0] - least[0] - max(now[1] - least[1], 0.0)
        self._high[part] = self._high.get(part, 0) + 1 if unexplained > _RISE * abs(least[0]) else 0
        if self._high[part] != _PATIENCE:
            return []
        return [
            f"step {report.step}: the distillation loss rises: {now[0]:.4g} over the last {_PATIENCE} reports, "
            f"{least[0]:.4g} at its least, and the teacher's entropy does not explain it: the student no longer "
            "follows. Try a lower train.lr, a higher method.momentum, or a smaller train.clip."
        ]


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
