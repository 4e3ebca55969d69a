"""LZF, the compression of PCD files: decompression that never reads or writes beyond its bounds."""

from __future__ import annotations

__all__ = ["decompress"]

_LITERAL = 32  # control bytes below it copy what follows them; others copy what was written before
_MOST = 264 / 3  # a copy of up to 264 bytes takes three


def decompress(raw: bytes, size: int) -> bytes:
    """Return the ``size`` bytes that were compressed to ``raw`` (Marc Lehmann's LibLZF, as PCL writes it).

    Raises:
        ValueError: ``raw`` is no LZF, or gives more or fewer bytes than ``size``.
    """
    if size > len(raw) * _MOST:
        raise ValueError(f"{len(raw)} bytes cannot hold {size}")
    out = bytearray()
    at, end = 0, len(raw)
    try:
        while at < end:
            control = raw[at]
            at += 1
            if control < _LITERAL:
                stop = at + control + 1
                if stop > end:
                    raise ValueError("it ends within a run")
                out += raw[at:stop]
                at = stop
                continue
            length = control >> 5
            if length == 7:
                length += raw[at]
                at += 1
            start = len(out) - ((control & 31) << 8) - raw[at] - 1
            at += 1
            if start < 0:
                raise ValueError("it refers to what lies before its beginning")
            length += 2
            behind = len(out) - start
            if length <= behind:
                out += out[start : start + length]
            else:  # a pattern that repeats itself
                out += (out[start:] * (length // behind + 1))[:length]
            if len(out) > size:
                break
    except IndexError:
        raise ValueError("it ends within a copy") from None
    if len(out) != size:
        raise ValueError(f"it gives {'more than' if len(out) > size else len(out)} of {size} bytes")
    return bytes(out)
