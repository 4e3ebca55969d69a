"""The few-label protocol: arms compared at n labelled patients, over draws and seeds, cell by cell and resumable.

An arm is a way to start: from scratch, or from one pretrained run. A cell is one fine-tuning run of one arm on the
``n`` patients of one draw with one seed; its scores of the fixed test cases are one file, whatever the task. Every
arm gets the same draws, seeds, recipe and budget, so cells pair up; subsets are nested in a draw (see `draws`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medssl.errors import ConfigError, DataError
from medssl.evaluation.score_table import ScoreTable
from medssl.writing import atomic_write

__all__ = [
    "FINE_TUNED",
    "MAJORITY",
    "SCRATCH",
    "SEEDING",
    "Cell",
    "CellResult",
    "FewLabelPlan",
    "read_cells",
    "run_cells",
    "without_later",
]

SCRATCH = "scratch"
MAJORITY = "majority"  # the arm that always names the most frequent class: shown beside others, compared with none
FINE_TUNED = "fine-tuned"
SEEDING = "a seed for each draw"  # in the key: scores of cells that were seeded otherwise do not mix with these
_SEEDS_A_DRAW = 1000
# Settings of scans' runs that came later, at the value that does what was done before.
_LATER: Mapping[str, object] = {
    "pool": "mean",
    "amsgrad": False,
    "collapse_information": 0.05,
    "steps": "fixed",
    "interpolation": "size",
    "class_token": False,
    "trackers": ["tensorboard"],
}
_FIGURES = ("item", "patient", "target", "metric", "value", "note")
_DIGITS = 6  # of probabilities, the others are kept as they are


def without_later(settings: Any) -> Any:
    """Return settings for a key without those that change nothing: finished cells of earlier releases are kept.

    Args:
        settings: As JSON has them, nested.

    Example:
        >>> without_later({"train": {"steps": 5, "amsgrad": False}, "encoder": {"pool": "grid"}})
        {'train': {'steps': 5}, 'encoder': {'pool': 'grid'}}
    """
    if not isinstance(settings, Mapping):
        return settings
    kept = {name: value for name, value in settings.items() if name not in _LATER or value != _LATER[name]}
    return {name: without_later(value) for name, value in kept.items()}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fine-tuning run of the protocol.

    Attributes:
        arm: Name of the arm.
        n: Number of labelled patients.
        draw: Which draw of patients, from 0.
        seed: Seed of the fine-tuning run.
    """

    arm: str
    n: int
    draw: int
    seed: int

    @property
    def file(self) -> Path:
        """The cell's file, relative to the folder of the comparison."""
        return Path("cells") / self.arm / f"n{self.n}-draw{self.draw}-seed{self.seed}.json"

    @property
    def training_seed(self) -> int:
        """The seed of the fine-tuning run: the same for every arm, another for every draw.

        One initialization shared by all draws would be lucky or unlucky as a whole, and no interval over draws would
        show it.
        """
        return self.draw * _SEEDS_A_DRAW + self.seed

    def table(self, scores: ScoreTable) -> ScoreTable:
        """Return scores as those of this cell."""
        return scores.as_run(self.arm, how=FINE_TUNED, seed=self.seed, draw=self.draw, labels=self.n)


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """What one cell gave.

    Attributes:
        cell: Which cell.
        key: Fingerprint of everything that the scores depend on beside the cell (recipe, weights, data).
        table: Scores of every test case, as rows of this cell.
        seconds: Wall-clock time of the run.
    """

    cell: Cell
    key: str
    table: ScoreTable
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FewLabelPlan:
    """The cells of a comparison.

    Attributes:
        arms: Fingerprint of each arm's start, by name: a hash of its weights; "" for scratch. The baseline is first.
        sizes: Numbers of labelled patients.
        draws: Number of draws.
        seeds: Number of fine-tuning seeds a draw.
        key: Fingerprint of what all cells share: recipe, budget, store, split, seed of the draws.
        keys: The same by size and draw, where it holds who is labelled in a cell; `key` for those without.
        earlier: Gives the fingerprints under which other releases, or comparisons of other draws, left the same cells.
    """

    arms: Mapping[str, str]
    sizes: tuple[int, ...] = (1, 2, 4, 8)
    draws: int = 8
    seeds: int = 1
    key: str = ""
    keys: Mapping[tuple[int, int], str] = field(default_factory=dict)
    earlier: Callable[[], Collection[str]] = tuple

    def __post_init__(self) -> None:
        for name in self.arms:
            if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
                raise ConfigError(f"An arm's name becomes a folder: letters, digits, '.', '_', '+', '-'. Got '{name}'.")
        if not self.arms or not self.sizes or min(self.draws, self.seeds, *self.sizes) < 1:
            raise ConfigError(
                f"A few-label comparison needs at least one arm, size, draw and seed. Got arms {list(self.arms)}, "
                f"sizes {list(self.sizes)}, {self.draws} draws, {self.seeds} seeds."
            )

    def cells(self) -> tuple[Cell, ...]:
        """Return every cell, ordered so that a comparison that was stopped early is balanced.

        Draws first, then seeds, sizes and arms: the first cells already pair all arms on one draw.
        """
        return tuple(
            Cell(arm=arm, n=n, draw=draw, seed=seed)
            for draw in range(self.draws)
            for seed in range(self.seeds)
            for n in sorted(self.sizes)
            for arm in self.arms
        )

    def key_of(self, cell: Cell) -> str:
        """Return the fingerprint under which a cell's scores are valid."""
        return self._of_arm(self.keys.get((cell.n, cell.draw), self.key), cell)

    def takes(self, cell: Cell, key: str) -> bool:
        """Return whether scores that were made under a fingerprint are this cell's."""
        return key == self.key_of(cell) or key in {self._of_arm(one, cell) for one in self.earlier()}

    def _of_arm(self, key: str, cell: Cell) -> str:
        start = self.arms[cell.arm]
        return f"{key}/{start}" if start else key


def run_cells(
    plan: FewLabelPlan,
    run_cell: Callable[[Cell], ScoreTable],
    folder: Path,
    *,
    shard: tuple[int, int] = (0, 1),
    on_cell: Callable[[Cell, str], None] | None = None,
) -> dict[Cell, str]:
    """Run the cells that are not done yet; each is written aside and renamed, so a kill loses one run at most.

    Args:
        plan: The comparison.
        run_cell: Fine-tunes and scores one cell. Whatever it raises is noted for that cell, and the rest goes on.
        folder: Folder of the comparison; cells lie in ``folder/cells/ARM/``.
        shard: (i, k): run every k-th cell from the i-th on, so that k processes or machines share the work.
        on_cell: Told of each cell of the shard: "done" (was there already), "ran" or the error.

    Returns:
        The cells that failed, with the reason.

    Raises:
        ConfigError: If the shard is not one, or a cell's file was made with another recipe, weights or data.
    """
    index, count = shard
    if not 0 <= index < count:
        raise ConfigError(f"A shard is i/k with 0 <= i < k. Got {index}/{count}.")
    failed: dict[Cell, str] = {}
    for cell in plan.cells()[index::count]:
        path = folder / cell.file
        if path.exists():
            _read_cell(path, plan, cell)
            outcome = "done"
        else:
            started = time.monotonic()
            try:
                table = cell.table(run_cell(cell))
                if not len(table):
                    raise DataError("No test case was scored.")
            except Exception as error:  # one cell that fails must not stop the night's run
                outcome = failed[cell] = f"{type(error).__name__}: {error}"
            else:
                seconds = round(time.monotonic() - started, 2)
                _write_cell(path, CellResult(cell=cell, key=plan.key_of(cell), table=table, seconds=seconds))
                outcome = "ran"
        if on_cell is not None:
            on_cell(cell, outcome)
    return failed


def read_cells(plan: FewLabelPlan, folder: Path) -> tuple[list[CellResult], list[Cell]]:
    """Return the cells of a comparison that are done, and those that are not.

    Raises:
        ConfigError: If a cell's file was made with another recipe, weights or data.
        DataError: If a file is damaged.
    """
    done, missing = [], []
    for cell in plan.cells():
        path = folder / cell.file
        if path.exists():
            done.append(_read_cell(path, plan, cell))
        else:
            missing.append(cell)
    return done, missing


def _write_cell(path: Path, result: CellResult) -> None:
    rows: dict[str, list[Any]] = {name: result.table.frame[name].to_list() for name in _FIGURES}
    rows["value"] = [
        round(value, _DIGITS) if metric == "probability" and value is not None else value
        for metric, value in zip(rows["metric"], rows["value"], strict=True)
    ]
    content = {**asdict(result.cell), "key": result.key, "seconds": result.seconds, "rows": rows}
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def _read_cell(path: Path, plan: FewLabelPlan, cell: Cell) -> CellResult:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = Cell(**{name: content[name] for name in ("arm", "n", "draw", "seed")})
        table = found.table(_table_of(content))
        result = CellResult(cell=found, key=content["key"], table=table, seconds=content["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a cell of a few-label comparison ({error}). Move it away to run it again."
        ) from error
    if result.cell != cell:
        raise DataError(f"{path}: holds the run {found.file}, not the one that it is named after. Move it away.")
    if not plan.takes(cell, result.key):
        raise ConfigError(
            f"{path} was made with another recipe, other weights or other data (key {result.key}, now "
            f"{plan.key_of(cell)}). Cells of one comparison must share them: take another folder, or move the old "
            "cells away."
        )
    return result


def _table_of(content: Mapping[str, Any]) -> ScoreTable:
    """Return the rows of a cell."""
    columns = [content["rows"][name] for name in _FIGURES]
    return ScoreTable.of_rows(("", "", 0, 0, None, *figures) for figures in zip(*columns, strict=True))
