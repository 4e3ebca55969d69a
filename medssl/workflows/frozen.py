"""The frozen encoders of a protocol: pretraining runs of one architecture, and random ones of the same shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from medssl.domains.domain import Domain, domain_of
from medssl.engine.card import Card, load_card
from medssl.engine.initialization import random_initialization
from medssl.errors import ConfigError
from medssl.workflows.arms import arms_of, check_same

__all__ = ["RANDOM", "Frozen", "Source", "frozen_of"]

RANDOM = "random"


@dataclass(frozen=True)
class Source:
    """One encoder.

    Attributes:
        arm: Name of its arm: the run's, or "random-seedN".
        run: Its folder; None for a random one.
        card: How its input comes.
        seed: Of a random one's weights.
    """

    arm: str
    run: Path | None
    card: Card
    seed: int = 0

    def joined(self, word: str) -> str:
        """Return the arm's name with a word: that of METHOD-seedN stays a run of METHOD-WORD.

        Example:
            >>> Source("voco-seed1", None, None).joined("joined")
            'voco-joined-seed1'
        """
        method, seed, number = self.arm.partition("-seed")
        return f"{method}-{word}{seed}{number}"


@dataclass(frozen=True)
class Frozen:
    """What a protocol reads.

    Attributes:
        domain: Of the store.
        store: All items.
        runs: The pretraining runs.
        sources: The encoders of the runs, then the random ones.
    """

    domain: Domain
    store: Any
    runs: tuple[Path, ...]
    sources: tuple[Source, ...]

    @property
    def card(self) -> Card:
        """The card of the first run, whose architecture all share."""
        return self.sources[0].card

    @property
    def pretrained(self) -> list[str]:
        """The arms of the runs."""
        return [source.arm for source in self.sources if source.run is not None]

    def encoder(self, source: Source) -> nn.Module:
        """Return an encoder in evaluation mode, on the GPU where there is one."""
        import torch

        with random_initialization(source.seed):
            found = (
                self.domain.encoder(source.run) if source.run is not None else self.domain.fresh_encoder(source.card)
            )
        return found.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def frozen_of(
    runs: Sequence[Path],
    data: Path,
    *,
    random: int,
    windows: bool,
    protocol: str,
    taken: Sequence[str] = (),
    joined: Sequence[str] = (),
) -> Frozen:
    """Open a store and the encoders that are read on it.

    Args:
        runs: Pretraining runs; "random" and "random-N" that are no folders are left out, for they are always there.
        data: The store.
        random: How many random encoders are added.
        windows: Whether the runs' windows must be equal too.
        protocol: Its name, for errors.
        taken: Names of arms that a run must not have.
        joined: Words that arms join to the name of a run, which no other run may have as its own.

    Raises:
        ConfigError: The runs differ in architecture, or in kind from the store; or one bears another arm's name.
        CheckpointError: A run has no finished encoder.
    """
    runs = [run for run in runs if run.is_dir() or not re.fullmatch(rf"{RANDOM}(-\d+)?", run.name)]
    if not runs:
        raise ConfigError(f"A {protocol} needs a pretraining run; random encoders are compared with it by themselves.")
    card = load_card(runs[0])
    domain = domain_of(data, card)
    for run in runs:
        domain.check_kind(load_card(run), data, run)
    check_same(runs, windows=windows)
    arms = list(arms_of(runs, RANDOM))[1:]
    derived = [f"{arm.partition('-seed')[0]}-{word}" for arm in (RANDOM, *arms) for word in joined]
    for plain in (RANDOM, *taken, *derived):
        if any(re.fullmatch(rf"{re.escape(plain)}(-seed\d+)?", arm) for arm in arms):
            raise ConfigError(f"A run is called '{plain}', as what it is compared with is. Rename its folder.")
    store = domain.open(data)
    for run in runs:
        domain.check_inputs(load_card(run), store, run)
    sources = [Source(arm, run, load_card(run)) for arm, run in zip(arms, runs, strict=True)]
    sources += [Source(f"{RANDOM}-seed{seed}", None, card, seed) for seed in range(random)]
    return Frozen(domain, store, tuple(runs), tuple(sources))
