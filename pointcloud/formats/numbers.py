"""Words of text files to numbers: no more than a file of points may hold, and never wrapped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["are_numbers", "as_type", "reals"]


def reals(words: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return words as float64 (N,).

    Python's own rules are wider than those of any format: ``1_000`` and digits of other scripts are refused.

    Raises:
        ValueError: A word is no number.
    """
    joined = "".join(words)
    if "_" in joined or not joined.isascii():
        raise ValueError(next(word for word in words if "_" in word or not word.isascii()))
    return np.array(words, dtype=np.float64)


def are_numbers(words: Sequence[str]) -> bool:
    """Tell whether every word is a number."""
    try:
        reals(words)
    except ValueError:
        return False
    return True


def as_type(values: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.generic]:
    """Return numbers in the type that the file promises for them.

    Args:
        values: The numbers.
        kind: A numpy type such as "u1"; of at most 32 bits where it is whole.

    Raises:
        ValueError: The type cannot hold one of them.
    """
    if np.dtype(kind).kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(kind)
    limits = np.iinfo(kind)
    fits = (values == np.floor(values)) & (values >= limits.min) & (values <= limits.max)  # NaN fits nowhere
    if not fits.all():
        raise ValueError(f"{values[~fits][0]:.17g} does not fit")
    return values.astype(kind)
