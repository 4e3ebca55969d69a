"""The order of one epoch where items have groups: batches of one item a group, or of one group alone.

References:
    Chakraborty, Gosthipaty, Paul, "G-SimCLR: self-supervised contrastive learning with guided projection via pseudo
    labelling", ICDMW 2020, arXiv:2009.12007 (a batch holds one item of each cluster);
    Zhang, Ye, et al., "Learning the unlearned: mitigating feature suppression in contrastive learning" (MCL), ECCV
    2024, arXiv:2402.11816 (a batch is of one cluster).

Differs from G-SimCLR's code: items of a group are permuted in each epoch, where its order is made once; and groups keep
their turn, so that a batch that reaches from one round into the next holds none twice while enough groups have items.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Numbers", "batches_without_repeats", "in_batches_of_one_group", "one_of_each_group"]

Numbers = npt.NDArray[np.int64]


def one_of_each_group(permutation: Numbers, groups: Numbers, turns: Numbers) -> Numbers:
    """Return a permutation in rounds: first one item of each group, then a second one of those that have it, and on.

    Args:
        permutation: Items, in the order in which those of a group follow each other.
        groups: Group of each item, from 0 on.
        turns: Groups in the order of a round.

    Example:
        >>> groups = np.array([0, 0, 1, 1, 2])
        >>> one_of_each_group(np.arange(5), groups, np.arange(3)).tolist()
        [0, 2, 4, 1, 3]
    """
    turn = np.empty_like(turns)
    turn[turns] = np.arange(len(turns))
    own = groups[permutation]
    rounds = np.empty_like(own)
    for group in np.unique(own):
        places = np.flatnonzero(own == group)
        rounds[places] = np.arange(len(places))
    found: Numbers = permutation[np.lexsort((turn[own], rounds))]
    return found


def in_batches_of_one_group(permutation: Numbers, groups: Numbers, turns: Numbers, batch: int) -> Numbers:
    """Return the items in whole batches of one group each, a batch of each group in turn.

    What is left of a group beyond whole batches is in no batch of this epoch.

    Args:
        permutation: Items, in the order in which those of a group follow each other.
        groups: Group of each item, from 0 on.
        turns: Groups in the order of a round.
        batch: Items of a batch.

    Example:
        >>> in_batches_of_one_group(np.arange(8), np.array([0] * 5 + [1] * 3), np.arange(2), 2).tolist()
        [0, 1, 5, 6, 2, 3]
    """
    own = groups[permutation]
    members = {int(group): permutation[own == group] for group in turns}
    whole = {group: len(items) // batch for group, items in members.items()}
    parts = [
        members[int(group)][number * batch : (number + 1) * batch]
        for number in range(max(whole.values(), default=0))
        for group in turns
        if number < whole[int(group)]
    ]
    return np.concatenate(parts) if parts else permutation[:0]


def batches_without_repeats(order: Numbers, groups: Numbers, batch: int) -> float:
    """Return the share of the whole batches of an order in which no group comes twice."""
    rows = groups[order[: len(order) // batch * batch]].reshape(-1, batch)
    if not len(rows):
        return 0.0
    return float(np.mean([len(np.unique(row)) == batch for row in rows]))
