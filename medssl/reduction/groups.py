"""Groups of scans around the one that stands for them: each marked scan lies within the radius of a kept one.

Chaining (single linkage) would join a with c because b lies between, and then drop c for a scan that it does not
resemble. Here a scan is dropped only for a kept scan that it was compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError
from medssl.reduction.neighbours import Pairs

__all__ = ["Groups", "lead"]


@dataclass(frozen=True)
class Groups:
    """Who stands for whom.

    Attributes:
        ids: The ids, in the order that they were given in.
        leader: For each, the place of the one that stands for it; its own where it is kept.
        distance: For each, how far it is from its leader; 0 where it is kept.
    """

    ids: tuple[str, ...]
    leader: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]

    @property
    def kept(self) -> list[str]:
        """Ids that stand for themselves, in the order given."""
        return [name for place, name in enumerate(self.ids) if self.leader[place] == place]

    @property
    def removed(self) -> dict[str, str]:
        """Id -> the kept id that stands for it, in the order given."""
        return {
            name: self.ids[self.leader[place]] for place, name in enumerate(self.ids) if self.leader[place] != place
        }

    def members(self) -> dict[str, list[str]]:
        """Return kept id -> the ids that it stands for, sorted; only of groups of two or more."""
        found: dict[str, list[str]] = {}
        for name, leader in sorted(self.removed.items()):
            found.setdefault(leader, []).append(name)
        return dict(sorted(found.items()))


def lead(ids: Sequence[str], pairs: Pairs, *, worth: Sequence[float] | None = None) -> Groups:
    """Choose kept scans greedily, so that each other scan has a pair with a kept one and no two kept ones have a pair.

    Scans are visited from the most worth down, and by id where worth is equal, so the order in which they are listed
    changes nothing. Each one that no kept scan has a pair with is kept; each other goes to the nearest kept scan, in a
    tie to the one that was visited first. Choosing again among the kept ones keeps all of them.

    Args:
        ids: Ids, all different.
        pairs: Pairs of places in ``ids`` within the radius.
        worth: What a scan is worth keeping for, such as its voxels; all the same by default.

    Raises:
        ConfigError: Ids are repeated, or worth is not one finite number for each.
    """
    count = len(ids)
    if len(set(ids)) != count:
        raise ConfigError("Ids must differ from each other to be grouped.")
    values = np.zeros(count) if worth is None else np.asarray(worth, dtype=np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ConfigError(f"worth must be one finite number for each of the {count} ids.")
    order = sorted(range(count), key=lambda place: (-values[place], ids[place]))
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    one = np.concatenate([pairs.first, pairs.second])
    two = np.concatenate([pairs.second, pairs.first])
    apart = np.concatenate([pairs.distance, pairs.distance])
    by_place = np.argsort(one, kind="stable")
    one, two, apart = one[by_place], two[by_place], apart[by_place]
    begins = np.searchsorted(one, np.arange(count + 1))
    is_kept = np.zeros(count, dtype=bool)
    for place in order:
        is_kept[place] = not is_kept[two[begins[place] : begins[place + 1]]].any()
    leader = np.arange(count, dtype=np.int64)
    distance = np.zeros(count)
    for place in np.flatnonzero(~is_kept).tolist():
        around = slice(begins[place], begins[place + 1])
        candidates = two[around][is_kept[two[around]]]
        distances = apart[around][is_kept[two[around]]]
        best = np.lexsort((rank[candidates], distances))[0]
        leader[place], distance[place] = candidates[best], distances[best]
    return Groups(tuple(ids), leader, distance)
