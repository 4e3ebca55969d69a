"""Writing a cloud as a binary PLY, with whatever else is known of each point."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.writing import atomic_write

__all__ = ["write_ply"]

_TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int", "i2": "short", "u2": "ushort", "u4": "uint"}


def write_ply(path: Path, positions: npt.NDArray[np.floating], columns: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Write points, beside their place first and then renamed.

    Args:
        path: Ends in .ply.
        positions: (N, 3); NaN where a file marks a missing return.
        columns: Name of a property -> one number a point, (N,).

    Raises:
        ValueError: A column is of another length, of a type that PLY has not, or of a name of several words.
    """
    parts = {**{axis: positions[:, place] for place, axis in enumerate("xyz")}, **columns}
    layout = []
    for name, values in parts.items():
        kind = values.dtype.str[1:]
        if len(values) != len(positions) or kind not in _TYPES or not name or any(c.isspace() for c in name):
            raise ValueError(
                f"Column '{name}' holds {len(values)} values of {values.dtype} for {len(positions)} points."
            )
        layout.append((name, f"<{kind}"))
    rows = np.empty(len(positions), dtype=layout)
    for name, values in parts.items():
        rows[name] = values
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [f"property {_TYPES[kind[1:]]} {name}" for name, kind in layout]
    with atomic_write(path, suffix=".ply") as aside:
        aside.write_bytes("\n".join([*lines, "end_header", ""]).encode("ascii") + rows.tobytes())
