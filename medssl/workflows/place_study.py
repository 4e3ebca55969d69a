"""What protocols that read frozen features place by place share: one way in, one way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.domains.dense import Dense
from medssl.errors import ConfigError
from medssl.evaluation.score_table import ScoreTable
from medssl.reporting.prose import counted
from medssl.workflows import events
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.arms import report_command, same_command
from medssl.workflows.evaluate_settings import EvaluateSettings, LookSettings
from medssl.workflows.frozen import RANDOM, Frozen, frozen_of
from medssl.workflows.labelled import train_and_test
from medssl.workflows.places_shown import Shown, shown_of
from medssl.workflows.score_files import Scored

__all__ = ["Found", "PlaceProtocol", "Study"]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a protocol works on.

    Attributes:
        frozen: The encoders, and the kind of data.
        dense: How items are looked at.
        own: Settings of the protocol.
        train: Items with known places that may be asked from or fitted on.
        test: Items with known places that are tested.
        shown: Which structures each item of both shows.
    """

    frozen: Frozen
    dense: Dense
    own: Any
    train: Any
    test: Any
    shown: Shown

    @property
    def noun(self) -> str:
        """What an item is called."""
        return self.frozen.domain.noun

    @property
    def owner(self) -> str:
        """Whose labels are drawn."""
        return self.frozen.domain.owner


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a protocol found.

    Attributes:
        table: The scores.
        metric: The metric that is compared.
        overlap: For each number of labels the share that two draws have in common.
        pairs: What was changed, as a noun, by (arm, baseline).
        arms: What the arms are, in words.
        content: What the summary says beside that.
    """

    table: ScoreTable
    metric: str
    overlap: Mapping[int, float]
    pairs: Mapping[tuple[str, str], str]
    arms: Mapping[str, str]
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlaceProtocol:
    """A protocol that reads places off frozen encoders.

    Attributes:
        name: Its name in `PROTOCOLS`.
        kind: What is learned or looked for, as the summary says it.
        metrics: Those that are measured.
        against: What the baselines are, in words.
        joined: The words that its arms join to an encoder's name.
        taken: Arms that no run may be called as.
        whole: Whether what is measured is of whole items, so that random windows of them would measure something else.
        plan: Returns what will be done, in words, and what doing it needs; it may refuse.
        work: Does it.
    """

    name: str
    kind: str
    metrics: tuple[str, ...]
    against: str
    joined: tuple[str, ...]
    taken: tuple[str, ...]
    plan: Callable[[Study], tuple[str, Any]]
    work: Callable[[Study, Any], Found]
    whole: bool = False

    def __call__(
        self, runs: Sequence[Path], *, data: Path, out: Path, settings: EvaluateSettings, dry_run: bool = False
    ) -> Scored:
        """Read places off the frozen encoders of runs, of random encoders, and off what needs no network.

        Args:
            runs: Pretraining runs of one architecture; METHOD-seed0, METHOD-seed1, ... are taken together.
            data: A store with label maps, or of clouds with labels of their points, split into train and test.
            out: Folder of the comparison: scores.parquet, NAME.json, NAME.csv, NAME.png.
            settings: Settings of the verb.
            dry_run: Only say what would be done.

        Raises:
            ConfigError: A setting is wrong, or the runs differ in architecture or bear an arm's name.
            CheckpointError: A run has no finished encoder.
            DataError: The store lacks labels, structures, a test split or enough patients.
        """
        group, split = self.name.replace("-", "_"), settings.split or "test"
        study = self._opened(runs, data, getattr(settings, group), split)
        frozen, dense, test = study.frozen, study.dense, study.test
        doing, needed = self.plan(study)
        events.message(
            f"{', '.join(dense.names.values())}; {dense.seen}; frozen encoders of {', '.join(frozen.pretrained)} and "
            f"{study.own.random} random ones; {doing}; {counted(len(test.entries), f'test {study.noun}')}"
        )
        for line in study.shown.lines(split):
            events.warning(line)
        if dry_run:
            return events.written(Scored(next=same_command(frozen.runs, data, out, settings, self.name)))
        found = self.work(study, needed)
        return write_arms(
            found.table,
            out,
            name=group,
            kind=self.kind,
            baseline=RANDOM,
            against=self.against,
            metric=found.metric,
            metrics=self.metrics if found.metric in self.metrics else (found.metric,),
            level=settings.level,
            unit=study.owner,
            overlap=found.overlap,
            pairs=found.pairs,
            content={
                "split": split,
                "seen": dense.seen,
                "arms": found.arms,
                "settings": study.own.model_dump(mode="json"),
                **found.content,
            },
            then=report_command(frozen.runs, out),
        )

    def _opened(self, runs: Sequence[Path], data: Path, own: LookSettings, split: str) -> Study:
        frozen = frozen_of(
            runs,
            data,
            random=own.random,
            windows=own.window is None and own.points is None,
            protocol=self.name,
            taken=self.taken,
            joined=self.joined,
        )
        domain, dense = frozen.domain, frozen.domain.dense(frozen.store, own, frozen.card)
        if self.whole and dense.partial:
            raise ConfigError(
                f"{self.name.replace('-', '_')}.windows=random shows parts of each {domain.noun}, and {self.name} "
                "measures whole structures. Leave it at 'whole'."
            )
        train, test = train_and_test(
            frozen.store, dense.class_of, split=split, protocol=self.name, wanted=f"{domain.noun}s with labels"
        )
        shown = shown_of(dense, train, test, noun=domain.noun)
        train, test = (part.subset([e.id for e in part.entries if shown.known(e.id)]) for part in (train, test))
        return Study(frozen=frozen, dense=dense, own=own, train=train, test=test, shown=shown)
