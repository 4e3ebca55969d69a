"""Running the cells of a few-label comparison: their seeds, and one bar for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.few_label import Cell, FewLabelPlan, run_cells
from medssl.evaluation.scoring import StructureScore
from pipelines import console
from pipelines.score_files import Scored

__all__ = ["SEEDING", "FewLabelOutcome", "run_told", "say_cells", "training_seed"]

SEEDING = "a seed for each draw"  # in the key: scores of cells that were seeded otherwise do not mix with these
_SEEDS_A_DRAW = 1000


@dataclass(frozen=True, kw_only=True)
class FewLabelOutcome:
    """What the protocol gave.

    Attributes:
        failed: Cells that failed, with the reason.
        missing: Cells that are not done: failed, or left to other shards.
        folder: Folder of the comparison.
        found: Scores and comparisons of the cells that are done; None for a dry run.
    """

    failed: Mapping[Cell, str]
    missing: Sequence[Cell]
    folder: Path
    found: Scored | None = None


def say_cells(
    plan: FewLabelPlan,
    out: Path,
    *,
    shard: tuple[int, int],
    shown: str,
    labelled: int,
    tested: str,
    owner: str = "patient",
) -> list[Cell]:
    """Say which runs a shard takes, and return those that are not done yet.

    Args:
        plan: The comparison.
        out: Its folder.
        shard: Index from 0, and count.
        shown: What goes first.
        labelled: Patients that may be drawn.
        tested: What is scored, in words.
        owner: Whose labels are drawn.
    """
    cells = plan.cells()[shard[0] :: shard[1]]
    todo = [cell for cell in cells if not (out / cell.file).exists()]
    part = f" in shard {shard[0] + 1}/{shard[1]}" if shard[1] > 1 else ""
    console.say(
        f"{shown}arms {', '.join(plan.arms)}; n = {', '.join(map(str, plan.sizes))} of {labelled} labelled {owner}s; "
        f"{plan.draws} draws, {plan.seeds} seeds: {len(cells)} runs{part}, {len(cells) - len(todo)} done already; "
        f"{tested}"
    )
    return todo


def run_told(
    plan: FewLabelPlan,
    run_cell: Callable[[Cell], Iterable[StructureScore] | ClassPredictions],
    out: Path,
    *,
    shard: tuple[int, int],
) -> dict[Cell, str]:
    """Run the cells of a shard and show how far they are; return those that failed, with the reason."""
    with console.progress(len(plan.cells()[shard[0] :: shard[1]]), "fine-tuning runs") as bar:

        def on_cell(cell: Cell, outcome: str) -> None:
            if outcome not in ("done", "ran"):
                console.warn(f"{cell.file} failed: {outcome}")
            bar.advance(note=f"{cell.arm} n={cell.n} draw {cell.draw}")

        try:
            return run_cells(plan, run_cell, out, shard=shard, on_cell=on_cell)
        except (KeyboardInterrupt, SystemExit):
            console.say("the runs that are done are kept; the same command goes on from here")
            raise


def training_seed(cell: Cell) -> int:
    """Return the seed of a cell's fine-tuning run: the same for every arm, another for every draw.

    Fresh weights shared by all draws would be lucky or unlucky as a whole, and no interval over draws would show it.
    """
    return cell.draw * _SEEDS_A_DRAW + cell.seed
