"""Slopes and intercepts: integers stay integers where whole numbers suffice."""

import numpy as np
import pytest

from medssl.formats.rescale import apply_rescale, rescaled_dtype


@pytest.mark.parametrize(
    ("stored", "pairs", "bits", "expected"),
    [
        ("int16", [(1, 0)], None, "int16"),
        (">i2", [(1, 0)], None, "int16"),
        ("uint16", [(1, -1024)], 12, "int16"),
        ("uint16", [(1, -1024)], None, "int32"),
        ("uint16", [(1, -1024), (1, 0)], 12, "int16"),
        ("uint16", [(1, -1024), (1.5, 0)], 12, "float32"),
        ("int32", [(2, 0)], None, "float64"),
        ("uint8", [(-1, 255)], None, "int16"),
        ("float64", [(2, 0)], None, "float64"),
        ("bool", [(2, 0)], None, "int16"),
    ],
)
def test_types(stored: str, pairs: list, bits: int | None, expected: str) -> None:
    assert rescaled_dtype(stored, pairs, bits=bits) == np.dtype(expected)


@pytest.mark.parametrize("stored", ["int8", "uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (1.0, -1024.0), (3.0, 7.0), (-2.0, 5.0)])
def test_the_extremes_are_exact(stored: str, slope: float, intercept: float) -> None:
    info = np.iinfo(stored)
    values = np.array([info.min, -1 if info.min else 1, 0, info.max], dtype=stored)
    result = apply_rescale(values, slope, intercept, rescaled_dtype(stored, [(slope, intercept)]))
    assert [int(v) for v in result] == [int(v) * int(slope) + int(intercept) for v in values]
