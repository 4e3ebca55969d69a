"""Stored numbers to values: slope and intercept, without floating point where whole numbers suffice."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["apply_rescale", "is_identity", "rescaled_dtype"]

Rescale = tuple[float, float]


def is_identity(slope: float, intercept: float) -> bool:
    """Tell whether a slope and an intercept change nothing.

    Example:
        >>> is_identity(1.0, 0.0), is_identity(1.0, -1024.0)
        (True, False)
    """
    return slope == 1.0 and intercept == 0.0


def rescaled_dtype(
    stored: npt.DTypeLike, rescales: Iterable[Rescale], *, bits: int | None = None
) -> np.dtype[np.generic]:
    """Return the type that holds stored values after rescaling.

    Whole slopes and intercepts keep integers integer (so that HU stay exact): the smallest of int16 and int32, or the
    stored type itself where nothing changes. Anything else gives float32, or float64 where that is stored.

    Args:
        stored: Type of the stored values.
        rescales: (slope, intercept) of every part of the scan.
        bits: How many bits of an integer type are used; all of them by default.

    Example:
        >>> rescaled_dtype("uint16", [(1.0, -1024.0)], bits=12)
        dtype('int16')
    """
    dtype = np.dtype(stored).newbyteorder("=")
    pairs = set(rescales)
    if all(is_identity(*pair) for pair in pairs):
        return dtype
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    if dtype.kind not in "iu":
        return np.dtype(np.float64) if dtype.itemsize > 4 else np.dtype(np.float32)
    if not all(float(slope).is_integer() and float(intercept).is_integer() for slope, intercept in pairs):
        return np.dtype(np.float32)
    bits = dtype.itemsize * 8 if bits is None else bits
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.kind == "i" else (0, 2**bits - 1)
    ends = [slope * end + intercept for slope, intercept in pairs for end in (low, high)]
    for candidate in (np.int16, np.int32):
        info = np.iinfo(candidate)
        if info.min <= min(ends) and max(ends) <= info.max:
            return np.dtype(candidate)
    return np.dtype(np.float64)


def apply_rescale(
    stored: npt.NDArray[np.generic], slope: float, intercept: float, dtype: np.dtype[np.generic]
) -> npt.NDArray[np.generic]:
    """Return ``stored * slope + intercept`` as ``dtype``.

    Args:
        stored: Values as they lie in the file.
        slope: Factor.
        intercept: Summand.
        dtype: What ``rescaled_dtype`` chose.
    """
    if is_identity(slope, intercept):
        return stored.astype(dtype, copy=False)
    if dtype.kind == "i":
        values = stored.astype(np.int64 if dtype.itemsize > 2 else np.int32)
        return (values * int(slope) + int(intercept)).astype(dtype)
    # float64 in between: a float32 product of 16-bit values and a slope would differ in the last digit from
    # what other readers give.
    return (stored.astype(np.float64) * slope + intercept).astype(dtype)
