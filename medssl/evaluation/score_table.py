"""All scores in one form: a tidy frame, the same for every task and protocol, kept as ``scores.parquet``.

A row is one figure of one item: the Dice of a structure, the probability of a class, the IoU of a shape. Everything
that is said of scores (means, intervals, comparisons) is computed from these rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import DataError
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.scoring import StructureScore
from medssl.writing import atomic_write

if TYPE_CHECKING:
    import polars as pl

__all__ = ["COLUMNS", "SCORES", "ScoreTable"]

SCORES = "scores.parquet"
COLUMNS = ("run", "how", "seed", "draw", "labels", "item", "patient", "target", "metric", "value", "note")
_STRUCTURE = (
    "dice",
    "iou",
    "hd95_mm",
    "assd_mm",
    "nsd",
    "truth_ml",
    "prediction_ml",
    "truth_voxels",
    "prediction_voxels",
)


@dataclass(frozen=True)
class ScoreTable:
    """Scores of any task.

    Attributes:
        frame: Columns ``run`` (METHOD-seedN is a pretraining run of METHOD), ``how`` (how it was fitted, such as
            "fine-tuned" or "linear"; ""), ``seed`` (of fine-tuning), ``draw`` (of labelled patients), ``labels`` (how
            many of them; null where not known), ``item`` (case, slice or cloud), ``patient``, ``target`` (structure or
            class), ``metric``, ``value`` (null where not defined), ``note`` (who lacks a structure: "both", "truth" or
            "prediction").
    """

    frame: pl.DataFrame

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)

    @property
    def runs(self) -> list[str]:
        """The runs, in the order that they were added in."""
        return list(self.frame["run"].unique(maintain_order=True))

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[Any]]) -> ScoreTable:
        """Return a table of rows in the order of `COLUMNS`."""
        import polars as pl

        kinds = {"seed": pl.Int64, "draw": pl.Int64, "labels": pl.Int64, "value": pl.Float64}
        schema = {name: kinds.get(name, pl.String) for name in COLUMNS}
        return cls(pl.DataFrame(list(rows), schema=schema, orient="row").with_columns(pl.col("value").fill_nan(None)))

    @classmethod
    def joined(cls, tables: Iterable[ScoreTable]) -> ScoreTable:
        """Return the rows of several tables as one.

        Raises:
            DataError: There is none.
        """
        import polars as pl

        frames = [table.frame for table in tables]
        if not frames or not sum(map(len, frames)):
            raise DataError("Nothing was scored, so there is nothing to summarise.")
        return cls(pl.concat(frames))

    @classmethod
    def of_structures(cls, scores: Iterable[StructureScore], *, run: str) -> ScoreTable:
        """Return the table of a segmenter's scores; `as_run` says which of several it is."""
        return cls.of_rows(
            (run, "", 0, 0, None, s.case, s.patient, s.structure, name, float(getattr(s, name)), s.empty)
            for s in scores
            for name in _STRUCTURE
        )

    @classmethod
    def of_classes(cls, cases: ClassPredictions, *, run: str) -> ScoreTable:
        """Return the table of a classifier: for each case and class its probability, and whether truth and call."""
        return cls.of_rows(
            (run, "", 0, 0, None, key, patient, name, metric, float(value), "")
            for row, (key, patient) in enumerate(zip(cases.keys, cases.patients, strict=True))
            for number, name in enumerate(cases.classes)
            for metric, value in (
                ("probability", cases.probability[row, number]),
                ("truth", cases.truth[row] == number),
                ("predicted", cases.predicted[row] == number),
            )
        )

    @classmethod
    def of_values(
        cls,
        values: Iterable[float],
        items: Sequence[str],
        patients: Sequence[str],
        *,
        run: str,
        metric: str,
        targets: Sequence[str] | None = None,
        how: str = "",
        seed: int = 0,
        draw: int = 0,
        labels: int | None = None,
    ) -> ScoreTable:
        """Return the table of one figure an item, such as whether a probe named it right."""
        named = targets if targets is not None else [""] * len(items)
        rows = zip(values, items, patients, named, strict=True)
        return cls.of_rows((run, how, seed, draw, labels, i, p, t, metric, float(v), "") for v, i, p, t in rows)

    def as_run(self, run: str, *, how: str = "", seed: int = 0, draw: int = 0, labels: int | None = None) -> ScoreTable:
        """Return the same figures as those of one run."""
        import polars as pl

        said = {"run": run, "how": how, "seed": seed, "draw": draw, "labels": labels}
        return ScoreTable(
            self.frame.with_columns(pl.lit(v, dtype=self.frame.schema[name]).alias(name) for name, v in said.items())
        )

    def write(self, path: Path) -> None:
        """Write the table aside and rename it."""
        with atomic_write(path) as aside:
            self.frame.write_parquet(aside)

    @classmethod
    def read(cls, path: Path) -> ScoreTable:
        """Read a table.

        Raises:
            DataError: The file is damaged, or of a release that kept scores otherwise.
        """
        import polars as pl

        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{path}: scores cannot be read ({error}). Make them again: medssl evaluate") from error
        if tuple(frame.columns) != COLUMNS:
            raise DataError(
                f"{path}: scores of an earlier release, in another form. Make them again with the same command: "
                "medssl evaluate RUN --data STORE"
            )
        return cls(frame)
