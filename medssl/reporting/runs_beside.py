"""Several runs side by side: in what they differ, and their curves in one frame each."""

from __future__ import annotations

from collections.abc import Sequence

from medssl.reporting.blocks import Block, Charts, Details, Table, Text
from medssl.reporting.charts import Series, line_chart
from medssl.reporting.material import RunRecord
from medssl.reporting.privacy import Cleaner
from medssl.reporting.prose import counted, signal_of

__all__ = ["side_by_side"]

_WHO = ("method.name", "task", "encoder.name", "data.store", "transfer.run", "train.steps", "train.seed")
_OF_A_STRUCTURE = "held_out/dice_"
_FEW = 12  # settings that are shown at once


def side_by_side(runs: Sequence[RunRecord], *, clean: Cleaner) -> list[Block]:
    """Return the blocks; none for a single run.

    Args:
        runs: Of one verb.
        clean: Shortens places in settings.
    """
    if len(runs) < 2:
        return []
    keys = [key for key in dict.fromkeys(k for run in runs for k in run.settings) if len(_values(runs, key)) > 1]
    keys.sort(key=lambda key: (_WHO.index(key) if key in _WHO else len(_WHO), key))
    heads = ("setting", *(run.name for run in runs))
    rows = [(key, *(str(clean.value(_said(run, key))) for run in runs)) for key in keys]
    blocks: list[Block] = [Text(f"{counted(len(runs), 'run')} side by side", "head")]
    if rows:
        told = "Settings in which they differ"
        blocks.append(Table(heads, rows[:_FEW], caption=told, matrix=True))
        if rows[_FEW:]:
            more = (Table(heads, rows[_FEW:], matrix=True),)
            blocks.append(Details(f"{counted(len(rows) - _FEW, 'more setting')} in which they differ", more))
    else:
        blocks.append(Text("They have the same settings."))
    return [*blocks, *_curves(runs)]


def _values(runs: Sequence[RunRecord], key: str) -> set[str]:
    return {_said(run, key) for run in runs}


def _said(run: RunRecord, key: str) -> str:
    """Return a setting in words: "-" where a run has none of that name."""
    return str(run.settings[key]) if key in run.settings else "-"


def _curves(runs: Sequence[RunRecord]) -> list[Block]:
    """Return one chart a measure that two runs share: losses of one objective alone, and what held-out scans tell."""
    wanted = {}
    alike = len(_values(runs, "method.name")) == 1 and len(_values(runs, "task")) == 1
    if alike:
        wanted["loss"] = "Training loss"
    for run in runs:
        for name in run.held_out:
            signal = signal_of(name)
            wanted[f"held_out/{name}"] = f"Held-out {signal.words if signal else name.replace('_', ' ')}"
    charts: list[tuple[str, str, str]] = []
    structures: list[tuple[str, str, str]] = []
    for key, title in wanted.items():
        lines = [Series(run.name, run.points(key)) for run in runs if run.points(key)]
        drawn = line_chart(lines, what=f"{title} of {counted(len(lines), 'run')}") if len(lines) > 1 else ""
        if drawn:
            (structures if key.startswith(_OF_A_STRUCTURE) else charts).append((title, drawn, ""))
    blocks: list[Block] = [Charts(charts)] if charts else []
    if structures:
        blocks.append(Details("Held-out Dice of each structure", (Charts(structures),)))
    if not alike:
        blocks.append(Text("They minimise different objectives, so their losses are not compared.", "soft"))
    if len(_values(runs, "data.store")) > 1:
        blocks.append(Text("They saw different stores: a signal on other scans is another scale.", "doubt"))
    return blocks
