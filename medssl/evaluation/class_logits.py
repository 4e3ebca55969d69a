"""What a classifier says of cases before anything is decided: a row of logits each, with its owner and its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ClassLogits"]


@dataclass(frozen=True)
class ClassLogits:
    """Predictions row by row; N of them.

    Attributes:
        ids: Scans.
        patients: Keys of their patients.
        splits: "train", "val", "test" or "".
        slices: The slice that a row speaks of, on the store's grid; -1 for the whole scan.
        attended: The slice of a set that weighed most; -1 elsewhere.
        truth: The class, -1 where it is not known, (N,).
        logits: float64, (N, C).
    """

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    splits: tuple[str, ...]
    slices: tuple[int, ...]
    attended: tuple[int, ...]
    truth: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def of_split(self, split: str) -> ClassLogits:
        """Return the rows of one split."""
        rows = [row for row, own in enumerate(self.splits) if own == split]
        return ClassLogits(
            ids=tuple(self.ids[r] for r in rows),
            patients=tuple(self.patients[r] for r in rows),
            splits=tuple(self.splits[r] for r in rows),
            slices=tuple(self.slices[r] for r in rows),
            attended=tuple(self.attended[r] for r in rows),
            truth=self.truth[rows],
            logits=self.logits[rows],
        )
