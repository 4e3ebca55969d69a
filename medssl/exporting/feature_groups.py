"""Groups of scans by their features, for pretraining whose batches follow groups.

References:
    Chakraborty, Gosthipaty, Paul, "G-SimCLR", ICDMW 2020, arXiv:2009.12007 (as many clusters as a batch has items);
    Zhang, Ye, et al., "Learning the unlearned: mitigating feature suppression in contrastive learning" (MCL), ECCV
    2024, arXiv:2402.11816 (clusters within those of the stages before).

Differs from MCL's code: k-means over all vectors with ten starts, where theirs draws batches of a million; the code of
a scan names its clusters of all stages, where theirs reads those of the last stage each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, DataError

__all__ = ["feature_groups"]


def feature_groups(
    ids: Sequence[str],
    vectors: npt.NDArray[np.float32],
    count: int,
    *,
    within: Mapping[str, str] | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """Return the group of each scan: its k-means cluster among vectors of length 1, named "c3".

    Args:
        ids: Of the scans.
        vectors: Their features, (scans, D).
        count: Clusters.
        within: Groups of an earlier stage by id: the name becomes "EARLIER-c3", so that scans share a group where they
            share the clusters of all stages.
        seed: Of the first centres.

    Raises:
        ConfigError: There are fewer scans than clusters.
        DataError: A scan has no earlier group, or a vector is not finite.
    """
    if len(ids) < count:
        raise ConfigError(f"groups={count}: there are {len(ids)} scans with features. Take fewer groups.")
    bare = [name for name in ids if within is not None and name not in within]
    if bare:
        raise DataError(f"{len(bare)} of {len(ids)} scans have no group in groups_within, such as {bare[0]!r}.")
    lost = [name for name, row in zip(ids, vectors, strict=True) if not np.isfinite(row).all()]
    if lost:
        raise DataError(f"{len(lost)} scans have features that are not finite, such as {lost[0]!r}; see medssl report.")
    from sklearn.cluster import KMeans

    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = vectors / np.maximum(length, 1e-12)
    found = KMeans(n_clusters=count, n_init=10, random_state=seed, max_iter=100, tol=1e-5).fit_predict(unit)
    order = {int(cluster): number for number, cluster in enumerate(dict.fromkeys(found.tolist()))}  # as they come
    return {
        name: f"{within[name]}-c{order[int(cluster)]}" if within is not None else f"c{order[int(cluster)]}"
        for name, cluster in zip(ids, found, strict=True)
    }
