"""The contract of a task: who has labels for it, what a run of it predicted, and what that scores.

``finetune`` trains a task, ``evaluate`` scores its runs, and the few-label protocol does one after the other at n
labels: a cell of that protocol scores what ``evaluate`` scores.
"""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from medssl.domains.learning import Learning
    from medssl.engine.card import Card
    from medssl.evaluation.score_table import ScoreTable
    from medssl.prediction import Predictor

__all__ = ["Basis", "Draws", "Labels", "RunScores", "Task", "silent"]


def silent(_: str) -> None:
    """Tell nobody of a case that is done."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Which items of a store a task can be learned from.

    Attributes:
        class_of: The class of an entry, None where it has no label. Draws of a few patients hold every class.
        asked: What is learned, in words, where that is a setting: "diagnosis (ill, well)".
        facts: The same for a summary file.
    """

    class_of: Callable[[Any], str | None]
    asked: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Who is labelled in the cells of a few-label comparison.

    Attributes:
        seed: Of the draws.
        sets: Number of patients -> the patients of each draw.
        named: Whether a file names them.
    """

    seed: int
    sets: Mapping[int, tuple[tuple[str, ...], ...]]
    named: bool


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """What the predictions of one run score.

    Attributes:
        table: The rows; run, seed, draw and number of labels are left to whoever knows them.
        items: Items that were scored, before a patient's were averaged.
        facts: What a summary file says of the run beside that.
        failed: Cases without a score, and why.
        counts: Heads and rows of a table to show beside the scores; None for none.
        kept: What `Task.lines` and `Task.pictures` need.
    """

    table: ScoreTable
    items: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    counts: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    kept: Any = None


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a few-label comparison rests on.

    Attributes:
        recipe: Settings of ``finetune`` without what the protocol sets.
        card: Of the first arm's run: all share its encoder.
        window: What the runs bring into the comparison, where the recipe names none.
        entries: What may be drawn, then what is tested.
        labels: Of `Task.labels`.
        draws: Who is labelled.
        test: Of `Task.test_set`.
    """

    recipe: dict[str, Any]
    card: Card
    window: Sequence[int] | None
    entries: Sequence[Any]
    labels: Labels
    draws: Draws
    test: Any


class Task(ABC):
    """A task on one kind of data.

    Attributes:
        name: As ``finetune --task`` has it.
        kind: As summary files have it.
        noun: What is scored one by one: "case", "cloud".
        maker: Who predicts, in words: "classifier".
        wanted: What can be learned from, in words: "scans of known class".
        summary: Name of the summary file.
        metrics: Names of rows of `METRICS`.
        metric: The one that is compared where one is.
        by_target: Whether each structure gets scores of its own.
        reads: Settings of ``evaluate`` that its scores depend on.
        sees: The setting of ``finetune`` that says what the network sees at once.
        learns: Dotted path of its `Learning`.
        asks: Settings of ``predict`` that are of its networks alone.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    noun: str
    maker: ClassVar[str]
    wanted: str
    summary: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    by_target: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("split", "level")
    sees: ClassVar[str] = ""
    learns: ClassVar[str] = ""
    asks: ClassVar[tuple[str, ...]] = ()

    def as_in(self, card: Card) -> dict[str, Any]:
        """Return the settings of ``finetune`` that follow an encoder's run; None where it says nothing."""
        return {self.sees: card.points if card.window is None else card.window}

    def load(self, run: Path) -> Any:
        """Return the trained method of a run, its ``network`` among others, in evaluation mode on the CPU.

        Raises:
            CheckpointError: Card or weights are missing or damaged, or do not fit each other.
        """
        raise NotImplementedError(f"nothing says how runs of {self.name} are read")

    def predictor(self, runs: Sequence[Path], settings: Any, device: Any) -> Predictor[Any, Any]:
        """Return what predicts new items.

        Args:
            runs: One, or several whose probabilities are averaged.
            settings: Of ``predict``.
            device: Where it computes.

        Raises:
            ConfigError: The runs do not go together, or a setting does not fit them.
        """
        raise NotImplementedError(f"nothing says how {self.name} predicts new items")

    def learning(self, domain: Any, settings: Any, store: Any) -> Learning:
        """Return a fine-tuning run of this task.

        It takes, and raises, what `Learning` says.
        """
        found: Learning = pkgutil.resolve_name(self.learns)(self, domain, settings, store)
        return found

    @abstractmethod
    def labels(self, store: Any, recipe: Any, *, group: str = "") -> Labels:
        """Return which items of a store can be learned from.

        Args:
            store: Of the task's domain.
            recipe: Settings of ``finetune``.
            group: What stands before their keys, for errors.
        """

    @abstractmethod
    def claims(self, run: Path) -> bool:
        """Tell whether a folder holds predictions of this task."""

    @abstractmethod
    def test_set(self, data: Path, settings: Any, runs: Sequence[Path] = ()) -> Any:
        """Return what predictions are compared with.

        Args:
            data: The store, or whatever holds the truth.
            settings: Settings of ``evaluate``.
            runs: The runs that will be scored, where they are there already.

        Raises:
            DataError: There is nothing to compare with.
        """

    @abstractmethod
    def described(self, test: Any, run: Path) -> str:
        """Return what of a run is scored, in words: "8 cases, 2 structures"."""

    @abstractmethod
    def score(self, run: Path, test: Any, progress: Callable[[str], None] = silent) -> RunScores:
        """Score the predictions of a run.

        Args:
            run: Its folder.
            test: Of `test_set`.
            progress: Told of each case that is finished.

        Raises:
            DataError: They cannot be read, or nothing could be scored.
        """

    def items(self, test: Any) -> int:
        """Return how many items of a run `score` tells of; 0 where that is not known before."""
        return 0

    def compared(self, settings: Any) -> tuple[str, ...]:
        """Return the metrics by which runs are compared."""
        return (self.metric,)

    def doubts(self, test: Any, train: Any = None) -> list[str]:
        """Return what is doubtful about scoring this; with ``train``, about learning it from these items."""
        return []

    def lines(self, test: Any, scored: Mapping[str, RunScores]) -> list[tuple[str, bool]]:
        """Return what is said after the scores, and whether each is a warning."""
        return []

    def definitions(self, unit: str) -> dict[str, str]:
        """Return what words beside the metrics mean, where ``unit`` is what intervals are over."""
        return {}

    def target(self, run: Path) -> dict[str, Any]:
        """Return what a run learned to tell, for a summary file; nothing where the rows' targets say it."""
        return {}

    def content(self, test: Any, scored: Mapping[str, RunScores]) -> dict[str, Any]:
        """Return what a summary file says that is of no single run."""
        return {}

    def pictures(self, test: Any, scored: Mapping[str, RunScores], runs: Mapping[str, Path], out: Path) -> list[Path]:
        """Draw examples; return the files."""
        return []

    @abstractmethod
    def key(self, of: Basis) -> list[Any]:
        """Return what the scores of a few-label run depend on, as JSON can hold it."""
