"""Embeddings by direction alone, as cosine similarities and normalised probes take them.

Embeddings of an encoder share a large constant: without training, two scans have a cosine of .99, and what tells them
apart is a small angle beside it. The mean of the training part is therefore taken off before rows are scaled to length
1. Where classes are balanced this changes little for trained encoders and much for constant ones; a probe that left it
in would call the features of a random initialization worse than they are, and gains by training larger.

Reference:
    Wang, Chao, Weinberger, van der Maaten, "SimpleShot: Revisiting nearest-neighbor classification for few-shot
    learning", 2019, arXiv:1911.04623 (centring, then length 1).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["directions"]

Embeddings = npt.NDArray[np.floating]


def directions(train_ND: Embeddings, *others: Embeddings) -> list[npt.NDArray[np.float64]]:
    """Return the training part and others without the training part's mean, each row of length 1 (or 0).

    Args:
        train_ND: Embeddings whose mean is taken off. No class is looked at.
        others: More embeddings, (M, D) each.

    Example:
        >>> shifted = np.array([[101.0, 100.0], [99.0, 100.0]])
        >>> [part.tolist() for part in directions(shifted, np.array([[100.0, 103.0]]))]
        [[[1.0, 0.0], [-1.0, 0.0]], [[0.0, 1.0]]]
    """
    mean = train_ND.mean(axis=0, dtype=np.float64)
    found = []
    for values in (train_ND, *others):
        centred = values - mean
        found.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))
    return found
