"""Colours of points to bytes: the range is decided once for a whole array, and nothing ever wraps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError, FormatError

__all__ = ["bytes_of_colours"]

_OVER = 0.01  # of the range: what rounding and interpolation may put beyond its ends; clipped
_DARK = 4.0  # reals that reach less than this of 255 are nearly black: the range is then a guess


def bytes_of_colours(
    values: npt.NDArray[np.generic], path: Path | None = None
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return colours as bytes, and what a person should know of them.

    The largest value of all decides the range: reals of up to 1 run from 0 to 1; other numbers of up to 255 run from 0
    to 255, and those of up to 65535 from 0 to 65535. Up to a hundredth beyond either end is rounding and is clipped.
    Colours that are NaN or infinite become black and are counted.

    Args:
        values: Real numbers of any shape. All colours of a file belong in one call, since they share one range.
        path: The file, for messages.

    Raises:
        FormatError: A value lies outside of 0 to 65535; ``DataError`` where there is no path.
    """
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8), ()
    reals = values.astype(np.float64)
    noticed: tuple[str, ...] = ()
    known = np.isfinite(reals)
    if not known.all():
        lost = int((~known.all(axis=-1)).sum())
        noticed = (f"{lost} points have colours that are NaN or infinite; they are black.",)
        reals = np.where(known, reals, 0.0)
    low, high = float(reals.min()), float(reals.max())
    real = values.dtype.kind == "f"
    top = next((top for top in (1.0, 255.0, 65535.0) if high <= top * (1 + _OVER * real) and (real or top > 1)), None)
    if top is None or low < -_OVER * top * real:
        reason = f"The colours reach from {low:.4g} to {high:.4g}; allowed are 0 to 65535."
        raise FormatError(path, reason) if path is not None else DataError(reason)
    if real and top == 255.0 and high < _DARK and not (reals == np.floor(reals)).all():
        noticed = (*noticed, f"The colours reach {high:.4g} at most and are taken to run from 0 to 255: nearly black.")
    scaled = np.clip(reals / top, 0.0, 1.0) * 255.0
    return np.round(scaled).astype(np.uint8), noticed
