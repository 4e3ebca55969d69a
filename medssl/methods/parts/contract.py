"""What every part of a contrast is to the core, and the core with the parts that were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medssl.gathering import gathered, processes
from medssl.methods.parts.table import PARTS
from medssl.methods.settings.parts import PairParts
from medssl.objectives.infonce import PairSet, info_nce, score_statistics
from medssl.randomness import Stream, numpy_generator

__all__ = ["Anchors", "Contrast", "Part", "seed_of", "seeds"]

_SEEDS = 11  # a counter that keeps these draws apart from all others


@dataclass(frozen=True)
class Anchors:
    """What is known of the anchors of a `PairSet`, A of them, on all processes alike.

    Attributes:
        item: Number of each one's item, the same in every epoch, int64, (A,).
        seed: Of the draws of this pass.
        progress: Share of the run that is done.
        same_view: Whether a negative is of the anchor's own view, bool, (A, N); None where views are of several
            networks.
    """

    item: Tensor
    seed: int
    progress: float = 0.0
    same_view: Tensor | None = None


def seeds(stream: Stream) -> Tensor:
    """Return a seed for each item of a batch, int64, (B,), on the host: views carry them to their contrast.

    The stream is none the wiser: what is drawn from it afterwards is the same with parts and without.
    """
    own = [numpy_generator(stream.seed, stream.step, slot, _SEEDS).integers(1 << 62) for slot in stream.slots]
    return torch.tensor(own, dtype=torch.int64)


def seed_of(seeds_B: Tensor | None, device: torch.device, *, block: int = 1) -> int:
    """Return the seed of the batch's first item, the same in every process; 0 where no views carry one.

    With one process the device is not waited for.
    """
    if seeds_B is None:
        return 0
    return int(seeds_B[0] if processes() == 1 else gathered(seeds_B.to(device), block=block)[0])


class Part(nn.Module):
    """One part; what it does not do it leaves as it is. State lies in buffers and moves in ``after_step`` alone.

    A part computes of the pairs of the whole batch, on every process, so that it needs to know nothing of ranks.
    """

    def begin(self, items: int) -> None:
        """Make the state of ``items`` items; see `Method.begin`."""

    def change(self, pairs: PairSet, anchors: Anchors, draws: np.random.Generator) -> PairSet:
        """Return the pairs that are compared: with other positives, negatives or weights."""
        return pairs

    def losses(self, pairs: PairSet, anchors: Anchors, temperature: float) -> Tensor | None:
        """Return each anchor's loss, float32, (A,), in place of InfoNCE; None to leave that."""
        return None

    def after_step(self) -> None:
        """Keep what the step led to."""

    def signals(self) -> dict[str, Tensor]:
        """Return what is worth watching of its state, detached scalars."""
        return {}


class Contrast(nn.Module):
    """InfoNCE with parts, and what is watched of it.

    Args:
        parts: Which parts, with their settings; that they go together was seen when the settings were made.
        temperature: Of the contrast.
        positive_in_denominator: As of `info_nce`.
    """

    def __init__(self, parts: PairParts, *, temperature: float, positive_in_denominator: bool = True) -> None:
        super().__init__()
        self.temperature, self.positive_in_denominator = temperature, positive_in_denominator
        chosen = {name: settings for name, settings in parts.chosen().items() if PARTS[name].slot != "head"}
        self.parts = nn.ModuleDict({name: PARTS.load(name)(settings) for name, settings in chosen.items()})

    def begin(self, items: int) -> None:
        """Let every part make what each item has."""
        for part in self._parts().values():
            part.begin(items)

    def after_step(self) -> None:
        """Let every part keep what the step led to."""
        for part in self._parts().values():
            part.after_step()

    def forward(
        self,
        sets: Sequence[PairSet],
        anchors: Anchors,
        *,
        positive_weight: Tensor | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the losses (A,) of the anchors of each set, and the statistics of the first set's scores.

        Args:
            sets: Pairs of the whole batch, all of anchors of the same items.
            anchors: What is known of them.
            positive_weight: As of `info_nce`.
        """
        draws = numpy_generator(anchors.seed)
        losses = []
        for pairs in sets:
            for part in self._parts().values():
                pairs = part.change(pairs, anchors, draws)
            found = [
                own
                for part in self._parts().values()
                if (own := part.losses(pairs, anchors, self.temperature)) is not None
            ]
            losses += found or [
                info_nce(
                    pairs,
                    temperature=self.temperature,
                    positive_in_denominator=self.positive_in_denominator,
                    positive_weight=positive_weight,
                )
            ]
        signals = score_statistics(sets[0], temperature=self.temperature)
        for part in self._parts().values():
            signals |= part.signals()
        return losses, signals

    def _parts(self) -> Mapping[str, Part]:
        return {name: part for name, part in self.parts.items() if isinstance(part, Part)}
